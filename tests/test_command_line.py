"""What the commands print and write, on fakes and without a model: tables, sheets, lists, progress, one-line errors."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rich.console
from PIL import Image

from portrait.cli import console
from portrait.cli.console import Console
from portrait.cli.main import build_parser, log_to_stderr, main
from portrait.cli.signals import interrupted_by
from portrait.errors import BrokenModelError
from portrait.images import read_photo, write_picture
from portrait.loop.attempt_loop import AttemptLoop
from portrait.recipes.load import load_recipe, recipe_names
from portrait.recipes.samples import sample_file
from portrait.records import Knobs, RgbImage
from portrait.records.reasons import Reason
from portrait.settings import settings_from
from tests.fakes import a_photo, fake_loop, restyled


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "anna.png", a_photo().pixels)


def use_fakes(monkeypatch: pytest.MonkeyPatch, paint: Any = lambda image, knobs, seed: restyled(image)) -> list[str]:
    """Make the commands load fakes; return the list of the recipes that they load."""
    loads: list[str] = []

    def load(settings: Any) -> AttemptLoop:
        loads.append(settings.recipe)
        return fake_loop(paint)

    for command in ("stylize", "records"):
        monkeypatch.setattr(f"portrait.cli.{command}.load_loop", load)
    return loads


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "interrupted"),
        (lambda: signal.raise_signal(signal.SIGINT), "inter"),
    ],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_an_interrupted_run_still_prints_the_table_and_the_sheet_of_what_was_finished(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], end: Any, says: str
) -> None:
    pictures: list[int] = []

    def paint(image: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        pictures.append(seed)
        if len(pictures) == 2:
            end()
        return restyled(image)

    use_fakes(monkeypatch, paint)
    out = photo.parent / "out"
    styles = ["--style", "watercolor", "--style", "oil"]
    assert main(["stylize", str(photo), *styles, "--thresholds", limits, "-o", str(out)]) == 130
    captured = capsys.readouterr()
    assert "1 of 1 accepted" in captured.out
    assert "anna-watercolor-1.png" in captured.out
    assert says in captured.err
    assert (out / "contact-sheet.jpg").stat().st_size > 0


def test_sigterm_ends_a_run_like_ctrl_c_whatever_a_library_had_set_and_is_put_back() -> None:
    def library(number: int, frame: object) -> None:
        raise AssertionError("a library's handler ran")

    earlier = signal.signal(signal.SIGTERM, library)
    try:
        with pytest.raises(KeyboardInterrupt), interrupted_by("SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is library
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with interrupted_by("SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, earlier)


def test_a_process_without_output_streams_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As services and windows without a console start it."""
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, None)
    assert main(["styles"]) == 0
    assert main(["inspect", "nobody.jpg"]) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's file that is always full")
def test_output_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(OSError), open("/dev/full", "w") as full:  # which cannot be closed either
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["styles"]) == 1
    assert capsys.readouterr().err == "portrait: cannot print: No space left on device\n"


