"""Plans, keys, the ledger and runs that are killed, on the fakes; the real parts are in test_campaign_real.py."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from portrait.campaign.engines import LocalEngine
from portrait.campaign.enter import load_recipes
from portrait.campaign.export import export_run
from portrait.campaign.keys import seed_of, shared_ingredients
from portrait.campaign.ledger import Counts, Ledger, pack_embeddings
from portrait.campaign.lock import exclusive_lock
from portrait.campaign.people import safe_name
from portrait.campaign.plan import PlannedPicture, plan_from, read_plan, template
from portrait.campaign.prune import prune_run
from portrait.campaign.rates import MeasuredRates, forecast, measured_rates, rates_file, remember
from portrait.campaign.run import Progress, run_campaign
from portrait.campaign.worker import Batch, Worker, _fingerprint_values
from portrait.errors import CampaignError, InputError, PlanChangedError, SettingsError
from portrait.images import Photo, photos_below, pixels_sha256, read_photo, write_picture
from portrait.images.decoder_process import DecoderProcess
from portrait.images.search import PassedOver, describe
from portrait.judge.gallery import Gallery
from portrait.loop.attempt_loop import AttemptLoop
from portrait.loop.types import StylizedPortrait, Subject
from portrait.recipes.load import load_recipe
from portrait.records import Knobs, RgbImage
from portrait.report.compare import compare
from portrait.report.drift import compute_report
from portrait.report.runs import read_run
from portrait.settings import Settings
from tests.campaigns import (
    STYLES,
    CountingConnection,
    Load,
    database,
    done,
    local,
    paint,
    person,
    pictures,
    start,
    write_campaign,
    write_limits,
)
from tests.fakes import DecoderHere, FakeGenerator, needs_sigstop, photo_thresholds_of, unit


def run(plan: Path, folder: Path, load: Load | None = None, **more: object) -> Counts:
    return run_campaign(read_plan(plan), folder, local(load), **more)  # type: ignore[arg-type]


# --- plans


def test_the_template_is_a_plan_and_names_every_key(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    write_picture(tmp_path / "people" / "anna.png", person(1))
    (tmp_path / "campaign.toml").write_text(template())
    plan = read_plan(tmp_path / "campaign.toml")
    assert [p.name for p in plan.people] == ["anna"]
    assert plan.settings.max_attempts == 4
    for key in ("subjects", "recipes", "styles", "variants", "sizes", "[axes]", "[settings]", "[budget]"):
        assert key in template()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"subjekts": "x"}, "unknown key 'subjekts'; did you mean subjects"),
        ({"style": "oil"}, "unknown key 'style'; did you mean styles"),
        ({"balance": 0.5}, r"unknown key 'balance'; it goes into the table \[settings\]"),
        ({"settings": {"balanc": 0.5}}, "did you mean balance"),
        ({"settings": {"balance": 2}}, "balance 2 is outside 0 to 1"),
        ({"settings": {"style": "oil"}}, "styles = "),
        ({"settings": {"max_seconds": 10}}, "depend on the speed of the machine"),
        ({"settings": {"face": "each"}}, "selects several people"),
        ({"sizes": ["sqare"]}, "did you mean square"),
        ({"budget": {"hours": -1}}, r"\[budget\] hours must be at least 0, got -1"),
        ({"variants": 0}, "variants 0 is outside 1 to 64"),
        ({"axes": {"mood": ["sad", "Sad"]}}, "different texts"),
        ({"subjects": "nowhere"}, "is neither a folder"),
    ],
)
def test_a_wrong_plan_says_what_was_probably_meant(tmp_path: Path, table: dict[str, object], says: str) -> None:
    write_picture(tmp_path / "people" / "anna.png", person(1))
    with pytest.raises(SettingsError, match=says):
        plan_from({"subjects": "people"} | table, tmp_path)


def test_people_come_from_folders_lists_and_tables(tmp_path: Path) -> None:
    for name in ("anna.png", "bo/1.png", "bo/2.png"):
        write_picture(tmp_path / "people" / name, person(1))
    plan = plan_from({"subjects": "people"}, tmp_path)
    assert [(p.name, len(p.photos)) for p in plan.people] == [("anna", 1), ("bo", 2)]
    (tmp_path / "list.txt").write_text("people/anna.png\n# nobody\n\npeople/bo/1.png\n")
    assert [p.name for p in plan_from({"subjects": "list.txt"}, tmp_path).people] == ["anna", "1"]
    assert [p.name for p in plan_from({"subjects": ["people/anna.png"]}, tmp_path).people] == ["anna"]
    (tmp_path / "table.csv").write_text(
        "Subject;Photo;department\nAnna Ö;people/anna.png;art\nBo;people/bo/1.png|people/bo/2.png;law\nBo;people/b3.png;law\n",
        "utf-8-sig",
    )
    anna, bo = plan_from({"subjects": "table.csv"}, tmp_path).people
    assert (anna.name, anna.columns) == ("Anna Ö", {"department": "art"})
    assert [p.name for p in bo.photos] == ["1.png", "2.png", "b3.png"]
    (tmp_path / "bad.csv").write_text("name,file\na,b\n")
    with pytest.raises(SettingsError, match="lacks the column photo; its columns: name, file"):
        plan_from({"subjects": "bad.csv"}, tmp_path)
    two = plan_from({"subjects": ["people/anna.png", "other/Anna.png"]}, tmp_path).people
    assert [(p.name, p.folder) for p in two] == [("anna", "anna"), ("Anna", "Anna-2")]
    twice = plan_from({"subjects": ["people/anna.png", "other/anna.png"]}, tmp_path).people
    assert [(p.name, p.folder) for p in twice] == [("anna", "anna"), ("anna-2", "anna-2")]


def test_a_name_is_kept_as_the_plan_gives_it_and_its_folder_is_one_that_file_systems_take(tmp_path: Path) -> None:
    rows = ["a.png,Anna/Maria", "b.png,Anna-Maria", "c.png,../..", 'd.png,"Bo\n\tBo"', "e.png,\u202econ", "f.png,con"]
    (tmp_path / "table.csv").write_text("photo,subject\n" + "\n".join(rows) + "\n")
    people = plan_from({"subjects": "table.csv"}, tmp_path).people
    assert [(p.name, p.folder) for p in people] == [
        ("Anna/Maria", "Anna-Maria"),
        ("Anna-Maria", "Anna-Maria-2"),
        ("../..", "unnamed"),
        ("Bo Bo", "Bo Bo"),
        ("\N{REPLACEMENT CHARACTER}con", "con-"),
        ("con", "con--2"),
    ]


def test_every_kind_of_photo_is_taken_and_the_rest_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "people"
    picture = Path(write_picture(folder / "p_png.png", person(1))).read_bytes()
    for suffix in ("jfif", "jpe", "heif", "HIF", "mpo", "bmp", "gif"):
        (folder / f"p_{suffix}.{suffix}").write_bytes(picture)
    for name in ("noext", "fay/IMG_1.HIF", "IMG.2024"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture)
    for name in ("notes.txt", "x.nef", "README", "empty/.keep", ".DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    plan = plan_from({"subjects": "people"}, tmp_path)
    assert len(plan.people) == 11
    assert {(item.path.name, item.reason) for item in plan.passed_over} == {
        ("notes.txt", ".txt is not a kind of picture that is read"),
        ("x.nef", "camera raw; export a JPEG or TIFF"),
        (
            "README",
            "no suffix, and what is inside is not a picture that can be read (JPEG, PNG, WebP, TIFF, AVIF, HEIC, GIF, BMP)",
        ),
        ("empty", "a folder without photos"),
    }
    line = describe(plan.passed_over)
    assert line.startswith("passed over 4 files: ")
    assert "x.nef (camera raw; export a JPEG or TIFF)" in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with pipes")
def test_pipes_and_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "people"
    write_picture(folder / "fay" / "1.png", person(1))
    (folder / ".hidden").mkdir()
    write_picture(folder / ".hidden" / "2.png", person(2))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link.jpg").symlink_to("nothing.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "gil").symlink_to("fay")
    plan = plan_from({"subjects": "people"}, tmp_path)
    names = {(item.path.name, item.reason) for item in plan.passed_over}
    assert [person.name for person in plan.people] == ["fay", "gil"]
    assert names == {
        ("pipe.jpg", "a device or a pipe, not a file"),
        ("device.jpg", "a device or a pipe, not a file"),
        ("link.jpg", "a link to nothing"),
    }
    photos, passed_over = photos_below(folder)
    assert photos == [folder / "fay" / "1.png"]
    assert {(item.path.name, item.reason) for item in passed_over} == names | {("gil", "a link to a folder")}


def test_files_of_the_same_name_are_named_with_their_folder(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("anna/x.nef", "bert/x.nef", "bert/y.nef")]
    raw = "camera raw; export a JPEG or TIFF"
    line = describe(PassedOver(path, raw) for path in paths)
    assert line == f"passed over 3 files: anna/x.nef, bert/x.nef, y.nef ({raw})"


def test_a_table_follows_the_rules_of_csv_alone(tmp_path: Path) -> None:
    rows = 'sep=;\r\nsubject;photo;note\r\nAnna;a.png;"two\r\nlines"\r\n;;\r\nBo;b.png;one\u2028line\r\n\r\n'
    (tmp_path / "table.csv").write_bytes(rows.encode())
    people = plan_from({"subjects": "table.csv"}, tmp_path).people
    assert [(p.name, p.columns["note"]) for p in people] == [("Anna", "two\nlines"), ("Bo", "one\u2028line")]


def test_a_table_may_be_the_unicode_text_of_excel(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text("photo\tsubject\r\na.png\tÄnne\r\n", "utf-16", newline="")
    assert [p.name for p in plan_from({"subjects": "table.tsv"}, tmp_path).people] == ["Änne"]
    (tmp_path / "table.csv").write_text("photo,subject\na.png,Änne\n", "cp1252")
    with pytest.raises(SettingsError, match=r"is not UTF-8 text; save it as UTF-8 \(in Excel: CSV UTF-8\)"):
        plan_from({"subjects": "table.csv"}, tmp_path)


@pytest.mark.parametrize("first", ["", "\n\n", "sep=;\r", '"SEP=;"\n'])
def test_empty_rows_and_columns_of_a_table_are_nobody(tmp_path: Path, first: str) -> None:
    (tmp_path / "table.csv").write_text(f"{first}photo;subject;;\na.png;Anna;;\n ; ;\nb.png;Bo\n;;;;;;\n", "utf-8-sig")
    people = plan_from({"subjects": "table.csv"}, tmp_path).people
    assert [(p.name, p.photos[0].name, p.columns) for p in people] == [("Anna", "a.png", {}), ("Bo", "b.png", {})]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('photo,subject\na.png,"Anna\nb.png,Bo\n', "table.csv line 3: unexpected end of data"),
        ("photo,subject\na.png,Anna,x\n", "table.csv line 2: more cells than columns"),
        ("photo,subject,\na.png,Anna,x\n", "table.csv line 2: more cells than columns"),
        ("photo,name,Photo\na.png,Anna,b.png\n", "two columns with the same name; its columns: photo, name, Photo"),
        ("photo\n" + 200_000 * "x", "table.csv line 2: field larger than field limit"),
    ],
)
def test_a_table_that_says_two_things_is_refused(tmp_path: Path, rows: str, says: str) -> None:
    (tmp_path / "table.csv").write_text(rows)
    with pytest.raises(SettingsError, match=says):
        plan_from({"subjects": "table.csv"}, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u0e2a\u0e21\u0e28\u0e31\u0e01\u0e14\u0e34\u0e4c",
        "Zo\u00eb",
        "\U0001f469\u200d\U0001f3a8 Ann",
    ],
)
def test_letters_and_marks_of_every_script_survive(name: str) -> None:
    assert safe_name(name) == name


def test_one_name_written_in_two_ways_of_unicode_is_one_person(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("photo,subject\na.png,Zo\u00eb\nb.png,Zoe\u0308\n", "utf-8")
    (zoe,) = plan_from({"subjects": "table.csv"}, tmp_path).people
    assert (zoe.name, len(zoe.photos)) == ("Zo\u00eb", 2)


def test_names_that_differ_only_where_they_are_cut_stay_apart() -> None:
    assert safe_name("x" * 300 + "a") != safe_name("x" * 300 + "b")


@pytest.mark.parametrize("name", ["../../etc", "a/b\\c", "con", "COM1.txt", "aux .x", "...", "x" * 300, "tab\there"])
def test_no_name_leaves_its_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert not set('/\\:\t"') & set(safe)
    assert safe not in (".", "..")
    assert safe.partition(".")[0].strip().lower() not in ("con", "com1", "aux")
    assert len(safe) <= 81


def test_the_matrix_is_ordered_so_that_models_and_faces_are_used_while_they_are_there(tmp_path: Path) -> None:
    plan = read_plan(write_campaign(tmp_path, people=3, styles=STYLES[:2]))
    recipes, _ = load_recipes(plan)
    pictures = list(plan.pictures(recipes))
    assert len(pictures) == 6
    assert [s.subject for s in pictures] == ["p00", "p00", "p01", "p01", "p02", "p02"]
    assert len({s.stem for s in pictures}) == 6


def write_reader(folder: Path) -> str:
    """A recipe whose model reads sentences, as public ones do; `mini` refuses what it was not taught."""
    (folder / "reader.toml").write_text('extends = "mini"\nname = "reader"\nprompts = "rich"\n')
    return "reader.toml"


def test_axes_and_variants_multiply_and_reach_the_prompt(tmp_path: Path) -> None:
    write_campaign(tmp_path, people=1)
    table = {
        "subjects": "people",
        "styles": ["oil"],
        "recipes": [write_reader(tmp_path)],
        "variants": 2,
        "axes": {"place": ["", "in a garden"], "mood": ["", "smiling"]},
    }
    plan = plan_from(table, tmp_path)
    recipes, _ = load_recipes(plan)
    pictures = list(plan.pictures(recipes))
    assert len(pictures) == 8
    prompts = {plan.settings_of(recipes["reader"], s.style, s.axes).prompt for s in pictures}
    assert len(prompts) == 4
    assert any(p.endswith(", in a garden, smiling") for p in prompts)
    assert "p00/reader/oil_in-a-garden_smiling_2" in {s.stem for s in pictures}


def test_the_forecast_is_that_of_a_trial_that_ends(tmp_path: Path) -> None:
    plan = read_plan(write_campaign(tmp_path, people=2, styles=("oil",), max_attempts=3))
    measured = {"mini": MeasuredRates(seconds_per_attempt=1, first_attempts={"oil at 0.01, balance 0.5": (50, 100)})}
    (row,) = forecast(plan, load_recipes(plan)[0], measured)
    assert row.attempts[0] == pytest.approx(1 + 0.5 + 0.25)
    assert row.attempts[1] < row.attempts[0] < row.attempts[2]
    assert row.source == "measured here"


# --- keys and seeds


def snapshot_keys(folder: Path) -> dict[str, str]:
    with Ledger.open(folder) as ledger:
        return {stem: key for key, (stem, _) in ledger.keys().items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "changes"),
    [
        ("balance", 0.6, True),
        ("keep", ["pose"], True),
        ("far", 0.01, False),
        ("strength", 0.4, True),
        ("seed", 2, True),
        ("max_attempts", 2, True),
        ("device", "cpu", False),
        ("threads", 2, False),
    ],
)
def test_the_key_holds_what_determines_the_picture_and_nothing_else(
    tmp_path: Path, setting: str, value: Any, changes: bool
) -> None:
    run(write_campaign(tmp_path / "a", people=1), tmp_path / "run-a")
    run(write_campaign(tmp_path / "b", people=1, **{setting: value}), tmp_path / "run-b")
    a, b = snapshot_keys(tmp_path / "run-a"), snapshot_keys(tmp_path / "run-b")
    assert a.keys() == b.keys()
    assert (a != b) == changes


@pytest.mark.slow
def test_thresholds_and_photo_bytes_are_in_the_key_and_names_are_not(tmp_path: Path) -> None:
    run(write_campaign(tmp_path / "a", people=1, styles=("oil",)), tmp_path / "run-a")
    plan = write_campaign(tmp_path / "b", people=1, styles=("oil",))
    (tmp_path / "b" / "people" / "p00.png").rename(tmp_path / "b" / "people" / "zoe.png")
    run(plan, tmp_path / "run-b")
    first = set(snapshot_keys(tmp_path / "run-a").values())
    assert first == set(snapshot_keys(tmp_path / "run-b").values())
    write_limits(tmp_path / "b" / "limits.json", 0.97)
    run(plan, tmp_path / "run-c")
    assert first != set(snapshot_keys(tmp_path / "run-c").values())
    write_limits(tmp_path / "b" / "limits.json")
    write_picture(tmp_path / "b" / "people" / "zoe.png", person(2))
    run(plan, tmp_path / "run-d")
    assert first != set(snapshot_keys(tmp_path / "run-d").values())


@pytest.mark.slow
def test_one_job_is_the_same_picture_alone_and_among_others(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path / "all", people=4, styles=STYLES)
    run(plan, tmp_path / "run-all")
    alone = write_campaign(tmp_path / "one", people=4, styles=("comic",))
    for name in ("p00", "p01", "p03"):
        (tmp_path / "one" / "people" / f"{name}.png").unlink()
    run(alone, tmp_path / "run-one", batch=1)
    (name,) = pictures(tmp_path / "run-one")
    assert pictures(tmp_path / "run-one")[name] == pictures(tmp_path / "run-all")[name]


def test_the_keys_of_mini_are_those_from_before_it_was_a_family_of_its_own() -> None:
    families = {name: _fingerprint_values(load_recipe(name))["family"] for name in ("mini", "sdxl-faceid", "klein4b")}
    assert families == {"mini": "sd15", "sdxl-faceid": "sdxl", "klein4b": "flux2"}


def test_renaming_a_field_of_recipes_changes_no_key_and_so_no_seed() -> None:
    assert sorted(_fingerprint_values(load_recipe("mini"))) == [
        "adapter_kind", "adapter_lora", "autocast", "balance", "control", "embedding", "family", "loras", "min_steps", "name",
        "negative_prompt", "prompts", "recogniser", "resolution", "scheduler", "structure", "thresholds", "timestep_spacing",
    ]  # fmt: skip


def test_seeds_come_from_the_key_and_the_round() -> None:
    assert seed_of("a" * 64) == seed_of("a" * 64)
    assert len({seed_of("a" * 64), seed_of("b" * 64), seed_of("a" * 64, 1)}) == 3
    assert all(0 <= seed_of(str(n)) < 2**31 - 9_999 for n in range(1000))


# --- runs


@pytest.mark.slow
def test_a_run_leaves_pictures_records_and_every_attempt(tmp_path: Path) -> None:
    counts = run(write_campaign(tmp_path, people=6), tmp_path / "run")
    assert counts.pending == counts.failed == 0
    assert counts.accepted + counts.rejected == 12
    with Ledger.open(tmp_path / "run") as ledger:
        total = 0
        for job in ledger.jobs():
            done = ledger.result(job.id) or pytest.fail("no result")
            record, look, embeddings = done.record, done.look, done.embeddings
            assert (tmp_path / "run" / str(job.output)).with_suffix(".json").read_bytes() == record.file_bytes()
            assert list(record.attempts) == ledger.attempts(job.id)
            assert record.campaign is not None
            assert record.campaign.key == job.key
            assert record.attempts[0].seed == seed_of(job.key)
            assert set(embeddings) == {"arcface", "dlib"}
            assert look["lightness"] > 0
            total += len(record.attempts)
            assert ("-rejected" in str(job.output)) == (job.state == "rejected")
        assert counts.attempts == total > 12
    assert len(list((tmp_path / "run" / "before").iterdir())) == 6


@pytest.mark.slow
def test_a_failed_photo_never_stops_the_run(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=3)
    write_picture(tmp_path / "people" / "nobody.png", person(7, blue=255))
    (tmp_path / "people" / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    (tmp_path / "people" / "gone.png").symlink_to(tmp_path / "not-there.png")
    (tmp_path / "people.txt").write_text(
        "\n".join(f"people/{n}" for n in ("p00.png", "nobody.png", "broken.jpg", "gone.png", "p01.png"))
    )
    plan.write_text(plan.read_text().replace('"people"', '"people.txt"'))
    counts = run(plan, tmp_path / "run")
    assert counts.failed == 6
    assert counts.accepted + counts.rejected == 4
    with Ledger.open(tmp_path / "run") as ledger:
        why = {p.name: p.failure for p in ledger.subjects()}
    assert why["p00"] is None
    assert "no face found in" in str(why["nobody"])
    assert "not a picture that can be read" in str(why["broken"])
    assert "cannot read" in str(why["gone"])
    write_picture(tmp_path / "not-there.png", person(9))  # mended: the same plan goes on with it
    assert run(plan, tmp_path / "run").failed == 4


@pytest.mark.slow
def test_the_second_call_makes_nothing(tmp_path: Path) -> None:
    plan, progress = write_campaign(tmp_path), list[Progress]()
    first = run(plan, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "pictures").rglob("*.*")}
    assert run(plan, tmp_path / "run", on_progress=progress.append) == first
    assert [p.made for p in progress] == [0]
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "pictures").rglob("*.*")}


@pytest.mark.slow
def test_a_picture_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path)
    run(plan, tmp_path / "run")
    before = pictures(tmp_path / "run")
    next((tmp_path / "run" / "pictures").rglob("*.png")).unlink()
    run(plan, tmp_path / "run")
    assert pictures(tmp_path / "run") == before


@pytest.mark.slow
def test_stop_ends_after_the_batch_in_flight_and_the_next_call_continues(tmp_path: Path) -> None:
    plan, progress = write_campaign(tmp_path, people=5), list[Progress]()
    counts = run(
        plan, tmp_path / "run", stop=lambda: bool(progress) and progress[-1].made > 0, on_progress=progress.append
    )
    assert counts.done == 2  # one person's batch
    assert counts.pending == 8
    assert run(plan, tmp_path / "run").pending == 0


def test_a_picture_is_written_while_the_next_one_is_drawn(tmp_path: Path) -> None:
    plan, next_begun, seen = write_campaign(tmp_path, people=1, max_attempts=1), threading.Event(), list[bool]()

    class Announced(Load):
        def __call__(self, settings: Settings) -> AttemptLoop:
            loop = super().__call__(settings)
            stylize, begun = loop.stylize, list[str]()

            def announce(subject: Subject, style: str, settings: Settings) -> StylizedPortrait:
                begun.append(style)
                if len(begun) == 2:
                    next_begun.set()
                return stylize(subject, style, settings)

            loop.stylize = announce  # type: ignore[assignment]
            return loop

    def note(now: Progress) -> None:
        if now.made == 1:
            seen.append(next_begun.wait(60))

    assert run(plan, tmp_path / "run", Announced(), on_progress=note).done == 2
    assert seen == [True]


def test_what_cannot_be_written_ends_the_run_and_stays_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise InputError("cannot write: No space left on device")

    plan = write_campaign(tmp_path, people=2)
    monkeypatch.setattr("portrait.campaign.run.write_result", full)
    with pytest.raises(InputError, match="No space left"):
        run(plan, tmp_path / "run")
    monkeypatch.undo()
    assert done(tmp_path / "run") == 0
    assert run(plan, tmp_path / "run").pending == 0


@pytest.mark.slow
def test_a_limit_and_budgets_start_no_more_jobs(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=5)
    assert run(plan, tmp_path / "run", limit=3).done == 3
    plan.write_text(plan.read_text() + "[budget]\nattempts = 1\n")
    assert run(plan, tmp_path / "run").done == 3  # the budget is no part of any key, and is spent
    plan.write_text(plan.read_text().replace("attempts = 1\n", "hours = 1e-9\n"))
    assert run(plan, tmp_path / "run").done == 3


@pytest.mark.slow
def test_a_changed_plan_is_refused_and_explained(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=3, balance=0.5)
    run(plan, tmp_path / "run")
    text = plan.read_text()
    plan.write_text(text.replace("balance = 0.5", "balance = 0.7"))
    with pytest.raises(PlanChangedError, match=r"settings balance: 0.5 -> 0.7\. 6 of 6 jobs .* 6 of them finished"):
        run(plan, tmp_path / "run")
    assert run(plan, tmp_path / "run", accept_changes=True).done == 6
    plan.write_text(text)
    (tmp_path / "people" / "p00.png").unlink()
    with pytest.raises(CampaignError, match=r"1 photo of .* not found: .*p00\.png; mount the folder or put them back"):
        run(plan, tmp_path / "run", accept_changes=False)


@pytest.mark.slow
def test_more_people_and_styles_are_no_change(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=2, styles=("oil",))
    run(plan, tmp_path / "run")
    before = pictures(tmp_path / "run")
    write_campaign(tmp_path, people=3, styles=("oil", "comic"))
    assert run(plan, tmp_path / "run").done == 6
    assert before.items() <= pictures(tmp_path / "run").items()


def test_one_person_under_two_names_is_refused(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path)
    shutil.copy(tmp_path / "people" / "p00.png", tmp_path / "people" / "q.png")
    with pytest.raises(SettingsError, match="are the same photo"):
        run(plan, tmp_path / "run")


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path), pytest.raises(CampaignError, match="another process"), exclusive_lock(tmp_path):
        pass
    with exclusive_lock(tmp_path):  # and it is free again
        pass


@pytest.mark.slow
def test_retry_makes_new_pictures_and_never_a_worse_one(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=12, max_attempts=1)
    first = run(plan, tmp_path / "run")
    assert 0 < first.rejected < 24
    with Ledger.open(tmp_path / "run") as ledger:
        old = {job.id: job.attempts for job in ledger.jobs("rejected")}
        outputs = {job.output for job in ledger.jobs("accepted")}
    second = run(plan, tmp_path / "run", retry=["rejected"])
    assert second.accepted > first.accepted
    assert second.attempts == first.attempts + first.rejected
    with Ledger.open(tmp_path / "run") as ledger:
        for job in ledger.jobs():
            if job.id in old:
                attempts = ledger.attempts(job.id)
                assert len(attempts) == 2
                assert attempts[0].seed != attempts[1].seed
        assert outputs <= {job.output for job in ledger.jobs("accepted")}
    assert not [
        p
        for p in pictures(tmp_path / "run")
        if p.endswith("-rejected.png") and p.replace("-rejected", "") in pictures(tmp_path / "run")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("again", [["rejected"], []])
def test_a_retry_that_was_interrupted_continues_and_repeats_nothing(tmp_path: Path, again: list[str]) -> None:
    """By `retry --rejected` once more, or by `run`: both make what is left, and nothing a second time."""
    plan = write_campaign(tmp_path, people=12, max_attempts=1)
    first = run(plan, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    assert run(plan, tmp_path / "run", retry=["rejected"], limit=2).pending == first.rejected - 2 > 2
    assert run(plan, tmp_path / "run", retry=again).pending == 0
    whole = run(plan, tmp_path / "whole", retry=["rejected"])
    assert pictures(tmp_path / "run") == pictures(tmp_path / "whole")
    with Ledger.open(tmp_path / "run") as ledger:
        assert ledger.counts().attempts == whole.attempts == first.attempts + first.rejected


@pytest.mark.slow
def test_a_retry_of_a_plan_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=6, max_attempts=1)
    first = run(plan, tmp_path / "run")
    plan.write_text(plan.read_text() + "balance = 0.9\n")
    with pytest.raises(PlanChangedError):
        run(plan, tmp_path / "run", retry=["rejected"])
    with Ledger.open(tmp_path / "run") as ledger:
        assert ledger.counts() == first


@pytest.mark.slow
def test_a_plan_that_comes_back_has_its_own_pictures_again(tmp_path: Path) -> None:
    """A, then B, then A: both wrote to the same files, and no score may stand beside the other's pixels."""
    plan = write_campaign(tmp_path, people=6, max_attempts=1, balance=0.5)
    run(plan, tmp_path / "run", retry=["rejected"])
    run(plan, tmp_path / "run", retry=["rejected"])
    text = plan.read_text()
    plan.write_text(text.replace("balance = 0.5", "balance = 0.9"))
    run(plan, tmp_path / "run", accept_changes=True)
    plan.write_text(text)
    run(plan, tmp_path / "run", accept_changes=True)
    with Ledger.open(tmp_path / "run") as ledger:
        for job in ledger.jobs():
            record = (ledger.result(job.id) or pytest.fail("no result")).record
            pixels = read_photo(tmp_path / "run" / str(job.output)).pixels
            assert pixels_sha256(pixels) == record.picture.pixels_sha256, job.stem
            assert record.campaign is not None
            assert record.campaign.key == job.key
    assert len(pictures(tmp_path / "run")) == 12  # and nothing of B is left


