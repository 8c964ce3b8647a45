"""`portrait campaign` on the fakes: printed words, exit codes, exports."""

from __future__ import annotations

import csv
import json
import shlex
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portrait.campaign import export
from portrait.campaign.export import export_run
from portrait.campaign.ledger import Ledger
from portrait.campaign.plan import read_plan
from portrait.campaign.run import run_campaign
from portrait.campaign.sizes import SIZES, crop_for, encode_size, face_box
from portrait.cli.main import main
from portrait.errors import CampaignError, SettingsError
from portrait.files import write_bytes
from portrait.images import read_picture, write_picture
from portrait.records.portrait import read_portrait
from portrait.report.page import drift_page
from tests.campaigns import database, done, local, pictures, start, write_campaign
from tests.fakes import rgb
from tests.golden_records import golden_portrait


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("portrait.cli.campaign.LocalEngine", lambda: local()(1))
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_campaign(tmp_path, people=6, max_attempts=1)


@pytest.mark.slow
def test_new_plan_run_status_retry_export_prune(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["campaign", "plan", str(plan)]) == 0
    output = capsys.readouterr().out
    assert "6 people x 2 styles x 1 variant(s) = 12 pictures" in output
    assert "nothing was measured on this machine yet" in output
    assert main(["campaign", "run", str(plan), "-o", str(run)]) == 0
    assert "12 of 12 jobs" in capsys.readouterr().out
    assert main(["campaign", "plan", str(plan), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"][0] > 0  # now it was measured
    assert main(["campaign", "status", str(run), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["accepted"] + status["rejected"] == 12
    assert sum(s["attempts"] for s in status["styles"]) == status["attempts"] == 12
    assert main(["campaign", "status", str(run)]) == 0
    assert "watercolor" in capsys.readouterr().out
    assert status["rejected"] > 0
    monkeypatch.chdir(tmp_path)
    assert main(["campaign", "retry", str(run), "--rejected"]) == 0
    assert f"{12 + status['rejected']} attempts" in capsys.readouterr().out
    with Ledger.open(run) as ledger:
        accepted = ledger.counts().accepted
    assert (
        main(["campaign", "export", str(run), "-o", str(tmp_path / "out"), "--size", "square", "--size", "round-256"])
        == 0
    )
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").read_text("utf-8-sig").splitlines()))
    assert len(rows) == 2 * accepted
    for row in rows:
        with Image.open(tmp_path / "out" / row["file"]) as image:
            assert image.size == (int(row["width"]), int(row["height"]))
            assert image.mode == ("RGBA" if row["size"] == "round-256" else "RGB")
    assert main(["campaign", "prune", str(run), "--rejected", "--embeddings"]) == 0
    assert not [name for name in pictures(run) if "rejected" in name]
    assert len(pictures(run)) == accepted
    assert main(["campaign", "run", str(plan), "-o", str(run)]) == 0  # what was pruned is not made again
    assert len(pictures(run)) == accepted


@pytest.mark.slow
def test_an_export_removes_what_it_had_written_and_no_longer_lists(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    assert main(["campaign", "run", str(plan), "-o", str(run), "--quiet"]) == 0
    assert main(["campaign", "export", str(run), "-o", str(out)]) == 0
    listed = [row["file"] for row in csv.DictReader((out / "manifest.csv").read_text("utf-8-sig").splitlines())]
    (out / "note.txt").write_text("of the client")
    manifest = (out / "manifest.csv").read_text("utf-8-sig")
    (out / "manifest.csv").write_text(manifest + manifest.splitlines()[1].replace(listed[0], "../campaign.toml") + "\n")
    with database(run) as ledger:
        ledger.execute("UPDATE jobs SET state = 'rejected' WHERE subject = ?", (listed[0].split("/")[0],))
    assert main(["campaign", "export", str(run), "-o", str(out)]) == 0
    removed = [name for name in listed if name.split("/")[0] == listed[0].split("/")[0]]
    assert f"{len(removed)} files of the previous export" in capsys.readouterr().out
    assert {str(p.relative_to(out)) for p in out.rglob("*.png")} == set(listed) - set(removed)
    assert not (out / listed[0]).parent.exists()
    assert (out / "note.txt").exists()
    assert plan.exists()  # nothing outside the folder is touched, whatever the manifest says


def test_what_an_export_that_was_killed_has_written_is_known_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, run, out = write_campaign(tmp_path, people=4, styles=("oil",)), tmp_path / "run", tmp_path / "out"
    run_campaign(read_plan(plan), run, local())
    written: list[Path] = []

    def die(path: Path, data: bytes) -> Path:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write_bytes(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(export, "write_bytes", die)
        export_run(run, out, ["square"])
    (first,) = out.rglob("*.jpg")  # the other file was the list of what is begun
    (out / "note.jpg").write_text("of the client")
    with (out / export.BEGUN).open("a") as file:
        file.write("../campaign.toml," + file.name)  # and its last line was cut short
    first.with_name(f".{first.name}.a1b2c3d4").write_text("half")
    other = tmp_path / "other"
    run_campaign(read_plan(plan), other, local())
    with pytest.raises(SettingsError, match=r"manifest\.begun\.csv is not from this run"):
        export_run(other, out)
    done = export_run(run, out)
    assert done.removed == 1
    assert not first.exists()
    assert {path.name for path in out.iterdir() if path.is_file()} == {export.MANIFEST, "note.jpg"}
    assert len(list(out.rglob("*.png"))) == done.files > 0
    assert plan.exists()


def test_a_name_that_no_file_may_have_is_shown_as_given_with_that_of_its_files_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, run, out = write_campaign(tmp_path, people=2, styles=("oil",)), tmp_path / "run", tmp_path / "out"
    (tmp_path / "table.csv").write_text('photo,subject\npeople/p00.png,Anna/Maria <b>\npeople/p01.png,"=Bo:"\n')
    plan.write_text(plan.read_text().replace('"people"', '"table.csv"'))
    assert main(["campaign", "run", str(plan), "-o", str(run), "--quiet"]) == 0
    assert {path.name for path in (run / "pictures").iterdir()} == {"Anna-Maria -b", "Bo"}
    record = read_portrait(next((run / "pictures" / "Bo").rglob("*.json")).read_text())
    assert record.campaign is not None
    assert record.campaign.subject == "=Bo:"
    with Ledger.open(run) as ledger:
        assert ledger.folders() == {"Anna/Maria <b>": "Anna-Maria -b", "=Bo:": "Bo"}
        ledger.set(alike=[["Anna/Maria <b>", "=Bo:"]])
    assert main(["campaign", "status", str(run)]) == 0
    assert "Anna/Maria <b> (files: Anna-Maria -b) and =Bo: (files: Bo) look like one" in capsys.readouterr().out
    assert main(["campaign", "export", str(run), "-o", str(out)]) == 0
    rows = list(csv.DictReader((out / "manifest.csv").read_text("utf-8-sig").splitlines()))
    assert {(row["subject"], row["file"].split("/")[0]) for row in rows} == {
        ("Anna/Maria <b>", "Anna-Maria -b"),
        ("'=Bo:", "Bo"),
    }
    assert all((out / row["file"]).is_file() for row in rows)
    page = drift_page(run)
    assert "Anna/Maria &lt;b&gt;<small>oil · files: Anna-Maria -b</small>" in page
    assert main(["campaign", "prune", str(run)]) == 0  # and nothing goes
    assert drift_page(run).count("data:image/webp") == page.count("data:image/webp")


def test_new_writes_a_plan_and_overwrites_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "new", str(tmp_path / "c.toml")]) == 0
    assert main(["campaign", "new", str(tmp_path / "c.toml")]) == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["status", "nowhere"], "is not a campaign run"),
        (["retry", "nowhere"], "--rejected, --failed or both"),
        (["run", "nowhere.toml"], "cannot read plan nowhere.toml"),
        (["run", "PLAN", "--gpus", "1"], "need --engine ray"),
        (["run", "PLAN", "--batch", "0"], "--batch 0 is below 1"),
        (["export", "nowhere", "--size", "huge"], "is not a campaign run"),
        (["run", "PLAN", "-o", "PLAN"], "cannot write to"),
        (["run", "PLAN", "-o", "locked"], "cannot write to"),
    ],
)
def test_wrong_use_is_one_line(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    (tmp_path / "locked" / "lock.sqlite").mkdir(parents=True)  # no file can be made there: so it is without permission
    names = {"PLAN": str(plan), "locked": str(tmp_path / "locked")}
    assert main(["campaign", *[names.get(a, a) for a in argv]]) in (1, 2)
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_missing_ray_is_reported_at_once(
    plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["campaign", "run", str(plan), "-o", str(tmp_path / "r"), "--engine", "ray"]) == 2
    assert 'pip install "portrait-stylizer[ray]"' in capsys.readouterr().err


@pytest.mark.slow
def test_a_changed_plan_ends_with_two(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["campaign", "run", str(plan), "-o", str(tmp_path / "run"), "--quiet"]
    assert main([*argv, "--limit", "2"]) == 1
    plan.write_text(plan.read_text() + "balance = 0.9\n")
    assert main(argv) == 2
    assert "settings balance: 0.5 -> 0.9" in capsys.readouterr().err
    assert main([*argv, "--accept-changes"]) == 0


@pytest.mark.slow
def test_ctrl_c_ends_the_batch_and_says_how_to_continue(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=12)
    process = start(plan, tmp_path / "run", pause=150)
    while done(tmp_path / "run") < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "finishing the batches in flight" in err.decode()
    assert f"To continue: portrait campaign run {plan} -o {tmp_path / 'run'}" in " ".join(out.decode().split("\n"))
    ended = done(tmp_path / "run")
    assert 3 <= ended < 24
    assert ended % 2 == 0  # whole batches of one person
    again = start(plan, tmp_path / "run", pause=0)
    assert again.wait(60) == 0
    assert done(tmp_path / "run") == 24


@pytest.mark.slow
def test_the_command_printed_after_an_interrupted_retry_continues_it(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "my run"
    assert main(["campaign", "run", str(plan), "-o", str(run), "--quiet"]) == 0
    with Ledger.open(run) as ledger:
        before = ledger.counts()
    assert before.rejected > 1
    assert main(["campaign", "retry", str(run), "--rejected", "--limit", "1"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "To continue: portrait " in line]
    assert main(shlex.split(line.partition("To continue: portrait ")[2])) == 0
    with Ledger.open(run) as ledger:
        assert ledger.counts().attempts == before.attempts + before.rejected
    assert main(["campaign", "retry", str(run), "--failed"]) == 0
    assert "nothing to try again" in capsys.readouterr().out


def test_a_run_says_where_the_reasons_of_its_failures_are(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for photo in tmp_path.rglob("*.png"):
        photo.write_text(photo.name)
    run = str(tmp_path / "run")
    assert main(["campaign", "run", str(plan), "-o", run]) == 1
    assert f"Why jobs failed: portrait campaign status {run}" in capsys.readouterr().out
    assert main(["campaign", "status", run]) == 0
    assert "p00.png is not a picture that can be read" in capsys.readouterr().out


def test_the_command_to_continue_names_the_requested_engine(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portrait.cli.campaign.RayEngine", lambda **given: local()(1))
    run = ["campaign", "run", str(plan), "-o", str(tmp_path / "run")]
    ray = ["--engine", "ray", "--address", "auto", "--gpus", "0.5"]
    assert main([*run, *ray, "--limit", "1"]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert output.endswith(f"To continue: {shlex.join(['portrait', *run, *ray])}")


# --- sizes


def test_a_picture_that_is_transparent_is_exported_so_in_every_size(tmp_path: Path) -> None:
    plan, run, out = write_campaign(tmp_path, people=3, styles=("oil",)), tmp_path / "run", tmp_path / "out"
    run_campaign(read_plan(plan), run, local())
    for name in pictures(run):
        cutout = np.full((512, 512, 4), 255, np.uint8)
        cutout[:, :256, 3] = 0
        write_picture(run / name, cutout)
    assert export_run(run, out, ["original", "square", "round-256"]).files > 0
    for file in out.rglob("*.*"):
        if file.suffix != ".csv":
            alpha = read_picture(file)[..., 3]
            assert [alpha[len(alpha) // 2, len(alpha) * part // 8] for part in (3, 5)] == [0, 255]


def test_an_export_says_how_a_missing_picture_is_made_again(tmp_path: Path) -> None:
    plan, run = write_campaign(tmp_path, people=1, styles=("oil",)), tmp_path / "run"
    run_campaign(read_plan(plan), run, local())
    (picture,) = pictures(run)
    (run / picture).unlink()
    with pytest.raises(CampaignError, match=r"oil_1\.png is missing; run the campaign again"):
        export_run(run, tmp_path / "out")
    run_campaign(read_plan(plan), run, local())
    assert export_run(run, tmp_path / "out").files == 1


@pytest.mark.parametrize("name", [name for name, size in SIZES.items() if size])
@pytest.mark.parametrize("face", [(150, 120, 360, 390), (10, 10, 120, 150), (380, 360, 510, 505)])
def test_every_size_keeps_the_face(name: str, face: tuple[float, float, float, float]) -> None:
    size = SIZES[name]
    assert size is not None
    crop = crop_for(size, 512, 512, face)
    x1, y1, x2, y2 = crop.box
    assert x1 <= face[0]
    assert y1 <= face[1]
    assert x2 >= face[2]
    assert y2 >= face[3]
    assert (x2 - x1) / (y2 - y1) == pytest.approx(size.width / size.height, rel=0.01)
    picture = rgb(np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8))
    data, suffix, _ = encode_size(picture, size, face)
    assert suffix == ("png" if size.round_mask else "jpg")
    assert len(data) > 1000


def test_a_crop_is_only_padded_where_no_crop_of_that_shape_could_hold_the_face() -> None:
    wide = SIZES["wide"]
    assert wide is not None
    assert not crop_for(wide, 512, 512, (180, 150, 330, 350)).padded
    tall = crop_for(wide, 512, 512, (100, 60, 420, 460))
    assert tall.padded
    assert not crop_for(wide, 2000, 1500, (900, 500, 1100, 760)).padded


def test_the_face_is_found_in_the_picture_and_in_the_whole_photo() -> None:
    record = json.loads(golden_portrait().to_json())
    record["input"]["face"]["bbox"] = [200, 100, 300, 220]
    record |= {"frame": "bust", "box": [100, 50, 256]}
    record["picture"]["size"] = [512, 512]
    assert face_box(read_portrait(json.dumps(record))) == (200, 100, 400, 340)
    assert face_box(read_portrait(json.dumps(record | {"frame": "full"}))) == (200, 100, 300, 220)


def test_a_gate_without_a_baseline_is_refused_and_not_green(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", str(tmp_path), "--fail-on", "drifted"]) == 2
    assert "--fail-on needs --baseline" in capsys.readouterr().err
