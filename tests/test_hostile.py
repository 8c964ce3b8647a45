"""Untrusted files: whatever they name, only the folders that the user named are read, written and cleared."""

from __future__ import annotations

import copy
import csv
import ctypes
import io
import json
import logging
import math
import os
import random
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from portrait.calibrate.combine import combine_tables
from portrait.calibrate.journal import Journal
from portrait.campaign.export import export_run
from portrait.campaign.ledger import FILE, Ledger
from portrait.campaign.people import read_people
from portrait.campaign.plan import plan_from, read_plan
from portrait.campaign.prune import prune_run
from portrait.campaign.run import run_campaign
from portrait.cli import calibrate
from portrait.cli.main import main
from portrait.cli.terminal import LogLines
from portrait.errors import CampaignError, ImageReadError, InputError, PlanChangedError, PortraitError, SettingsError
from portrait.files import write_bytes
from portrait.images import decode_photo, photos_in, read_photo, write_picture
from portrait.images.search import describe
from portrait.judge.thresholds import read_thresholds, thresholds_for
from portrait.loop.response import as_table, curves_for, default_curves
from portrait.paths import below, is_file_name, is_within
from portrait.recipes.load import load_recipe
from portrait.recipes.style import styles
from portrait.records import RgbImage
from portrait.records.portrait import PortraitRecord, read_record
from portrait.report.drift import compute_report
from portrait.report.explain import explain
from portrait.report.page import drift_page, render_page
from portrait.report.runs import read_baseline, read_run
from portrait.settings import Settings, settings_from
from tests.campaigns import Load, database, local, person, write_campaign, write_limits

NOT_IN_PLANS = ("recipe", "style", "variants", "max_seconds")
"""Settings that a plan has above its tables, or not at all."""
OUTSIDE = "outside"
"""A folder beside every folder that a test names to the program."""

_watched: list[tuple[Path, list[str]]] = []
_EVENTS = ("open", "os.", "shutil.", "sqlite3.connect", "pathlib.", "glob.", "tempfile.")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _watched and event.startswith(_EVENTS):
        for value in arguments:
            if isinstance(value, str | bytes | Path):
                for folder, touched in _watched:
                    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
                    with suppress(ValueError, OSError, RuntimeError):
                        if text and "\0" not in text and Path(text).resolve().is_relative_to(folder):
                            touched.append(f"{event} {text}")


sys.addaudithook(_watch)  # it can never be removed, so it watches only inside `untouched`


@contextmanager
def untouched(folder: Path, *, may_read: bool = False) -> Iterator[None]:
    """Within the block, nothing in a folder may be created, changed or removed; nor opened or listed, unless it may be read."""
    files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    touched: list[str] = []
    _watched.append((folder.resolve(), touched))
    try:
        yield
    finally:
        _watched.pop()
    assert touched == [] or may_read
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == files


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of private files, with the names that an attack would target."""
    folder = tmp_path / OUTSIDE
    for name in ("x.png", "x.json", "x-rejected.png", "x-rejected.json", "x/mini.jpg", "x.toml"):
        write_picture(folder / f"{name}.png", person(1)).rename(folder / name)
    return folder


def names(outside: Path) -> list[str]:
    """Names that lead to `outside` from a folder of any depth, and names that are invalid."""
    up = [f"{'../' * depth}{OUTSIDE}/x{suffix}" for depth in range(1, 6) for suffix in ("", ".png")]
    return [*up, str(outside / "x"), str(outside / "x.png"), "..", ".", "", "a\0b", "a\x1b[2Jb", "a\nb", "x" * 5000]


def strings(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every text in a JSON value; in lists, only the first entry."""
    if isinstance(value, str):
        yield place
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    ):
        yield from strings(inner, (*place, key))