def test_a_photo_that_was_moved_is_still_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    separate(monkeypatch)
    plan = write_campaign(tmp_path, people=4)
    run(plan, tmp_path / "run")
    (tmp_path / "people").rename(tmp_path / "elsewhere")
    plan.write_text(plan.read_text().replace('"people"', '"elsewhere"'))
    progress: list[Progress] = []
    run(plan, tmp_path / "run", on_progress=progress.append)
    assert [p.made for p in progress] == [0]
    report = compute_report(read_run(tmp_path / "run"))
    assert report.verification[0].impostor_pairs == 4 * 3


def test_judges_of_another_recipe_do_not_forget_what_the_first_knew(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger, ledger.transaction():
        ledger.put_subject("anna", [{"path": "a.jpg", "sha256": "0"}], {})
        ledger.put_jobs(
            [("k", PlannedPicture(subject="anna", folder="anna", recipe="mini", style="oil", axes=(), variant=0))]
        )
        ledger.put_faces("anna", {"arcface": unit(1), "dlib": unit(0, 1)})
        ledger.put_faces("anna", {"dlib": unit(0, 0, 1)})
        ledger.put_faces("anna", {})
        (anna,) = ledger.subjects()
    assert anna.embeddings["arcface"][0] == 1
    assert anna.embeddings["dlib"][2] == 1


def test_two_pictures_never_share_a_file_or_a_key(tmp_path: Path) -> None:
    write_campaign(tmp_path, people=1)
    table: dict[str, Any] = {
        "subjects": "people",
        "styles": ["oil"],
        "axes": {"a": ["", "red"], "b": ["plain-red", "red plain"]},
    }
    plan = plan_from({"settings": {"thresholds": "limits.json"}} | table, tmp_path)
    stems = [picture.stem for picture in plan.pictures(load_recipes(plan)[0])]
    assert len({stem.casefold() for stem in stems}) == len(stems) == 4
    table["axes"] = {"a": ["", "plain"]}
    plan = plan_from({"settings": {"thresholds": "limits.json"}} | table, tmp_path)
    with pytest.raises(
        SettingsError, match="p00, mini, oil, '' and p00, mini, oil, 'plain' would be written to the same file"
    ):
        run_campaign(plan, tmp_path / "run", local())
    nobody = plan_from({"subjects": ["gone.png"], "settings": {"thresholds": "limits.json"}}, tmp_path)
    twice = replace(nobody, people=(nobody.people[0], replace(nobody.people[0], name="other")))
    with pytest.raises(SettingsError, match="gone, mini, .* and other, mini, .* are the same picture"):
        run_campaign(twice, tmp_path / "run", local())


def test_long_texts_have_short_names_of_their_own(tmp_path: Path) -> None:
    """Also where they begin alike, and in letters of three bytes each; short ones are as they stand."""
    start_ = "standing in front of a large bookshelf of old and of new books, "
    write_campaign(tmp_path, people=1)
    axes = {"a": [start_ + "smiling", start_ + "serious", "in a garden"], "b": ["山" * 40, "川" * 40], "c": ["海" * 40]}
    table = {"subjects": "people", "styles": ["oil"], "axes": axes, "settings": {"thresholds": "limits.json"}}
    table["recipes"] = [write_reader(tmp_path)]
    plan = plan_from(table, tmp_path)
    names = {Path(picture.stem).name for picture in plan.pictures(load_recipes(plan)[0])}
    assert len(names) == 6
    assert max(len(name.encode()) for name in names) < 200
    short = plan_from(table | {"axes": {"a": ["in a garden"], "b": ["川" * 20]}}, tmp_path)
    (picture,) = short.pictures(load_recipes(short)[0])
    assert picture.stem == f"p00/reader/oil_in-a-garden_{'川' * 20}_1"
    with pytest.raises(SettingsError, match="different texts"):
        plan_from(table | {"axes": {"a": ["In a garden", "in a garden"]}}, tmp_path)


def test_a_plan_and_its_files_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe is found beside the plan from any folder, and where a LoRA lies is in no key."""
    keys = []
    for place in ("here", "there"):
        plan = write_campaign(tmp_path / place, people=1, lora=["ink.safetensors", "b.safetensors:0.5"])
        (tmp_path / place / "studio.toml").write_text('extends = "mini"\nname = "studio"\n')
        (tmp_path / place / "mini").mkdir()  # a folder of that name is not the recipe
        plan.write_text(plan.read_text().replace("[settings]", 'recipes = ["mini", "studio.toml"]\n[settings]'))
        monkeypatch.chdir(tmp_path)
        moved_plan = read_plan(plan)
        assert list(load_recipes(moved_plan)[0]) == ["mini", "studio"]
        keys.append(shared_ingredients(moved_plan.settings))
    assert keys[0] == keys[1]
    assert keys[0]["lora"] == [1.0, 0.5]


class Fragile(Load):
    """Raises an error for some people's photos, or for every picture."""

    def __init__(self, error: Exception, people: set[str] | None = None) -> None:
        super().__init__()
        self.error, self.people = error, people

    def __call__(self, settings: Settings) -> AttemptLoop:
        loop = super().__call__(settings)
        find, make = loop.subjects, loop.stylize

        def subjects(photo: Photo, *more: object, **settings: object) -> list[Subject]:
            if self.people and Path(str(photo.path)).stem in self.people:
                raise self.error
            return find(photo, *more, **settings)  # type: ignore[arg-type]

        def stylize(*given: object) -> object:
            if self.people is None:
                raise self.error
            return make(*given)  # type: ignore[arg-type]

        loop.subjects, loop.stylize = subjects, stylize  # type: ignore[method-assign,assignment]
        return loop


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [cv2.error("too wide"), MemoryError("photo"), RuntimeError("CUDA out of memory"), OSError(5, "I/O error")]
)
def test_whatever_one_photo_does_the_others_are_made(tmp_path: Path, error: Exception) -> None:
    plan, load = write_campaign(tmp_path, people=8), Fragile(error, {"p01", "p02", "p04"})
    counts = run_campaign(read_plan(plan), tmp_path / "run", local(load))
    assert (counts.failed, counts.pending, counts.accepted + counts.rejected) == (6, 0, 10)
    with Ledger.open(tmp_path / "run") as ledger:
        assert type(error).__name__ in next(ledger.jobs("failed")).reasons[0]
    report = compute_report(read_run(tmp_path / "run"))
    assert (report.overall.failed, report.overall.not_acquired) == (6, 0)  # it is not known to be the photo
    assert run(plan, tmp_path / "run", retry=["failed"]).failed == 0