def test_a_contact_sheet_is_never_overwritten(photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fakes(monkeypatch)
    out = photo.parent / "out"
    out.mkdir()
    (out / "contact-sheet.jpg").write_text("somebody's")
    for style in ("oil", "watercolor"):
        argv = ["stylize", str(photo), "--style", style, "--thresholds", limits, "-o", str(out), "--quiet"]
        assert main(argv) == 0
    assert (out / "contact-sheet.jpg").read_text() == "somebody's"
    for name in ("contact-sheet-2.jpg", "contact-sheet-3.jpg"):
        with Image.open(out / name) as sheet:
            sheet.load()


def another(photo: Path, folder: str) -> Path:
    """A photo of the same name in another folder."""
    place = photo.parent / folder / photo.name
    place.parent.mkdir()
    pixels = read_photo(photo).pixels.copy()
    pixels[0, 0] ^= 255
    return write_picture(place, pixels)


def test_no_picture_is_overwritten_unless_requested(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_fakes(monkeypatch)
    out = photo.parent / "out"
    fixed = ["--thresholds", limits, "-o", str(out), "--json"]
    other = another(photo, "b")

    def outputs(*argv: str) -> list[str]:
        assert main(["stylize", *argv, *fixed]) == 0
        return [Path(json.loads(line)["output"]).name for line in capsys.readouterr().out.splitlines()]

    assert outputs(str(photo)) == ["anna-watercolor-1.png"]
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert outputs(str(other)) == ["anna-2-watercolor-1.png"]
    assert outputs(str(photo), "--seed", "7", "--variants", "2") == [f"anna-3-watercolor-{n}.png" for n in (1, 2)]
    assert outputs(str(photo), "--style", "oil") == ["anna-oil-1.png"]
    assert {name: (out / name).read_bytes() for name in first} == first
    assert outputs(str(other), "--overwrite") == ["anna-watercolor-1.png"]
    assert (out / "anna-watercolor-1.json").read_bytes() != first["anna-watercolor-1.json"]


def test_a_name_that_another_process_took_meanwhile_is_not_written_to(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photo.parent / "out"
    out.mkdir()

    def paint(image: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        if not list(out.glob("*.png")):
            (out / "anna-watercolor-1.png").write_text("another process's")
        return restyled(image)

    use_fakes(monkeypatch, paint)
    assert main(["stylize", str(photo), "--thresholds", limits, "-o", str(out), "--variants", "2", "--json"]) == 0
    outputs = [Path(json.loads(line)["output"]).name for line in capsys.readouterr().out.splitlines()]
    assert outputs == ["anna-2-watercolor-1.png", "anna-2-watercolor-2.png"]
    assert (out / "anna-watercolor-1.png").read_text() == "another process's"


@pytest.mark.parametrize("letter", ["y", "\u6f22", "\U0001f469"])
def test_a_name_that_no_file_system_takes_with_our_endings_is_shortened(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    use_fakes(monkeypatch)
    out, stem = photo.parent / "out", letter * (240 // len(letter.encode()))
    photos = [photo.rename(photo.with_name(f"{stem}a.png")), photo.with_name(f"{stem}b.png")]
    photos[1].write_bytes(photos[0].read_bytes())
    assert main(["stylize", *map(str, photos), "--thresholds", limits, "-o", str(out), "--quiet"]) == 0
    names = [path.name for path in out.glob("*-watercolor-1.png")]
    assert len(set(names)) == 2
    assert all(name.startswith(letter * 15) for name in names)
    assert len(list(out.iterdir())) == 7


def test_a_picture_is_kept_though_its_strip_cannot_be_written(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_fakes(monkeypatch)
    out = photo.parent / "out"
    for name in ("anna-watercolor-1-before-after.jpg", "anna-watercolor-2.json"):
        (out / name).mkdir(parents=True)
    argv = ["stylize", str(photo), "--variants", "2", "--thresholds", limits, "-o", str(out), "--overwrite", "--json"]
    assert main(argv) == 2
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [Path(record["output"]).is_file() for record in records] == [True, True]
    assert ["Is a directory" in record["unwritten"][0] for record in records] == [True, True]
    assert (out / "anna-watercolor-1.json").is_file()
    assert "cannot write" in captured.err
    assert "anna-watercolor-1-before-after.jpg: Is a directory" in captured.err
    assert "anna-watercolor-2.json: Is a directory" in captured.err


def test_a_folder_that_takes_no_files_is_reported_before_anything_is_made(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("portrait.cli.stylize.load_loop", lambda settings: pytest.fail("it is too late"))
    argv = ["stylize", str(photo), "--thresholds", limits]
    assert main([*argv, "-o", str(photo)]) == 2
    assert f"cannot write to {photo}: Not a directory; name another folder with -o" in capsys.readouterr().err
    too_long = photo.parent / "new" / ("y" * 300)
    assert main([*argv, "-o", str(too_long)]) == 2
    assert f"cannot write to {too_long}: File name too long" in capsys.readouterr().err
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert main([*argv, "-o", str(photo.parent / "out")]) == 2
    assert "out has 0.0 MiB free, and the pictures may need 1.0 MiB" in capsys.readouterr().err


def test_a_call_that_makes_nothing_leaves_nothing(
    photo: Path, limits: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portrait.cli.stylize.load_loop", lambda settings: pytest.fail("there is no photo"))
    before = sorted(photo.parent.iterdir())
    out = photo.parent / "new" / "out"
    assert main(["stylize", str(photo.parent / "nobody.jpg"), "--thresholds", limits, "-o", str(out)]) == 2
    assert "nobody.jpg: No such file" in capsys.readouterr().err
    assert sorted(photo.parent.iterdir()) == before


def test_a_broken_model_ends_the_call_and_is_a_reason_of_its_own(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: list[int] = []

    def paint(image: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        attempts.append(seed)
        raise BrokenModelError("broken_model: what recipe mini computes is not a number")

    use_fakes(monkeypatch, paint)
    two = [str(photo), str(another(photo, "b"))]
    assert main(["stylize", *two, "--thresholds", limits, "-o", str(photo.parent / "out"), "--json"]) == 1
    captured = capsys.readouterr()
    (record,) = (json.loads(line) for line in captured.out.splitlines())
    assert (record["status"], Reason(record["reasons"][0]).code) == ("failed", "broken_model")
    assert captured.err.count("broken_model: what recipe mini computes is not a number") == 1
    assert len(attempts) == 1


@pytest.mark.parametrize("quiet", [False, True])
def test_our_own_warnings_are_printed_once_and_those_of_libraries_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own, beside which none is added
    level = logging.root.level
    try:
        log_to_stderr(verbose=False, quiet=quiet)
        for name in ("portrait.generate.keep", "library"):
            for _ in range(2):
                logging.getLogger(name).warning("%s warns", name)
            logging.getLogger(name).error("%s fails", name)
    finally:
        logging.root.setLevel(level)
    ours = [] if quiet else ["portrait.generate.keep warns"]
    assert capsys.readouterr().err.splitlines() == [*ours, "portrait.generate.keep fails", "library fails"]


def test_without_a_terminal_progress_is_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    printed = Console(quiet=False)
    printed.err = rich.console.Console(file=io.StringIO(), force_terminal=False)
    for picture in ("a[1] oil", "a[1] comic"):  # the clock goes on from one picture to the next
        with printed.attempts(picture) as on_step:
            for step in range(4):
                clock[0] += 2
                on_step(1, step + 1, 4)
    lines = printed.err.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == ["a[1] oil: attempt 1, step 3/4", "a[1] comic: attempt 1, step 2/4"]


def test_quiet_has_no_progress_lines_either(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(quiet=True).status("loading models"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["stylize"], "portrait stylize: missing PHOTO; see portrait stylize --help"),
        (["campaign"], "portrait campaign: missing"),
        ([], "portrait: missing COMMAND; see portrait --help"),
        (["stylize", "a.jpg", "--frame", "foot"], "portrait stylize: argument --frame: invalid choice: 'foot'"),
        (["stylize", "a.jpg", "--colour"], "portrait: unrecognized arguments: --colour; see portrait --help"),
    ],
)
def test_a_wrong_command_line_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        build_parser().parse_args(argv)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(says)


def test_the_list_of_recipes_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(recipe_names()) + 2 <= 24
    assert max(map(len, lines)) < 80
    commercial = {line.split()[0]: line.split()[1] for line in lines[1:-1]}
    assert commercial["mini"] == "no"
    assert commercial["sd15-plus-face"] == "yes"


def test_a_recipe_shows_its_styles_and_licenses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "mini"]) == 0
    printed = capsys.readouterr().out
    assert "watercolor (Watercolor)" in printed
    assert "non-commercial research only; commercial use: no" in printed
    assert "sdxl" not in printed
    assert main(["recipes", "mini", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["mini"]


def test_each_style_is_a_line_and_has_a_picture_in_the_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["styles", "--sheet", str(tmp_path / "styles.jpg")]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    styles = load_recipe("mini").styles
    assert [line.split()[0] for line in lines] == list(styles)
    with_sample = [style for style in styles if sample_file("mini", style)]
    missing = [style for style in styles if style not in with_sample]
    assert last == f"written to {tmp_path / 'styles.jpg'}" + (f"; no sample of {', '.join(missing)}" if missing else "")
    with Image.open(tmp_path / "styles.jpg") as sheet:
        pixels = np.asarray(sheet)
    paper = pixels[0, 0].astype(int)
    first_row = pixels[12:252].astype(int)
    assert pixels.shape[1] > 4 * 240 or len(with_sample) < 4
    for column in range(min(4, len(with_sample))):
        cell = first_row[:, 12 + column * 252 : 252 + column * 252]
        assert (np.abs(cell - paper).max(-1) > 20).mean() > 0.2


def test_styles_without_samples_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["styles", "--recipe", "sd15-faceid", "--sheet", str(tmp_path / "s.jpg")]) == 2
    assert "no sample pictures for recipe sd15-faceid" in capsys.readouterr().err


def test_replay_takes_many_records_loads_once_and_continues_after_a_bad_one(
    photo: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = use_fakes(monkeypatch)
    out = photo.parent / "out"
    styles = ["--style", "watercolor", "--style", "oil"]
    assert main(["stylize", str(photo), *styles, "--thresholds", limits, "-o", str(out), "--quiet"]) == 0
    (out / "bad.json").write_text("[1]")
    loads.clear()
    again = ["--files", str(photo.parent), "-o", str(photo.parent / "again"), "--json"]
    assert main(["replay", str(out / "*.json"), *again]) == 2
    captured = capsys.readouterr()
    replayed = [json.loads(line) for line in captured.out.splitlines()]
    assert [(Path(r["record"]).name, r["identical"]) for r in replayed] == [
        ("anna-oil-1.json", True),
        ("anna-watercolor-1.json", True),
    ]
    assert all(Path(r["output"]).is_file() for r in replayed)
    assert {Path(r["output"]).parent.name for r in replayed} == {"again"}
    assert captured.err.count("\n") == 1
    assert "is not a record of portrait" in captured.err
    assert loads == ["mini"]


def test_replay_of_many_takes_no_photo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "a.json", "b.json", "--photo", "c.jpg"]) == 2
    assert "--photo and --reference need exactly one record" in capsys.readouterr().err


def test_the_demo_makes_more_attempts_unless_set_otherwise(
    tmp_path: Path, limits: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A photo that is a close call passes at some attempt; one that never passes is still called rejected."""
    default = settings_from({}).max_attempts
    pictures: list[int] = []

    def paint(image: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        pictures.append(seed)
        return restyled(image, drift=0 if len(pictures) > default + 1 else 120)

    use_fakes(monkeypatch, paint)
    flags = ["--style", "watercolor", "--thresholds", limits]
    assert main(["demo", *flags, "-o", str(tmp_path / "many")]) == 0
    pictures.clear()
    assert main(["demo", *flags, "-o", str(tmp_path / "few"), "--max-attempts", "2"]) == 1
    assert "rejected" in capsys.readouterr().out
    assert len(pictures) == 2
