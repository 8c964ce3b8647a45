"""`portrait watch`: every photo that arrives becomes portraits exactly once, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from portrait.cli.console import Console
from portrait.cli.inbox import Inbox, Journal
from portrait.cli.main import main
from portrait.cli.stylize import Batch
from portrait.cli.watch import JOURNAL, Watcher
from portrait.errors import InputError
from portrait.images import write_picture
from portrait.images.decoder_process import DecoderProcess
from portrait.records import Knobs, RgbImage
from portrait.settings import Settings
from tests.fakes import FakeAnalyzer, a_face, a_photo, fake_loop, needs_sigstop, restyled, stop_answering

STYLES = ("watercolor", "oil")
DECODER = DecoderProcess()
Start = Callable[..., Watcher]


def draw(path: Path, shade: int = 0) -> Path:
    """A photo that no other shade equals."""
    path.parent.mkdir(exist_ok=True)
    return write_picture(path, np.clip(a_photo().pixels.astype(int) + shade, 0, 255).astype(np.uint8))


@pytest.fixture
def drawn() -> list[int]:
    """The seeds of all pictures that the fake painted."""
    return []


@pytest.fixture
def start(tmp_path: Path, limits: str, drawn: list[int], monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a watcher of `in` on the fakes, as after a restart: its whole state is in `out`."""

    def paint(image: RgbImage, knobs: Knobs, seed: int) -> RgbImage:
        drawn.append(seed)
        return restyled(image)

    # A photo with a dark corner has no face.
    analyzer = FakeAnalyzer(lambda image: [] if image[:8, :8].max() == 0 else [a_face(image.shape[0])])
    loop = fake_loop(paint, analyzer)
    monkeypatch.setattr("portrait.cli.stylize.load_loop", lambda settings: loop)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()

    def begin(styles: tuple[str, ...] = STYLES, balance: float = 0.5) -> Watcher:
        settings = Settings(style=styles, thresholds=limits, balance=balance)
        batch = Batch(settings, styles, [], tmp_path / "out", Console(quiet=False))
        return Watcher(Inbox(tmp_path / "in"), Journal(tmp_path / "out" / JOURNAL), batch, DECODER)

    return begin


def pictures(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "out").glob("*.png"))