@pytest.mark.slow
def test_what_would_fail_every_job_stops_the_run_and_leaves_it_to_be_made(tmp_path: Path) -> None:
    plan = write_campaign(tmp_path, people=9)
    assert run(plan, tmp_path / "run", limit=2).done == 2
    with pytest.raises(
        CampaignError, match=r"5 people in a row .* RuntimeError: broken model\. Their jobs are still pending"
    ):
        run_campaign(read_plan(plan), tmp_path / "run", local(Fragile(RuntimeError("broken model"))))
    with Ledger.open(tmp_path / "run") as ledger:
        assert (ledger.counts().done, ledger.counts().pending) == (2, 16)
    assert run(plan, tmp_path / "run").done == 18


@pytest.mark.slow
def test_who_meets_such_an_error_twice_stops_nobody_else(tmp_path: Path) -> None:
    plan, odd = write_campaign(tmp_path, people=9), {f"p{n:02}" for n in range(6)}
    bad = local(Fragile(RuntimeError("odd photo"), odd))
    with pytest.raises(CampaignError, match="5 people in a row"):
        run_campaign(read_plan(plan), tmp_path / "run", bad)
    for retry in ([], ["failed"]):
        counts = run_campaign(read_plan(plan), tmp_path / "run", bad, retry=retry)
        assert (counts.failed, counts.pending, counts.done) == (12, 0, 18)
    assert run(plan, tmp_path / "run", retry=["failed"]).failed == 0