def replaced(value: Any, place: tuple[str | int, ...], text: str) -> Any:
    """A copy of a JSON value with another text at a path."""
    value = inner = copy.deepcopy(value)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = text
    return value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a plan, its photos and a whole run of it."""
    folder = tmp_path_factory.mktemp("made")
    plan = write_campaign(folder, people=2, styles=("oil",))
    run_campaign(read_plan(plan), folder / "run", local())
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


# --- names


def test_a_file_name_is_one_name(outside: Path) -> None:
    assert [name for name in names(outside) if is_file_name(name)] == []
    for name in ("anna", "Anna Ö", "李娜", "na\u200cme", "x" * 80, "a..b", "v1.5"):
        assert is_file_name(name)


def test_what_lies_below_a_folder_stays_below_it(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(outside)
    (tmp_path / "run" / "circle").symlink_to("circle")
    for name in (*names(outside), "link/x.png", "link", "circle/x", "a//b", "a/./b", "C:/x", "a\\b"):
        if name != "x" * 5000:  # no name of the file system either
            with pytest.raises(InputError):
                below(tmp_path / "run", name)
    assert below(tmp_path / "run", "a/b.png") == tmp_path / "run" / "a" / "b.png"


def test_a_path_lies_within_a_folder_by_its_name_and_by_its_links(tmp_path: Path, outside: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "out").symlink_to(outside)
    (mine / "circle").symlink_to("circle")
    (tmp_path / "alias").symlink_to(mine)
    for path in (mine / "a", mine / "a/../b", mine):
        assert is_within(path, [outside, mine])
    for path in (outside / "x.png", mine / "out", mine / "../outside", mine / "circle" / "x", mine / "a\0b", tmp_path):
        assert not is_within(path, [mine])
    assert is_within(mine / "a", [tmp_path / "alias"])


# --- a run's folder


def use(run: Path, export: Path) -> list[str]:
    """Do everything that can be done with a finished run; return the errors."""
    complaints = []
    actions: list[Callable[[], object]] = [
        lambda: drift_page(run),
        lambda: export_run(run, export),
        lambda: prune_run(run, rejected=True),
    ]
    for action in actions:
        try:
            action()
        except PortraitError as error:
            complaints.append(str(error))
    return complaints


JOB_TEXTS = ("subject", "recipe", "style", "stem", "output", "key", "state", "axes")


@pytest.mark.parametrize("column", JOB_TEXTS)
def test_no_text_of_a_job_leads_out_of_the_run(run: Path, tmp_path: Path, outside: Path, column: str) -> None:
    for name in names(outside)[2::3]:
        with database(run) as connection:
            before = connection.execute(f"SELECT id, {column} FROM jobs").fetchall()
            connection.execute(f"UPDATE OR IGNORE jobs SET {column} = ?", (name,))
            connection.execute("UPDATE meta SET value = 'false' WHERE name = 'finalized'")
        with untouched(outside):
            use(run, tmp_path / "export")
        with database(run) as connection:
            connection.executemany(
                f"UPDATE jobs SET {column} = ? WHERE id = ?", [(value, job) for job, value in before]
            )


@pytest.mark.parametrize("column", ["name", "photos", "columns", "failure", "embeddings"])
def test_no_text_of_a_person_leads_out_of_the_run(run: Path, tmp_path: Path, outside: Path, column: str) -> None:
    for name in names(outside)[2::3]:
        text = json.dumps([{"path": name, "sha256": "0"}]) if column == "photos" else name
        with database(run) as connection:
            before = connection.execute(
                f"SELECT rowid, * FROM (SELECT name, {column} FROM subjects LIMIT 1)"
            ).fetchone()
            connection.execute(f"UPDATE subjects SET {column} = ? WHERE name = ?", (text, before[1]))
        with untouched(outside):
            use(run, tmp_path / "export")
        with database(run) as connection:
            now = name if column == "name" else before[1]
            connection.execute(f"UPDATE subjects SET {column} = ? WHERE name = ?", (before[2], now))


def test_no_text_of_a_picture_s_record_leads_out_of_the_run(run: Path, tmp_path: Path, outside: Path) -> None:
    with database(run) as connection:
        job, text = connection.execute("SELECT job, record FROM results LIMIT 1").fetchone()
    record = json.loads(text)
    for place in strings(record):
        for name in names(outside)[3:4]:
            with database(run) as connection:
                connection.execute(
                    "UPDATE results SET record = ? WHERE job = ?", (json.dumps(replaced(record, place, name)), job)
                )
            with untouched(outside), suppress(PortraitError):
                read_run(run)
                export_run(run, tmp_path / "export")


@pytest.mark.parametrize("link", ["pictures", "before", "report", FILE, f"{FILE}-wal", "lock.sqlite", "pictures/p00"])
def test_no_link_leads_out_of_the_run(run: Path, tmp_path: Path, outside: Path, link: str) -> None:
    place = run / link
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(outside if "sqlite" not in link else outside / "x.png")
    with untouched(outside):
        use(run, tmp_path / "export")
        assert main(["drift", str(run), "--quiet"]) in (0, 1, 2)


def test_a_ledger_that_names_files_elsewhere_is_refused_in_one_line(
    run: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with database(run) as connection:
        connection.execute("UPDATE jobs SET stem = '../../outside/x'")
    with pytest.raises(CampaignError, match="names files that no run would create"), untouched(outside):
        read_run(run)
    assert main(["drift", str(run)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# --- recipes, styles, plans


def test_no_text_of_a_recipe_leads_out_of_its_folder(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "base").mkdir()
    table = {
        "extends": "mini", "name": "own", "title": "t", "base": "base", "adapter": "a.safetensors", "structure": "none",
        "recognizer": "w600k_mbf", "negative_prompt": "", "styles": ["oil"], "family": "sd15", "control": "",
        "scheduler": "", "timestep_spacing": "", "prompts": "short",
    }  # fmt: skip
    (tmp_path / "own.toml").write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items()))
    assert load_recipe(str(tmp_path / "own.toml")).name == "own"
    for place in strings(table):
        for name in names(outside):
            text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in replaced(table, place, name).items())
            (tmp_path / "own.toml").write_text(text)
            with untouched(outside, may_read=place == ("extends",)):
                try:
                    recipe = load_recipe(str(tmp_path / "own.toml"))
                except PortraitError:
                    continue
            assert is_file_name(recipe.name)


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a\x1bb", "x" * 300, ""])
def test_no_style_is_named_like_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("PORTRAIT_CONFIG", str(tmp_path))
    (tmp_path / "styles.toml").write_text(f'[{json.dumps(name)}]\ntitle = "x"\nprompt = "x"\n')
    with pytest.raises(SettingsError, match="must be a name that a file can have"):
        styles()


FILES_OF_A_PLAN = ("subjects", "recipes", "thresholds", "curves", "base", "keep", "background", "face", "lora")
"""The files that a plan names to be read."""


def test_no_text_of_a_plan_is_written_to(tmp_path: Path, outside: Path) -> None:
    for n in range(2):
        write_picture(tmp_path / "people" / f"p{n}.png", person(n))
    write_limits(tmp_path / "limits.json")
    settings = {"threads": 1, "max_attempts": 1, "thresholds": "limits.json", "prompt": "p", "format": "png"}
    table = {
        "name": "n", "subjects": "people", "recipes": ["mini"], "styles": ["oil"], "sizes": ["square"],
        "axes": {"mood": ["calm"]}, "settings": settings,
    }  # fmt: skip
    for place in strings(table):
        for name in [n for n in names(outside) if place[0] != "axes" or len(n) < 99][
            :: 1 if place[0] != "subjects" else 3
        ]:
            changed = replaced(table, place, name)
            changed["axes"] = {"mood": changed["axes"]["mood"]}
            lines = [
                f"{key} = {json.dumps(changed[key])}" for key in ("name", "subjects", "recipes", "styles", "sizes")
            ]
            for section in ("axes", "settings"):
                lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in changed[section].items())]
            (tmp_path / "campaign.toml").write_text("\n".join(lines))
            files = sorted(path for path in tmp_path.iterdir())
            may_read = place[-1] in FILES_OF_A_PLAN or place[0] in FILES_OF_A_PLAN
            with untouched(outside, may_read=may_read), suppress(PortraitError):
                run_campaign(read_plan(tmp_path / "campaign.toml"), tmp_path / "run", local(), accept_changes=True)
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            assert sorted(path for path in tmp_path.iterdir()) == [p for p in files if p.name != "run"]


# --- records, reports, thresholds, curves


def test_no_text_of_a_record_is_opened(made: Path, outside: Path) -> None:
    file = next((made / "run" / "pictures").rglob("*.json"))
    record = json.loads(file.read_text())
    for place in strings(record):
        for name in names(outside):
            with untouched(outside), suppress(PortraitError):
                read = read_record(json.dumps(replaced(record, place, name)), "it")
                assert "\x1b" not in explain(read)
                if isinstance(read, PortraitRecord):
                    read.parameters_text()


def test_no_text_of_a_record_is_opened_to_replay_it(
    made: Path, tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("portrait.cli.records.load_loop", Load())
    file = Path(shutil.copy(next((made / "run" / "pictures").rglob("*.json")), tmp_path / "record.json"))
    record = json.loads(file.read_text())
    assert main(["replay", str(file)]) == 2
    assert f"add: --files {made / 'people'}" in capsys.readouterr().err
    assert main(["replay", str(file), "--files", str(made)]) == 0
    record["input"]["references"] = record["input"]["masks"] = [{"path": "x", "sha256": "0"}]
    record["settings"] |= {"keep": ["mask:x"], "background": "x.png", "base": "x.safetensors", "lora": ["x:1"]}
    shutil.copy(made / "people" / "p00.png", tmp_path)
    for place in strings(record):
        for name in names(outside)[3:4]:
            text = f"mask:{name}" if place == ("settings", "keep", 0) else name
            file.write_text(json.dumps(replaced(record, place, text)))
            with untouched(outside):
                assert main(["replay", str(file)]) == 2
            assert capsys.readouterr().err.count("\n") == 1


def test_no_plan_of_a_ledger_is_opened_to_retry_it(
    made: Path, run: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with database(run) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'plan_path'", (json.dumps(str(outside / "x.toml")),))
    with untouched(outside):
        assert main(["campaign", "retry", str(run), "--failed"]) == 1
    assert f"if it is yours, add: --plan {outside / 'x.toml'}" in capsys.readouterr().err
    monkeypatch.setattr("portrait.cli.campaign.LocalEngine", lambda: local()(1))
    assert main(["campaign", "retry", str(run), "--failed", "--plan", str(made / "campaign.toml"), "--quiet"]) == 0


def test_no_text_of_a_baseline_is_opened(made: Path, tmp_path: Path, outside: Path) -> None:
    run = read_run(made / "run")
    values = compute_report(run).dump()
    plain_values = {key: values[key] for key in ("run", "licenses", "people", "jobs", "verification")}
    for place in strings(plain_values):
        for name in names(outside)[3:4]:
            (tmp_path / "baseline.json").write_text(json.dumps(values | replaced(plain_values, place, name)))
            with untouched(outside), suppress(PortraitError):
                render_page(compute_report(run, read_baseline(tmp_path / "baseline.json")), made / "run")


def test_no_text_of_thresholds_and_curves_is_opened(tmp_path: Path, outside: Path) -> None:
    recipe = load_recipe("mini")
    curves = as_table(default_curves(recipe.knobs_at(0.5), ["arcface", "dlib"], recipe.family_facts)).model_dump(
        mode="json"
    )
    weights = {"unet": "0"}
    tables = {
        "thresholds": json.loads(write_limits(tmp_path / "limits.json").read_text()) | {"weights": weights},
        "curves": {"weights": weights, "base": asdict(recipe.knobs_at(0.5)), "styles": {"oil": curves}},
    }
    for kind, table in tables.items():
        for place in strings(table):
            for name in names(outside):
                file = tmp_path / f"{kind}.json"
                file.write_text(json.dumps(replaced(table, place, name)))
                with untouched(outside), suppress(PortraitError):
                    if kind == "thresholds":
                        thresholds_for("mini", "oil", 0.001, file, weights)
                    else:
                        curves_for(recipe, "oil", ["arcface", "dlib"], weights, file)
                with untouched(outside), suppress(PortraitError):
                    thresholds_for("mini", name, 0.001, file)


def test_the_ledger_of_a_run_opens_as_before(run: Path) -> None:
    with Ledger.open(run) as ledger:
        assert ledger.counts().done == 2


# --- photos that change hands, and photos that are not there


def swap(folder: Path, first: str, second: str) -> None:
    (folder / first).rename(folder / "swap")
    (folder / second).rename(folder / first)
    (folder / "swap").rename(folder / second)


def test_photos_exchanged_between_two_people_are_noticed(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    plan = folder / "campaign.toml"
    run_campaign(read_plan(plan), folder / "run", local())
    swap(folder / "people", "p00.png", "p01.png")
    with pytest.raises(PlanChangedError, match="p00 has the photo that p01 had, p01 has the photo that p00 had"):
        run_campaign(read_plan(plan), folder / "run", local())
    swap(folder / "people", "p00.png", "p01.png")
    run_campaign(read_plan(plan), folder / "run", local())


def test_a_renamed_person_is_reported(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    run_campaign(read_plan(folder / "campaign.toml"), folder / "run", local(), accept_changes=True)
    (folder / "people" / "p00.png").rename(folder / "people" / "anna.png")
    run_campaign(read_plan(folder / "campaign.toml"), folder / "run", local())
    assert "anna has the photo that p00 had" in caplog.text


def test_photos_that_are_not_there_at_a_resume_are_counted_and_nothing_is_dropped(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    plan = folder / "campaign.toml"
    run_campaign(read_plan(plan), folder / "run", local(), accept_changes=True)
    (folder / "people" / "p00.png").rename(tmp_path / "p00.png")
    with pytest.raises(CampaignError, match="1 photo of .* not found: .*p00.png") as error:
        run_campaign(read_plan(plan), folder / "run", local())
    assert "accept-changes" not in str(error.value)
    (tmp_path / "p00.png").rename(folder / "people" / "p00.png")
    with Ledger.open(folder / "run") as ledger:
        assert ledger.counts().done == 2


@pytest.mark.parametrize("is_there", [True, False], ids=["an empty folder", "no folder"])
def test_all_photos_are_counted_where_their_folder_is_not_mounted(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_there: bool
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    command = ["campaign", "run", str(folder / "campaign.toml"), "-o", str(folder / "run"), "--quiet"]
    run_campaign(read_plan(folder / "campaign.toml"), folder / "run", local(), accept_changes=True)
    (folder / "people").rename(tmp_path / "not mounted")
    if is_there:
        (folder / "people").mkdir()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert re.search(r"2 photos of .* not found: .*p00.png, .*p01.png; mount the folder", error)
    assert "accept-changes" not in error
    assert main([*command[:4], str(tmp_path / "a new run")]) == 2
    assert "subjects" in capsys.readouterr().err


@pytest.mark.parametrize("listed", [False, True], ids=["a folder", "a list"])
def test_photos_that_are_not_where_a_run_was_copied_to_are_counted_though_the_old_ones_are_there(
    made: Path, tmp_path: Path, listed: bool
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    (folder / "people" / "p00.png").unlink()
    plan = folder / "campaign.toml"
    if listed:
        photos = json.dumps([f"people/p{n:02}.png" for n in range(2)])
        plan.write_text(plan.read_text().replace('"people"', photos))
    place = re.escape(str(folder / "people" / "p00.png"))
    with pytest.raises(CampaignError, match=f"1 photo of .* not found: {place}; mount the folder") as error:
        run_campaign(read_plan(plan), folder / "run", local())
    assert "accept-changes" not in str(error.value)


# --- exports


def test_an_export_never_replaces_that_of_another_run_or_a_file_of_the_user(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    exported = export_run(run, out)
    assert export_run(run, out).files == exported.files
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with database(run) as connection:
        connection.execute("UPDATE meta SET value = '\"another\"' WHERE name = 'id'")
    with pytest.raises(SettingsError, match="not from this run; name another folder"):
        export_run(run, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.csv").write_text("file,price\nletter.txt,3\n")
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not from this run"):
        export_run(run, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "mine"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


def test_columns_of_the_subjects_that_are_named_like_ours_stand_beside_ours(run: Path, tmp_path: Path) -> None:
    columns = {"seed": "theirs", "=1+1": "\n=cmd()", "team": "＝x"}
    with database(run) as connection:
        connection.execute("UPDATE subjects SET columns = ?", (json.dumps(columns),))
    manifest = export_run(run, tmp_path / "export").manifest
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["seed (of the subjects)"] for row in rows} == {"theirs"}
    assert all(row["seed"].isdigit() for row in rows)
    assert {row["'=1+1"] for row in rows} == {"'\n=cmd()"}
    assert {row["team"] for row in rows} == {"'＝x"}


# --- files that are none, numbers that are none, words that steer a terminal


def test_devices_and_pipes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (Path("/dev/zero"), Path("/dev/null"), tmp_path / "pipe.jpg"):
        with pytest.raises(ImageReadError, match="a device or a pipe"):
            read_photo(path)
    with (tmp_path / "hole.jpg").open("wb") as file:
        file.truncate(3 * 10**9)
    with pytest.raises(ImageReadError, match="more than 2.0 GB"):
        read_photo(tmp_path / "hole.jpg")


@pytest.mark.parametrize(
    "command",
    [
        "stylize PHOTO --style oil -o OUT --settings DEVICE",
        "stylize PHOTO --style oil -o OUT --thresholds DEVICE",
        "stylize PHOTO --style oil -o OUT --face like:DEVICE",
        "campaign plan DEVICE",
        "campaign plan PLAN",
        "drift RUN --baseline DEVICE",
        "explain DEVICE",
        "replay DEVICE",
        "inspect DEVICE",
        "inspect PHOTO --trust DEVICE",
        "recipes DEVICE",
        "calibrate --subjects PEOPLE --only DEVICE",
    ],
)
def test_no_command_reads_a_device(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """/dev/null stands for those that never end."""
    for name in ("device.toml", "device.csv"):
        (tmp_path / name).symlink_to("/dev/null")
    (tmp_path / "plan.toml").write_text('subjects = "device.csv"\nstyles = ["oil"]\n')
    words = {
        "PHOTO": str(made / "people" / "p00.png"),
        "PEOPLE": str(made / "people"),
        "RUN": str(made / "run"),
        "PLAN": str(tmp_path / "plan.toml"),
        "OUT": str(tmp_path / "out"),
    }
    device = str(tmp_path / "device.toml")
    argv = [word.replace("DEVICE", device) if "DEVICE" in word else words.get(word, word) for word in command.split()]
    assert main(argv) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "it is a device or a pipe, not a file" in errors


@pytest.mark.parametrize(
    "command", ["stylize NAME --style oil", "faces NAME", "inspect NAME", "campaign run NAME -o run"]
)
def test_a_name_that_no_file_can_have_is_one_line(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(command.replace("NAME", "y" * 300 + ".png").split()) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "File name too long" in errors


def test_a_jpeg_that_is_drawn_again_and_again_is_refused(tmp_path: Path) -> None:
    """100 KB of scans would take a minute to decode."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "few.jpg").write_bytes(data[:-2] + last * 50 + data[-2:])
    assert read_photo(tmp_path / "few.jpg").pixels.shape == (64, 64, 3)
    (tmp_path / "many.jpg").write_bytes(data[:-2] + last * 500 + data[-2:])
    with pytest.raises(ImageReadError, match="has more than 200 scans, which no photo has"):
        read_photo(tmp_path / "many.jpg")
    assert main(["inspect", str(tmp_path / "many.jpg")]) == 2