def test_each_photo_is_made_once_also_after_a_restart_and_under_another_name(
    tmp_path: Path, start: Start, drawn: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in" / "anna.png")
    watcher = start()
    for _ in range(4):
        assert watcher.look()
    assert pictures(tmp_path) == ["anna-oil-1.png", "anna-watercolor-1.png"]
    assert (watcher.photos, watcher.portraits, len(drawn)) == (1, 2, 2)
    again = start()
    (tmp_path / "in" / "copy.png").write_bytes((tmp_path / "in" / "anna.png").read_bytes())
    for _ in range(3):
        again.look()
    assert len(drawn) == 2
    assert capsys.readouterr().out.count("copy.png: the same photo as anna.png, already done") == 1


def test_a_file_that_is_being_copied_is_left_alone_until_it_is_whole(
    tmp_path: Path, start: Start, drawn: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = draw(tmp_path / "anna.png").read_bytes()
    file = tmp_path / "in" / "anna.png"
    watcher = start()
    for share in (0.2, 0.5, 0.9, 1.0):  # it has grown at every look
        file.write_bytes(whole[: int(len(whole) * share)])
        watcher.look()
    assert drawn == []
    watcher.look()
    assert len(drawn) == 2
    assert capsys.readouterr().err.count("portrait: ") == 0


def test_a_bad_file_is_one_line_remembered_and_tried_again_when_it_changes(
    tmp_path: Path, start: Start, drawn: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The copy stalled, so an incomplete file looks finished."""
    whole = draw(tmp_path / "anna.png").read_bytes()
    file = tmp_path / "in" / "anna.png"
    file.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "notes.txt").write_text("hello")
    faceless = a_photo().pixels
    faceless[:] = 0  # whichever way it is turned
    write_picture(tmp_path / "in" / "wall.png", faceless)
    for _ in range(2):
        watcher = start()
        for _ in range(3):
            assert watcher.look()
    captured = capsys.readouterr()
    complaints = [line for line in captured.err.splitlines() if line.startswith("portrait: ")]
    assert len(complaints) == 2
    assert any("damaged or truncated" in line for line in complaints)
    assert any("no face" in line for line in complaints)
    assert captured.out.count("notes.txt: passed over") == 2  # once for each start
    assert drawn == []
    file.write_bytes(whole)
    watcher.look()
    watcher.look()
    assert pictures(tmp_path) == ["anna-oil-1.png", "anna-watercolor-1.png"]


def test_after_a_kill_only_the_missing_styles_are_made(tmp_path: Path, start: Start, drawn: list[int]) -> None:
    draw(tmp_path / "in" / "anna.png")
    watcher = start()
    watcher.look()
    watcher.look()
    journal = tmp_path / "out" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # the last line was cut short
    drawn.clear()
    for _ in range(2):
        restarted = start()
        restarted.look()
        restarted.look()
    assert len(drawn) == 1
    assert pictures(tmp_path) == ["anna-oil-1.png", "anna-watercolor-1.png"]


def test_no_portrait_is_overwritten(tmp_path: Path, start: Start) -> None:
    """Another photo with the same name, other settings, and pictures from another command."""
    (tmp_path / "out" / "anna-oil-1.png").write_text("somebody's")
    for shade, styles, balance in ((0, STYLES, 0.5), (9, STYLES, 0.5), (9, STYLES, 0.6)):
        draw(tmp_path / "in" / "anna.png", shade)
        watcher = start(styles, balance)
        watcher.look()
        watcher.look()
    names = [f"anna-{n}-{style}-1.png" for n in (2, 3, 4) for style in ("oil", "watercolor")]
    assert pictures(tmp_path) == [*names, "anna-oil-1.png"]
    assert (tmp_path / "out" / "anna-oil-1.png").read_text() == "somebody's"


def test_what_may_cost_likeness_is_reported_before_anything_is_made(
    tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in" / "anna.png")
    watcher = start()
    watcher.look()
    watcher.look()
    assert capsys.readouterr().err.count("anna.png: the face may be hard to keep: small (") == 1


def test_another_style_adds_to_the_portraits_under_the_same_name(
    tmp_path: Path, start: Start, drawn: list[int]
) -> None:
    draw(tmp_path / "in" / "anna.png")
    for styles in (("oil",), STYLES):
        watcher = start(styles)
        watcher.look()
        watcher.look()
    assert pictures(tmp_path) == ["anna-oil-1.png", "anna-watercolor-1.png"]
    assert len(drawn) == 2


def test_a_disk_problem_is_reported_once_and_the_photo_is_made_when_it_is_over(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in" / "anna.png")
    watcher = start()
    watcher.look()

    def full(*args: object, **options: object) -> Path:
        raise InputError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("portrait.report.save.write_picture", full)
        assert not watcher.look()
        assert not watcher.look()
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert watcher.look()
    assert len(pictures(tmp_path)) == 2


def test_a_folder_that_goes_away_may_come_back(
    tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher = start()
    (tmp_path / "in").rename(tmp_path / "gone")
    assert not watcher.look()
    assert not watcher.look()
    assert capsys.readouterr().err.count("cannot read") == 1
    (tmp_path / "gone").rename(tmp_path / "in")
    draw(tmp_path / "in" / "anna.png")
    assert watcher.look()
    assert watcher.look()
    assert len(pictures(tmp_path)) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(
    tmp_path: Path,
    start: Start,
    limits: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    draw(tmp_path / "in" / "anna.png")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr("portrait.cli.watch.time", SimpleNamespace(sleep=nap))  # not everybody's time.sleep
    flags = ["--style", "oil", "--thresholds", limits, "--every", "0.5"]
    assert main(["watch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *flags]) == 0
    assert naps == [0.5, 0.5, 0.5]
    assert capsys.readouterr().out.splitlines()[-1] == "stopped; photos: 1, portraits: 1"


@needs_sigstop
def test_a_photo_that_takes_too_long_is_named_once_and_the_next_one_is_made(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "in" / "anna.png")
    watcher = start(styles=("oil",))
    stop_answering(DECODER)
    with monkeypatch.context() as patch:
        patch.setattr(DECODER, "seconds", 0.2)
        for _ in range(4):
            assert watcher.look()
    (line,) = capsys.readouterr().err.splitlines()
    assert "anna.png takes longer than 0.2 s to decode" in line
    draw(tmp_path / "in" / "bob.png", 9)
    for _ in range(4):
        assert watcher.look()
    assert pictures(tmp_path) == ["bob-oil-1.png"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["missing", "-o", "out"], "missing is not a folder"),
        (["in", "-o", "in"], "-o must not be the folder that is watched"),
        (["in", "-o", "out", "--every", "0"], "--every 0 is outside 0.1 to 3600"),
        (["in", "-o", "out", "--style", "watercolour"], "did you mean watercolor"),
    ],
)
def test_what_cannot_work_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    assert main(["watch", *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.slow
@pytest.mark.weights
def test_mini_draws_what_arrives_and_sigterm_ends_the_process(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    command = [sys.executable, "-m", "portrait", "watch", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    flags = ["--style", "watercolor", "--every", "0.2", "--max-attempts", "1", "--num-inference-steps", "4"]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert "watching" in process.stdout.readline()
            data = (photos / "astronaut.png").read_bytes()
            with (tmp_path / "in" / "eileen.png").open("wb") as file:
                for start in range(0, len(data), len(data) // 5):
                    file.write(data[start : start + len(data) // 5])
                    file.flush()
            line = process.stdout.readline()
            while "eileen-watercolor-1" not in line:
                assert line, "it ended"
                line = process.stdout.readline()
        finally:
            process.terminate()
        assert process.stdout.read().splitlines()[-1].startswith("stopped; ")
    assert process.returncode == 0
    assert len(list((tmp_path / "out").glob("eileen-watercolor-1*.png"))) == 1
    assert (tmp_path / "out" / JOURNAL).is_file()