@pytest.mark.slow
def test_a_share_of_photos_that_goes_away_stops_the_run_and_costs_nobody_anything(tmp_path: Path) -> None:
    plan, photos, away = write_campaign(tmp_path, people=12), tmp_path / "people", tmp_path / "away"

    def unplug(now: Progress) -> None:
        if now.made == 4:
            photos.rename(away)

    with pytest.raises(CampaignError, match="5 people in a row met .* cannot read .*p06.png: No such file"):
        run(plan, tmp_path / "run", on_progress=unplug)
    away.rename(photos)
    with Ledger.open(tmp_path / "run") as ledger:
        assert (ledger.counts().done, ledger.counts().failed, ledger.counts().pending) == (4, 0, 20)
        assert not any(person.failure for person in ledger.subjects())
    counts = run(plan, tmp_path / "run")
    assert (counts.failed, counts.pending, counts.done) == (0, 0, 24)


@pytest.mark.slow
def test_a_retry_that_meets_an_error_leaves_the_picture_and_its_verdict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = write_campaign(tmp_path, people=6, max_attempts=1)
    first = run(plan, tmp_path / "run")
    before = states(tmp_path / "run")
    rejected = {stem.split("/")[0] for stem, (state, *_) in before.items() if state == "rejected"}
    odd = set(sorted(rejected)[:2])
    load = Fragile(RuntimeError("lost the GPU"), odd)
    second = run_campaign(read_plan(plan), tmp_path / "run", local(load), retry=["rejected"])
    assert second.failed == 0
    assert second.accepted + second.rejected == first.done
    after = states(tmp_path / "run")
    for stem, was in before.items():
        if stem.split("/")[0] in odd:
            assert after[stem] == was
            assert f"{stem} could not be made again (RuntimeError: lost the GPU)" in caplog.text or was[0] == "accepted"
    report = compute_report(read_run(tmp_path / "run"))
    assert report.overall.accepted is not None
    assert (report.overall.failed, report.overall.accepted.count) == (0, second.accepted)
    with database(tmp_path / "run") as ledger:  # one that has failed all the same is no picture that was delivered
        ledger.execute("UPDATE jobs SET state = 'failed' WHERE place = 0")
    report = compute_report(read_run(tmp_path / "run"))
    assert report.overall.accepted is not None
    assert (report.overall.failed, report.overall.accepted.of) == (1, first.done - 1)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["picture", "ledger"])