def test_a_picture_of_a_stranger_s_run_that_is_drawn_again_and_again_is_an_empty_frame(run: Path) -> None:
    """The page decodes pictures like anything else that may come from somebody else."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    picture = next((run / "pictures").rglob("*.png"))
    picture.write_bytes(data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 500 + data[-2:])
    assert drift_page(run).count('<span class="none">') == 1


def test_a_jpeg_of_nothing_but_headers_is_refused() -> None:
    """Each costs a step in Python, both in Pillow and in the check, whatever length it states."""
    for length in (b"\0\0", b"\0\2", b"\0\4me"):
        with pytest.raises(ImageReadError, match="has more than 10000 segments, which no photo has"):
            decode_photo(b"\xff\xd8" + (b"\xff\xe1" + length) * 11_000, "headers.jpg")


def test_a_large_jpeg_may_be_drawn_less_often_than_a_small_one() -> None:
    """30 scans of 120 megapixels take seconds; 200 would take a minute."""
    buffer = io.BytesIO()
    Image.new("L", (1024, 1024)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    data = data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 40 + data[-2:]
    size = data.index(b"\xff\xc2") + 5
    large = data[:size] + (10_000).to_bytes(2, "big") * 2 + data[size + 4 :]
    with pytest.raises(ImageReadError, match="has 46 scans, which no photo of its size has"):
        decode_photo(large, "large.jpg")


def test_a_tiff_whose_tags_share_their_bytes_is_refused_at_once() -> None:
    """Of 60 KB like these Pillow would make 64 MB, of 1 MB tens of gigabytes."""
    block = bytes(16_000)
    entries = b"".join(struct.pack("<HHII", 1000 + i, 4, len(block) // 4, 8) for i in range(900))
    page = struct.pack("<H", 900) + entries + bytes(4)
    with pytest.raises(ImageReadError, match="it has no page that can be read"):
        decode_photo(b"II*\0" + struct.pack("<I", 8 + len(block)) + block + page, "shared.tif")


def exif_block(entries: bytes, block: bytes, page: int = 0, head: bytes = b"II*\0") -> bytes:
    """An EXIF block with tags behind some bytes; with `page`, they are in the page of that tag."""
    start, count = 8 + len(block), len(entries) // 12
    if not page:
        return head + struct.pack("<I", start) + block + struct.pack("<H", count) + entries + bytes(4)
    inner = struct.pack("<H", count) + entries + bytes(4)
    outer = struct.pack("<HHHII", 1, page, 4, 1, start) + bytes(4)
    return head + struct.pack("<I", start + len(inner)) + block + inner + outer


def shared_tags(count: int, size: int) -> bytes:
    """Tags that all have the first bytes of the block."""
    return b"".join(struct.pack("<HHII", 50_000 + i, 1, size, 8) for i in range(count))


def with_exif(kind: str, exif: bytes) -> bytes:
    """A red picture of 64 x 48 pixels with an EXIF block."""
    buffer = io.BytesIO()
    harmless = b"II*\0\x08" + bytes(len(exif) - 5)  # what Pillow reads when it writes an AVIF
    written = harmless if kind == "AVIF" else b"Exif\0\0" + exif
    Image.new("RGB", (64, 48), "red").save(buffer, kind, exif=written)
    return buffer.getvalue().replace(harmless, exif)


@contextmanager
def at_most_megabytes(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit * 1e6
    finally:
        tracemalloc.stop()


BLOCK = bytes(32_000)
SHARED = shared_tags(2000, len(BLOCK))
HEADS = {"TIFF": b"II*\0", "version in the wrong order": b"II\0*", "prefixed twice": b"Exif\0\0Exif\0\0II*\0"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF"])
@pytest.mark.parametrize("page", [0, 0x8769], ids=["first page", "page of the camera"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_an_exif_block_whose_tags_share_their_bytes_is_ignored(kind: str, page: int, head: bytes) -> None:
    """Pillow copies the bytes of each tag: 64 MB for 60 KB, and gigabytes for a megabyte."""
    data = with_exif(kind, exif_block(SHARED, BLOCK, page, head))
    with at_most_megabytes(20):
        assert decode_photo(data, "shared").pixels.shape == (48, 64, 3)


def test_an_avif_with_such_a_block_is_refused() -> None:
    """Pillow reads the block when it opens the file."""
    data = with_exif("AVIF", exif_block(SHARED, BLOCK))
    with at_most_megabytes(20), pytest.raises(ImageReadError, match="or tags that share their bytes, as in no photo"):
        decode_photo(data, "shared.avif")
    assert decode_photo(with_exif("AVIF", exif_block(SHARED[:12], BLOCK)), "one.avif").pixels.shape == (48, 64, 3)


def test_a_tiff_with_such_a_page_below_its_page_is_refused(tmp_path: Path) -> None:
    """Pillow reads the page of the camera when it has read the pixels."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((48, 64, 3), np.uint8), photometric="rgb", extratags=[(50_000, "I", 1, 0, True)])
    data, other = buffer.getvalue(), struct.pack("<HHII", 50_000, 4, 1, 0)
    assert data.count(other) == 1
    data = data.replace(other, struct.pack("<HHII", 0x8769, 4, 1, len(data) + len(BLOCK)))
    data += BLOCK + struct.pack("<H", 2000) + SHARED + bytes(4)
    (tmp_path / "below.tif").write_bytes(data)
    with at_most_megabytes(20):
        with pytest.raises(ImageReadError, match="it has no page that can be read"):
            read_photo(tmp_path / "below.tif")
        assert main(["inspect", str(tmp_path / "below.tif")]) == 2