def test_a_full_disk_stops_the_run_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    plan = write_campaign(tmp_path, people=12)
    if what == "picture":
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda n: real(n) if done(tmp_path / "run") < 3 else os.write(-1, b""))
        expected: type[Exception] = InputError
    else:
        Ledger.create(tmp_path / "run").close()
        connect = sqlite3.connect

        def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.execute("PRAGMA max_page_count=24")
            return connection

        monkeypatch.setattr(sqlite3, "connect", small)
        expected = CampaignError
    with pytest.raises(expected, match="cannot write"):
        run(plan, tmp_path / "run")
    monkeypatch.undo()
    counts = run(plan, tmp_path / "run")
    assert (counts.failed, counts.pending, counts.done) == (0, 0, 24)


# --- everybody else of the campaign


def separate(monkeypatch: pytest.MonkeyPatch, limit: float = 0.99999) -> None:
    """The fakes' people differ by a few colors, so only photos this similar are of one person."""
    monkeypatch.setattr("portrait.judge.gallery.photo_thresholds", lambda: photo_thresholds_of(limit))


class Straying(Load):
    """Pictures that stray along the colors by which people differ, here and there to the next person."""

    def __call__(self, settings: Settings) -> AttemptLoop:
        loop = super().__call__(settings)

        def stray(photo: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
            shift = np.array([20, -15, 0]) * np.random.default_rng(seed).normal(0, 0.5)
            shifted = paint(photo, replace(knobs, ip_adapter_scale=1.0), 1) + shift
            return RgbImage(shifted.clip(0, 255).astype(np.uint8))

        loop.generator = FakeGenerator(stray)
        return loop


def strayed(folder: Path) -> Path:
    """A plan of six people, well apart."""
    plan = write_campaign(folder, people=6, styles=STYLES, max_attempts=1)
    write_limits(folder / "limits.json", 0.99)
    for n in range(6):
        write_picture(folder / "people" / f"p{n:02}.png", person(5 * n))
    return plan


def states(folder: Path) -> dict[str, tuple[object, ...]]:
    with Ledger.open(folder) as ledger:
        return {job.stem: (job.state, job.reasons, job.output) for job in ledger.jobs()}


@pytest.mark.slow
def test_a_portrait_that_is_more_like_somebody_else_of_the_campaign_is_swapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order: in one go, in pieces, killed before the end, or from a plan that lists people backwards."""
    separate(monkeypatch)
    plan, load = strayed(tmp_path), Straying()
    counts = run(plan, tmp_path / "run", load=load)
    jobs_by_state = states(tmp_path / "run")
    swapped = {stem for stem, (_, reasons, _) in jobs_by_state.items() if "swapped" in reasons}  # type: ignore[operator]
    assert 0 < len(swapped) < 24
    with Ledger.open(tmp_path / "run") as ledger:
        people = {p.name: p.embeddings for p in ledger.subjects()}
        for job in ledger.jobs():
            done = ledger.result(job.id) or pytest.fail("no result")
            record, embeddings = done.record, done.embeddings
            margins = {
                name: min(
                    float(person_embeddings[j] @ embeddings[j]) - float(people[job.picture.subject][j] @ embeddings[j])
                    for j in embeddings
                )
                for name, person_embeddings in people.items()
                if name != job.picture.subject
            }
            assert (max(margins.values()) > 0.00005) == (job.stem in swapped), (job.stem, margins)
            assert (tmp_path / "run" / str(job.output)).with_suffix(".json").read_bytes() == record.file_bytes()
            assert (record.status, record.reasons) == (job.state, job.reasons)
            if job.stem in swapped:
                assert record.campaign is not None
                assert record.campaign.swapped is not None
                assert record.campaign.swapped.subject == max(margins, key=lambda name: margins[name])
        assert sum(pair.pictures for pair in ledger.swapped()) == len(swapped)
    assert len(pictures(tmp_path / "run")) == 24
    for limit in (1, 5, 30):
        run(plan, tmp_path / "pieces", load=load, limit=limit)
    assert states(tmp_path / "pieces") == jobs_by_state
    assert pictures(tmp_path / "pieces") == pictures(tmp_path / "run")
    names = "\n".join(f"people/p{n:02}.png" for n in reversed(range(6)))
    (tmp_path / "list.txt").write_text(names)
    plan.write_text(plan.read_text().replace('"people"', '"list.txt"'))
    run(plan, tmp_path / "backwards", load=load)
    assert states(tmp_path / "backwards") == jobs_by_state
    assert run(plan, tmp_path / "run", load=load, retry=["rejected"]).accepted > counts.accepted


@pytest.mark.slow
@pytest.mark.parametrize("door", ["export", "drift", "prune"])
def test_a_run_killed_before_it_judged_everybody_is_judged_before_anybody_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    separate(monkeypatch)
    plan, load, killed = strayed(tmp_path), Straying(), tmp_path / "killed"
    run(plan, tmp_path / "run", load=load)
    jobs_by_state = states(tmp_path / "run")
    assert any("swapped" in reasons for _, reasons, _ in jobs_by_state.values())  # type: ignore[operator]
    with monkeypatch.context() as patch:
        patch.setattr(
            "portrait.campaign.settle.judge_against_everyone", lambda ledger: os.kill(os.getpid(), signal.SIGINT)
        )
        with pytest.raises(KeyboardInterrupt):
            run(plan, killed, load=load)
    assert states(killed) != jobs_by_state
    with exclusive_lock(killed):  # somebody works on it: it is said, and nothing is written
        exported = export_run(killed, tmp_path / "delivery")
        now = read_run(killed)
        assert not exported.finalized
        assert "were not judged against everybody" in compare(now, now)[1].why
    if door == "export":
        again = export_run(killed, tmp_path / "delivery")
        assert again.finalized
        assert again.removed == exported.files - again.files > 0
        delivered = {str(p.relative_to(tmp_path / "delivery")) for p in (tmp_path / "delivery").rglob("*.png")}
        assert len(delivered) == sum(state == "accepted" for state, *_ in jobs_by_state.values())
    elif door == "drift":
        assert compute_report(read_run(killed)).run.settled
    else:
        prune_run(killed, embeddings=True)
    assert states(killed) == jobs_by_state


@pytest.mark.slow
def test_swapped_goes_when_the_other_person_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody else stays or nobody does."""
    separate(monkeypatch)
    plan, load = strayed(tmp_path), Straying()
    run(plan, tmp_path / "run", load=load)
    with Ledger.open(tmp_path / "run") as ledger:
        job = next(job for job in ledger.jobs("rejected") if job.reasons == ("swapped",))
        record = (ledger.result(job.id) or pytest.fail("no result")).record
    assert record.campaign is not None
    assert record.campaign.swapped is not None
    farthest = "p00" if job.picture.subject > "p02" else "p05"
    for stays in ({job.picture.subject, farthest}, {job.picture.subject}):
        assert record.campaign.swapped.subject not in stays
        folder = Path(shutil.copytree(tmp_path / "run", tmp_path / f"run of {len(stays)}"))
        for photo in (tmp_path / "people").glob("p*.png"):
            if photo.stem not in stays:
                photo.unlink()
        run(plan, folder, load=load, accept_changes=True)
        state, reasons, output = states(folder)[job.stem]
        assert (state, reasons) == ("accepted", ())
        assert "rejected" not in str(output)
        assert (folder / str(output)).is_file()


@pytest.mark.slow
def test_one_person_under_two_names_is_reported_and_not_silently_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    separate(monkeypatch)
    plan = write_campaign(tmp_path, people=3)
    again = person(1)
    again[0, 0] += 1  # another photo of the same person
    write_picture(tmp_path / "people" / "q.png", again)
    run(plan, tmp_path / "run")
    assert "p01 and q; if they are one person, name them as one subject" in caplog.text
    with Ledger.open(tmp_path / "run") as ledger:
        assert ledger.meta().alike == (("p01", "q"),)
        assert not any({row.subject, row.other} == {"p01", "q"} for row in ledger.swapped())
    assert compute_report(read_run(tmp_path / "run")).duplicate_identities[0].subjects == ("p01", "q")


def test_hundreds_of_people_are_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    people = {f"p{n}": {"arcface": v / np.linalg.norm(v)} for n, v in enumerate(rng.normal(size=(600, 512)))}
    portraits = [(name, {"arcface": people[f"p{(n * 7) % 600}"]["arcface"]}) for n, name in enumerate(people)] * 4
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        nearest_people = Gallery(people).nearest(portraits)
    finally:
        sys.setprofile(None)
    assert calls < 100 * len(portraits), calls  # a call for each pair would be 600 times as many as portraits
    for (name, _), nearest in zip(portraits, nearest_people, strict=True):
        looks_like = f"p{(int(name[1:]) * 7) % 600}"
        assert nearest is not None
        assert (nearest.subject == looks_like and nearest.margin > 0) or looks_like == name


# --- rates


@pytest.mark.slow
def test_seconds_are_those_of_each_recipe_and_a_missing_record_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "cache"))
    run(write_campaign(tmp_path), tmp_path / "run")
    next((tmp_path / "run" / "pictures").rglob("*.json")).unlink()
    before = measured_rates()
    with Ledger.open(tmp_path / "run") as ledger:
        remember(ledger, Settings(), {"mini": 2.0, "other": 40.0})
    after = measured_rates()
    assert after["mini"].seconds_per_attempt == 2
    assert after["other"].seconds_per_attempt == 40
    assert after["mini"].first_attempts == before["mini"].first_attempts


@pytest.mark.slow
def test_a_run_predicts_its_own_style_and_settings_and_forgets_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTRAIT_CACHE", str(tmp_path / "cache"))
    for n, (style, more) in enumerate(
        (("oil", {}), ("comic", {}), ("oil", {"balance": 1.0}), ("oil", {"strength": 0.4}))
    ):
        run(write_campaign(tmp_path / str(n), people=21, styles=(style,), max_attempts=1, **more), tmp_path / f"run{n}")
    table = measured_rates()["mini"].first_attempts
    assert list(table)[:3] == ["oil at 0.01, balance 0.5", "comic at 0.01, balance 0.5", "oil at 0.01, balance 1"]
    assert len(table) == 4
    assert all(of == 21 for _, of in table.values())
    for more, source in (({}, "measured here"), ({"strength": 0.4}, "measured here"), ({"balance": 0.2}, "a guess")):
        plan = read_plan(write_campaign(tmp_path / "next", people=1, styles=("oil",), **more))
        (row,) = forecast(plan, load_recipes(plan)[0], measured_rates())
        assert row.source.startswith(source)


def test_the_tests_leave_the_cache_of_the_user_alone(cache: Path) -> None:
    assert rates_file() == cache / "rates.json"


def test_a_worker_of_other_weights_is_refused(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    batch = Batch(items=(), photos=(), weights={"unet": "0" * 64})

    class OneTask:
        settings = read_plan(tmp_path / "campaign.toml").settings

    with pytest.raises(CampaignError, match="has other weights than the run was started with: unet"):
        list(Worker(Load(), DecoderHere()).work(Batch(items=(OneTask(),), photos=batch.photos, weights=batch.weights)))  # type: ignore[arg-type]


class AtOnce(ThreadPoolExecutor):
    """Does everything as it is submitted: peaks of memory do not depend on what happens to coincide."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **kwargs))
        return future


@pytest.mark.slow
def test_the_memory_of_a_run_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks of two runs, one of eight times the jobs: what a job leaves behind is its key and its place."""
    monkeypatch.setattr("portrait.campaign.run.ThreadPoolExecutor", AtOnce)
    peaks = []
    for people in (6, 48):
        plan = write_campaign(tmp_path / str(people), people=people)
        tracemalloc.start()
        run(plan, tmp_path / str(people) / "run")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 400_000, peaks  # 84 jobs more; a single picture here is 49,152 bytes of pixels


@needs_sigstop
def test_a_photo_that_stops_or_crashes_its_decoder_fails_alone(tmp_path: Path) -> None:
    class Struck(DecoderProcess):
        strike: signal.Signals | None = None

        def decode(self, data: bytes, path: str | Path, **more: Any) -> Photo:
            strikes = {"p01": signal.SIGSTOP, "p02": signal.SIGKILL, "p03": signal.SIGTERM}
            super().decode(data, path)  # so that it is there
            self.strike = strikes.get(Path(path).stem)
            if self.strike and self.pid:
                os.kill(self.pid, signal.SIGSTOP)  # it must not answer before it is struck
            self.seconds = 0.2 if self.strike == signal.SIGSTOP else 60.0
            try:
                return super().decode(data, path, **more)
            finally:
                self.seconds = 60.0

        def _await_answer(self, *args: Any) -> None:
            strike, self.strike = self.strike, None
            if strike in (signal.SIGKILL, signal.SIGTERM) and (pid := self.pid):
                os.kill(pid, strike)
                if strike == signal.SIGTERM:  # a process that is stopped heeds it once it goes on
                    os.kill(pid, signal.SIGCONT)
            super()._await_answer(*args)

    engine = LocalEngine(Load(), decoder := Struck())
    plan = write_campaign(tmp_path, people=5, styles=("oil",))
    run_campaign(read_plan(plan), tmp_path / "run", lambda threads: engine)
    with Ledger.open(tmp_path / "run") as ledger:
        failures = {person.name: person.failure for person in ledger.subjects() if person.failure}
        assert ledger.counts().done == 5
    assert failures == {
        "p01": "p01.png takes longer than 0.2 s to decode; save it again as JPEG or PNG",
        "p02": "p02.png crashed its decoder; save it again as JPEG or PNG",
    }  # and p03 is made: who sends SIGTERM means the service, and not the photo
    assert decoder.pid is None


# --- killed


@pytest.mark.slow
def test_a_run_killed_ten_times_equals_an_undisturbed_one(tmp_path: Path) -> None:
    """30 people x 4 styles, SIGKILL at ten random moments of the work, and no picture differs, is lost or made twice."""
    plan = write_campaign(tmp_path, people=30, styles=STYLES)
    whole = run(plan, tmp_path / "whole")
    assert whole.jobs == 120
    chance, killed, at = random.Random(5), 0, list[int]()
    while True:
        process = start(plan, tmp_path / "killed")
        already = done(tmp_path / "killed")
        left = 10 - killed  # goals that leave enough for the kills to come, as in eval/campaign.py
        goal = already + chance.randint(1, max(1, 2 * (120 - already) // (left + 1) - 1)) if left else 121
        while process.poll() is None and done(tmp_path / "killed") < goal:
            time.sleep(0.01)
        time.sleep(chance.random() * 0.02)
        if process.poll() is not None:
            assert process.returncode == 0, process.stderr and process.stderr.read().decode()
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
        at.append(done(tmp_path / "killed"))
    assert killed == 10, at
    assert at == sorted(at)  # nothing is ever lost
    assert pictures(tmp_path / "killed") == pictures(tmp_path / "whole")
    with Ledger.open(tmp_path / "killed") as a, Ledger.open(tmp_path / "whole") as b:
        assert a.counts().attempts == b.counts().attempts == whole.attempts  # nothing is made twice
        assert [(j.key, j.state, j.reasons) for j in a.jobs()] == [(j.key, j.state, j.reasons) for j in b.jobs()]


@pytest.mark.slow
def test_a_kill_between_picture_and_ledger_makes_the_same_picture_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = write_campaign(tmp_path, people=2)
    run(plan, tmp_path / "whole")
    ended = Ledger.end

    def power_cut(self: Ledger, *args: object, **values: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "end", power_cut)
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "run")
    monkeypatch.setattr(Ledger, "end", ended)
    assert len(pictures(tmp_path / "run")) == 1
    assert done(tmp_path / "run") == 0
    run(plan, tmp_path / "run")
    assert pictures(tmp_path / "run") == pictures(tmp_path / "whole")


def test_the_local_engine_is_an_engine() -> None:
    engine = LocalEngine(Load(), DecoderHere())
    assert (engine.name, engine.workers) == ("local", 1)
    engine.close()


# --- the ledger


@pytest.mark.parametrize("how", ["dropped", "embeddings"])
def test_nothing_is_left_of_the_face_of_a_removed_person(tmp_path: Path, how: str) -> None:
    """Not in the rows, nor in free pages of the file or its log, also while somebody else reads the ledger."""
    plan = write_campaign(tmp_path, people=3, styles=("oil",), max_attempts=1)
    run(plan, tmp_path / "run")
    with Ledger.open(tmp_path / "run") as ledger:
        removed = next(person for person in ledger.subjects() if person.name == "p02")
        job = next(job for job in ledger.jobs() if job.picture.subject == "p02")
        faces = [pack_embeddings(removed.embeddings), pack_embeddings(ledger.embeddings_of(job.id))]
    if how == "dropped":
        (tmp_path / "people" / "p02.png").unlink()
        run(plan, tmp_path / "run", accept_changes=True)
    with Ledger.open(tmp_path / "run") as reader:
        assert reader.counts().jobs  # which keeps its connection open, and with it the log
        assert any(face.encode() in stored(tmp_path / "run") for face in vectors(faces))
        prune_run(tmp_path / "run", embeddings=how == "embeddings")
        assert not [face for face in vectors(faces) if face.encode() in stored(tmp_path / "run")]


def vectors(packed: list[str | None]) -> set[str]:
    return {value for text in packed for value in json.loads(str(text)).values()}


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("ledger.sqlite*"))


def test_what_is_in_no_transaction_is_not_half_there(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger:
        with pytest.raises(ZeroDivisionError), ledger.transaction():
            ledger.set(name="a")
            raise ZeroDivisionError
        assert ledger.meta().name == ""


def test_a_folder_without_a_ledger_says_so(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="is not a campaign run"):
        Ledger.open(tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(b"this is not a database, not at all" * 100)
    for opened in (Ledger.open, Ledger.create):
        with pytest.raises(CampaignError, match=r"is damaged .*put back a copy of it, or save what can be read"):
            opened(tmp_path)


def test_a_ledger_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    """On a medium that is read-only the log beside it cannot be made; here a folder is in its place."""
    Ledger.create(tmp_path).close()
    (tmp_path / "ledger.sqlite-wal").mkdir()
    with pytest.raises(CampaignError, match="cannot open .*ledger.sqlite: .*must be writable, even for reading"):
        Ledger.open(tmp_path)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Callable[[Ledger], object]], int]:
    """The cost of a ledger's query in hundreds of SQLite instructions."""

    def count(run: Path, ask: Callable[[Ledger], object]) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=CountingConnection))
            with Ledger.open(run) as ledger:
                before = CountingConnection.opened[-1].hundreds
                ask(ledger)
                return CountingConnection.opened[-1].hundreds - before

    return count