def packed_zeros(megabytes: int) -> bytes:
    """A deflate stream of so many megabytes of zeros; its checksum is wrong."""
    packing = zlib.compressobj()
    megabyte = packing.compress(bytes(1_000_000)) + packing.flush(zlib.Z_FULL_FLUSH)
    return megabyte[:2] + megabyte[2:] * megabytes + b"\3\0" + bytes(4)


def test_a_strip_of_a_tiff_that_unpacks_to_more_than_its_samples_is_refused() -> None:
    """Without imagecodecs tifffile holds all of it."""
    buffer = io.BytesIO()
    values = np.zeros((16, 16, 3), np.float32)
    tifffile.imwrite(buffer, values, photometric="rgb", compression="zlib")
    assert decode_photo(buffer.getvalue(), "float.tif").pixels.shape == (16, 16, 3)
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        tags = file.pages[0].tags  # type: ignore[union-attr]
        places = [(tags[name].valueoffset, tags[name].value[0]) for name in ("StripOffsets", "StripByteCounts")]
    data, bomb = bytearray(buffer.getvalue()), packed_zeros(100)
    for (place, value), new in zip(places, (len(data), len(bomb)), strict=True):
        assert struct.unpack_from("<I", data, place)[0] == value
        data[place : place + 4] = struct.pack("<I", new)
    with (
        at_most_megabytes(30),
        pytest.raises(ImageReadError, match="a strip or tile unpacks to more than its samples"),
    ):
        decode_photo(bytes(data) + bomb, "bomb.tif")