def test_a_batch_is_found_without_a_look_at_the_jobs_that_have_ended(
    tmp_path: Path, counting: Callable[[Path, Callable[[Ledger], object]], int]
) -> None:
    run(write_campaign(tmp_path, people=6), tmp_path / "run", limit=6)
    steps = [counting(tmp_path / "run", lambda ledger: ledger.next_batch(0, 1))]
    with database(tmp_path / "run") as ledger:
        columns = "subject, recipe, style, axes, variant, stem"
        for n in range(400):
            ledger.execute(
                f"INSERT INTO jobs(key, place, state, {columns}) SELECT key || ?, 1, 'accepted', {columns} "
                "FROM jobs WHERE state = 'accepted' LIMIT 1",
                (f"-{n}",),
            )
    steps.append(counting(tmp_path / "run", lambda ledger: ledger.next_batch(0, 1)))
    assert steps[1] <= steps[0] + 1, steps


def test_a_ledger_loses_nothing_with_the_power_and_readers_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=CountingConnection))
    with Ledger.create(tmp_path):
        connection = CountingConnection.opened[-1]
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_the_reasons_of_all_attempts_are_counted_without_a_look_at_accepted_ones(
    tmp_path: Path, counting: Callable[[Path, Callable[[Ledger], object]], int]
) -> None:
    run(write_campaign(tmp_path, people=6), tmp_path / "run")
    with Ledger.open(tmp_path / "run") as ledger:
        counted = Counter(r for job in ledger.jobs() for a in ledger.attempts(job.id) for r in a.reasons)
        assert ledger.count_reasons() == dict(counted) != {}
    steps = [counting(tmp_path / "run", Ledger.count_reasons)]
    with database(tmp_path / "run") as connection:
        for n in range(1000):
            connection.execute(
                "INSERT INTO attempts SELECT job, round, number + ?, ended, accepted, seconds, entry, reasons "
                "FROM attempts WHERE accepted = 1 LIMIT 1",
                (100 + n,),
            )
    steps.append(counting(tmp_path / "run", Ledger.count_reasons))
    assert steps[1] <= steps[0] + 1, steps
    with Ledger.open(tmp_path / "run") as ledger:
        assert ledger.count_reasons() == dict(counted)


def test_pictures_can_be_read_back(tmp_path: Path) -> None:
    run(write_campaign(tmp_path, people=1), tmp_path / "run")
    shapes = [read_photo(tmp_path / "run" / name).pixels.shape for name in pictures(tmp_path / "run")]
    assert shapes == [(128, 128, 3)] * 2