def test_a_picture_in_tiles_far_larger_than_itself_is_refused(tmp_path: Path) -> None:
    """A tile is decoded whole: 16 x 16 pixels in a megabyte would take a gigabyte."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((16, 16, 3), np.uint8), photometric="rgb", tile=(48, 32))
    data = buffer.getvalue()
    assert decode_photo(data, "tiles.tif").pixels.shape == (16, 16, 3)
    sides = struct.pack("<HHII", 322, 4, 1, 20_000), struct.pack("<HHII", 323, 4, 1, 20_000)
    for tag, old, new in zip((322, 323), (32, 48), sides, strict=True):
        written = next(entry for kind in (3, 4) if (entry := struct.pack("<HHII", tag, kind, 1, old)) in data)
        data = data.replace(written, new)
    (tmp_path / "tiles.tif").write_bytes(data)
    with pytest.raises(ImageReadError, match="tiles.tif has 20000 x 20000 pixels: more than the limit of 120 million"):
        read_photo(tmp_path / "tiles.tif")
    assert main(["inspect", str(tmp_path / "tiles.tif")]) == 2


def test_a_picture_of_one_endless_row_is_refused() -> None:
    """Each jump among the run lengths of a BMP takes up to 255 rows: 25 GB for a file of a kilobyte."""
    jumps, start = b"\0\2\0\xff" * 3 + b"\0\1", 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, 100_000_000, 1, 1, 8, 1, len(jumps), 0, 0, 256, 0)
    data = b"BM" + struct.pack("<IHHI", start + len(jumps), 0, 0, start) + header + bytes(1024) + jumps
    with pytest.raises(ImageReadError, match="row.bmp has 100000000 x 1 pixels: far too narrow; use a part of it"):
        decode_photo(data, "row.bmp")


def test_a_file_without_a_suffix_costs_no_more_than_a_photo(tmp_path: Path) -> None:
    """Whether it is one is asked by opening it."""
    (tmp_path / "photo").write_bytes(with_exif("AVIF", exif_block(SHARED, BLOCK)))
    with at_most_megabytes(20):
        assert "photo (no suffix, and what is inside has too many tags" in describe(photos_in(tmp_path)[1])


def test_an_exif_block_of_many_bytes_still_turns_the_photo() -> None:
    """A maker's note of 200 KB, as cameras write it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x927C] = bytes(200_000)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, "WebP", exif=exif)
    assert decode_photo(buffer.getvalue(), "turned.webp").pixels.shape == (64, 48, 3)


def test_the_film_behind_a_photo_is_no_part_of_it(tmp_path: Path) -> None:
    """Like motion photos from phones. Megabytes of video contain, by chance, hundreds of markers that start a scan."""
    photo = tmp_path / "motion.jpg"
    Image.new("RGB", (64, 64), "red").save(photo, "JPEG")
    photo.write_bytes(photo.read_bytes() + b"\xff\xda" * 500)
    assert read_photo(photo).pixels.shape == (64, 64, 3)


def encoded(kind: str, values: RgbImage) -> bytes:
    """A picture in one of the formats that need the most memory to decode."""
    buffer = io.BytesIO()
    deep = values.astype(np.uint16) * 257
    if kind == "TIFF of floats":
        tifffile.imwrite(buffer, (values / 255).astype(np.float32), photometric="rgb")
    elif kind == "TIFF of 16 bits with alpha":
        tifffile.imwrite(buffer, np.dstack([deep, deep[..., :1]]), photometric="rgb", extrasamples=["assocalpha"])
    elif kind == "PNG of 16 bits":
        return cv2.imencode(".png", deep, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    elif kind == "HEIC of 10 bits":
        heif = pillow_heif.from_bytes("RGB;16", deep.shape[1::-1], deep.tobytes())
        heif.save(buffer, color_primaries=9, transfer_characteristics=16, matrix_coefficients=9, full_range_flag=1)
    else:
        Image.fromarray(values).convert("CMYK" if "CMYK" in kind else "RGB").save(buffer, kind[:4], progressive=True)
    return buffer.getvalue()


KINDS = {
    "JPEG": 0,
    "JPEG CMYK": 0,
    "PNG of 16 bits": 0,
    "TIFF of floats": 0,
    "TIFF of 16 bits with alpha": 0,
    "HEIC of 10 bits": 24_000_000,
}
"""Kind -> bytes that its decoder may take whatever the size of the picture; for HEIC about 15 MB were measured."""


PEAK_BYTES = """
import ctypes, re, sys
from pathlib import Path
from portrait.images.decode import decode_photo

def kilobytes(name):
    return int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

small, photo = (Path(name).read_bytes() for name in sys.argv[1:])
decode_photo(small, "small")  # what a library takes once is not the photo's
peaks = []
for _ in range(3):  # a system short of memory takes pages away, which count when they come back
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is used again would not count
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = kilobytes("VmRSS")
    assert decode_photo(photo, "photo").pixels.shape == (1000, 1500, 3)
    peaks.append(1024 * (kilobytes("VmHWM") - before))
print(min(peaks))
"""
"""Prints the bytes that decoding takes, in a process of its own: what ran there before would count."""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="needs Linux with glibc, which tell a process its peak and give memory back",
)
@pytest.mark.parametrize(("kind", "fixed"), KINDS.items())
def test_decoding_takes_at_most_30_bytes_a_pixel_beside_the_file(kind: str, fixed: int, tmp_path: Path) -> None:
    y, x = np.mgrid[0:1000, 0:1500]
    values = RgbImage(np.stack([x // 6, y // 4, (x + y) % 256], -1).astype(np.uint8))
    (tmp_path / "photo").write_bytes(encoded(kind, values))
    (tmp_path / "small").write_bytes(encoded(kind, RgbImage(values[:64, :64].copy())))
    command = [sys.executable, "-c", PEAK_BYTES, str(tmp_path / "small"), str(tmp_path / "photo")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(told) < 30 * 1000 * 1500 + fixed


@pytest.mark.parametrize("hours", ["inf", "nan", "-inf"])
def test_a_budget_that_is_no_number_is_refused(made: Path, tmp_path: Path, hours: str) -> None:
    plan = tmp_path / "campaign.toml"
    people = json.dumps(str(made / "people"))
    plan.write_text(f"subjects = {people}\n[budget]\nhours = {hours}\n")
    with pytest.raises(SettingsError, match=r"\[budget\] hours must be a"):
        read_plan(plan)


def test_a_message_is_one_line_that_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "no\x1b[2J\nsuch\x07file"]) == 2
    assert capsys.readouterr().err == "portrait: cannot read no\\x1b[2J\\nsuch\\x07file: No such file or directory\n"


def test_of_a_damaged_photo_only_our_own_line_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Pillow and tifffile log what they stumble over."""
    data = bytearray(encoded("TIFF of floats", RgbImage(np.zeros((8, 8, 3), np.uint8))))
    at = data.index(b"\x11\x01")
    data[at + 2 : at + 4] = b"\0\x09"  # a type that is none
    (tmp_path / "bad.tif").write_bytes(data)
    assert main(["stylize", str(tmp_path / "bad.tif"), "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.tif is damaged or truncated: missing data offset" in line
    assert caplog.records == []


def test_what_is_printed_of_a_stranger_s_run_cannot_steer_a_terminal(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2J[bold]\u202e"
    with database(run) as connection:
        connection.execute("UPDATE attempts SET accepted = 0, reasons = ?", (json.dumps([evil]),))
        connection.execute("UPDATE jobs SET recipe = ?, style = ?", (evil, evil))
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('alike', ?)", (json.dumps([[evil, "b"]]),))
        connection.execute("UPDATE subjects SET failure = ?", (evil,))
    assert main(["campaign", "status", str(run)]) == 0
    output = capsys.readouterr().out
    assert output.count("\\x1b[2J[bold]\\u202e") >= 5
    assert "\x1b" not in output
    assert "\u202e" not in output


def test_lines_of_a_log_cannot_steer_a_terminal() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s has\na photo", ("\x1b[2J\x07",), None)
    assert LogLines("%(message)s").format(record) == "\\x1b[2J\\x07 has\na photo"


# --- any mutation of a file is one line


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value in which one entry, at any depth, is changed or removed."""
    value = copy.deepcopy(value)
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = rng.choice(keys)
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
            holder = inner
        elif rng.random() < 0.2:
            del holder[key]
            return value
        else:
            holder[key] = rng.choice(
                [None, "", "x" * 999, "\x1b\n\0", -1, 0, 2**70, 1e308, -0.5, math.nan, True, [], {}, [[]]]
            )
            return value


def outcomes(texts: list[Any], read: Callable[[Any], object]) -> tuple[int, list[str]]:
    """How many texts were refused in one line, and the other errors that were raised."""
    refused, tracebacks = 0, []
    for text in texts:
        try:
            read(text)
        except PortraitError:
            refused += 1
        except Exception as error:
            tracebacks.append(f"{type(error).__name__}: {error}"[:200])
    return refused, tracebacks


def test_no_mutation_of_a_json_is_a_traceback(made: Path, tmp_path: Path) -> None:
    rng, file = random.Random(7), tmp_path / "file.json"
    run = read_run(made / "run")
    recipe, weights = load_recipe("mini"), {"unet": "0"}
    curves = as_table(default_curves(recipe.knobs_at(0.5), ["arcface", "dlib"], recipe.family_facts)).model_dump(
        mode="json"
    )
    report = compute_report(run).dump()

    def in_file(read: Callable[[], object]) -> Callable[[str], object]:
        def write_and_read(text: str) -> object:
            file.write_text(text)
            return read()

        return write_and_read

    kinds: list[tuple[dict[str, Any], Callable[[str], object]]] = [
        (
            json.loads(next((made / "run" / "pictures").rglob("*.json")).read_text()),
            lambda text: explain(read_record(text)),
        ),
        (report, in_file(lambda: compute_report(run, read_baseline(file)))),
        (
            json.loads(write_limits(tmp_path / "limits.json").read_text()) | {"weights": weights},
            in_file(lambda: thresholds_for("mini", "oil", 0.01, file, weights)),
        ),
        (
            {"weights": weights, "base": asdict(recipe.knobs_at(0.5)), "styles": {"oil": curves}},
            in_file(lambda: curves_for(recipe, "oil", ["arcface", "dlib"], weights, file)),
        ),
    ]
    for value, read in kinds:
        texts = [json.dumps(mutated(value, rng)) for _ in range(60)]
        whole = json.dumps(value)
        texts += [whole[: rng.randrange(len(whole))] for _ in range(5)]
        texts += ["", "[]", "null", "{}", "[" * 100_000, '{"a":' * 100_000, "\ud800".encode(errors="replace").decode()]
        refused, tracebacks = outcomes(texts, read)
        assert tracebacks == []
        assert refused > 10


def changed_text(text: str, rng: random.Random) -> str:
    """A text with a part removed, inserted or doubled at a random place."""
    start = rng.randrange(len(text))
    end = start + rng.choice([0, 1, 3, 20])
    inserted = rng.choice(
        ['"', "[", "{", "\n[a]\n", "= 1e999", "nan", "9" * 5000, "\0\x1b", text[start : start + 30], ""]
    )
    return text[:start] + inserted + text[end:]


BROKEN = (
    "",
    "[]",
    "1",
    "\0",
    "a = " + "9" * 6000,
    "[" * 50_000,
    "a = " + "[" * 50_000,
    '{"a":' + "9" * 6000 + "}",
    "[[" * 999,
)


def test_no_change_of_a_text_is_a_traceback(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TOML, CSV and lines of JSON, as bytes of a file."""
    monkeypatch.setenv("PORTRAIT_CONFIG", str(tmp_path))
    rng, folder = random.Random(7), made / "texts"
    folder.mkdir()
    header = {"people": ["a"], "weights": {"unet": "0"}}
    journal = "".join(json.dumps(line) + "\n" for line in (header, {"key": ["oil", "a", False, 1], "v": 1}))
    (tmp_path / "base").mkdir()
    recipe = 'extends = "mini"\nname = "own"\nbase = "base"\nstyles = ["oil"]\n[[balance]]\nat = 0.0\nstrength = 0.5\n'
    texts: list[tuple[str, str, Callable[[Path], object]]] = [
        ("settings.toml", 'style = ["oil"]\nstop = "best"\nbalance = 0.5\n', lambda file: settings_from({}, file)),
        ("plan.toml", (made / "campaign.toml").read_text().replace('"people"', '"../people"'), read_plan),
        ("own.toml", recipe, lambda file: load_recipe(str(file))),
        ("styles.toml", '[own]\ntitle = "t"\nprompt = "p"\n', lambda file: file.replace(tmp_path / file.name) and styles()),
        ("people.csv", "photo,subject\n../people/p00.png,anna\n", lambda file: read_people(file.name, folder)),
        ("groups.csv", "person,sex\nanna,f\n", calibrate._groups),
        ("journal.jsonl", journal, lambda file: Journal(file, header)),
        ("limits.json", (made / "limits.json").read_text(), lambda file: combine_tables([read_thresholds(file)])),
    ]  # fmt: skip
    for name, text, read in texts:

        def written(changed: str, name: str = name, read: Callable[[Path], object] = read) -> object:
            (folder / name).write_bytes(changed.encode())
            return read(folder / name)

        refused, tracebacks = outcomes([*(changed_text(text, rng) for _ in range(60)), *BROKEN], written)
        assert tracebacks == []
        assert refused >= 5


def test_no_value_of_a_ledger_is_a_traceback(
    run: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(7)
    whole = (run / FILE).read_bytes()
    with database(run) as connection:
        names = {
            table: [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
            for table in ("meta", "subjects", "jobs", "attempts", "results")
        }
    values = [
        None,
        "",
        "[]",
        "x",
        "\x1b[2J",
        '{"a": 1}',
        -1,
        2**62,
        1.5,
        b"\xff",
        '[["a", "b"]]',
        '{"arcface": "AAAA"}',
    ]
    for _ in range(20):
        table = rng.choice(list(names))
        with database(run) as connection, suppress(sqlite3.IntegrityError):
            column = rng.choice(names[table])
            connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (rng.choice(values),))
        command = rng.choice(
            [
                ["campaign", "status", str(run)],
                ["campaign", "status", str(run), "--json"],
                ["campaign", "export", str(run), "-o", str(tmp_path / "export")],
                ["drift", str(run), "--baseline", str(made / "run"), "--quiet"],
            ]
        )
        code = main(command)
        output = capsys.readouterr()
        assert output.err.count("\n") == (1 if output.err else 0)
        assert bool(output.err) or code in (0, 1)
        assert "\x1b" not in output.out + output.err
        for suffix in ("-wal", "-shm"):
            (run / f"{FILE}{suffix}").unlink(missing_ok=True)
        (run / FILE).write_bytes(whole)


def test_no_mutation_of_a_plan_is_a_traceback(made: Path) -> None:
    rng = random.Random(7)
    table: dict[str, Any] = {
        "name": "n", "subjects": "people", "recipes": ["mini"], "styles": ["oil"], "variants": 1, "sizes": ["square"],
        "axes": {"mood": ["calm"]}, "budget": {"hours": 1.0, "attempts": 3},
        "settings": {name: value for name, value in asdict(Settings()).items() if name not in NOT_IN_PLANS},
    }  # fmt: skip
    table["settings"] = {name: list(v) if isinstance(v, tuple) else v for name, v in table["settings"].items()}
    assert plan_from(copy.deepcopy(table), made).name == "n"
    tables = [mutated(table, rng) for _ in range(300)]
    refused, tracebacks = outcomes(tables, lambda changed: plan_from(changed, made))
    assert tracebacks == []
    assert refused > 50


def test_a_damaged_page_of_a_ledger_is_one_line_with_a_way_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with database(run) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    whole = (run / FILE).read_bytes()
    size, messages = int.from_bytes(whole[16:18], "big"), []
    for page in range(1, len(whole) // size):
        (run / FILE).write_bytes(whole[: page * size] + b"\xff" * size + whole[(page + 1) * size :])
        for command in (
            ["status", str(run)],
            ["export", str(run), "-o", str(tmp_path / "export")],
            ["prune", str(run)],
        ):
            code = main(["campaign", *command])
            errors = capsys.readouterr().err
            assert errors.count("\n") == (1 if code else 0)
            messages.append(errors)
    assert any("is damaged" in error and ".dump" in error for error in messages)


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="needs the tool of SQLite")
def test_the_way_out_of_a_damaged_ledger_leads_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with database(run) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'results'").fetchone()
        (done,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    data = bytearray((run / FILE).read_bytes())
    size = int.from_bytes(data[16:18], "big")
    data[(page - 1) * size : page * size] = b"\xff" * size
    (run / FILE).write_bytes(data)
    assert main(["drift", str(run)]) == 1
    told = re.search(r"sqlite3 .* new\.sqlite(?= and put)", capsys.readouterr().err)
    assert told is not None
    subprocess.run(told[0], shell=True, cwd=run, check=True)
    (run / "new.sqlite").replace(run / FILE)
    with Ledger.open(run) as ledger:
        assert ledger.counts().jobs == done > 0


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW other AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE TRIGGER other AFTER INSERT ON meta BEGIN DELETE FROM jobs; END",
        "CREATE INDEX other ON meta(upper(value))",
        "CREATE TABLE other(name TEXT)",
        "ALTER TABLE meta RENAME TO other; CREATE VIEW meta AS SELECT * FROM other",
        "ALTER TABLE jobs ADD COLUMN other TEXT GENERATED ALWAYS AS (printf('%.*c', 900000000, 'x')) VIRTUAL",
        "DROP TABLE results",
    ],
)
def test_a_ledger_with_anything_but_the_tables_of_a_run_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], statement: str
) -> None:
    """A view could go on for ever, a trigger write what was not asked for, a computed column fill the memory."""
    with database(run) as connection:
        connection.executescript(statement)
    assert main(["campaign", "status", str(run)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is damaged" in error


def test_a_ledger_whose_definitions_are_no_text_is_damaged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SQLite's own message quotes them."""
    with database(run) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    whole = (run / FILE).read_bytes()
    (run / FILE).write_bytes(whole.replace(b"CREATE TABLE results(\n  job", b"CREATE TABLE results(\n  j\xd9b"))
    assert main(["campaign", "status", str(run)]) == 1
    assert ".dump" in capsys.readouterr().err
    for opened in (Ledger.open, Ledger.create):
        with pytest.raises(CampaignError, match="is damaged"):
            opened(run)


def test_a_lock_that_is_none_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "lock.sqlite").write_bytes(b"this is not a database, not at all" * 100)
    assert main(["campaign", "prune", str(run)]) == 1
    assert "is no lock of a run (file is not a database); remove it" in capsys.readouterr().err


def test_a_ledger_after_recovery_opens(run: Path) -> None:
    with database(run) as connection:
        connection.execute(
            "CREATE TABLE lost_and_found(rootpgno INTEGER, pgno INTEGER, nfield INTEGER, id INTEGER, c0)"
        )
    with Ledger.open(run) as ledger:
        assert ledger.counts().jobs


def test_a_run_killed_before_it_began_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    with pytest.raises(CampaignError, match="was stopped before it began; start the same command again"):
        Ledger.open(tmp_path)


def cut_short(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary file that is left when a process is killed while it writes a file."""
    before = set(path.parent.glob(".*")) if path.parent.is_dir() else set()
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr("os.replace", lambda *paths: signal.raise_signal(signal.SIGINT))
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
        write_bytes(path, b"half")
    (left,) = set(path.parent.glob(".*")) - before
    return left


@pytest.mark.parametrize("by", ["prune", "run"])
def test_what_killed_runs_left_is_removed(
    made: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    files = sorted(path for path in run.rglob("*") if path.is_file())
    names = ("campaign.toml", "pictures/p00/mini/oil_1.png", "before/p00/mini.jpg", "report/report.json")
    left = [cut_short(run / name, monkeypatch) for name in names]
    (run / "pictures" / ".DS_Store").write_bytes(b"not ours")
    if by == "prune":
        removed, _ = prune_run(run)
        assert sorted(removed) == sorted([*left, run / "pictures" / ".DS_Store"])
    else:
        run_campaign(read_plan(made / "campaign.toml"), run, local())
    assert not any(path.exists() for path in left)
    assert (run / "pictures" / ".DS_Store").exists() == (by == "run")
    assert set(files) <= set(run.rglob("*"))


def test_what_a_killed_export_left_is_removed_by_the_next(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "export"
    export_run(run, out)
    picture = next(out.rglob("*.png"))
    left = [cut_short(out / "manifest.csv", monkeypatch), cut_short(picture, monkeypatch)]
    theirs = cut_short(out / "theirs.txt", monkeypatch)
    export_run(run, out)
    assert not any(path.exists() for path in left)
    assert theirs.exists()
