"""The command that runs all measurements: its steps fit together, can be resumed, and fail independently."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import EVAL, script

ROOT = EVAL.parent


@pytest.fixture
def refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with its own repository and with weights that a test names."""
    module = script("refresh")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "weights_today", lambda: {"unet": "1"})
    return module


def a_run(refresh: ModuleType, folder: Path) -> object:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return refresh.Run(data=folder, work=work, held_out=folder / "list")


def a_step(refresh: ModuleType, name: str, code: str, **more: object) -> object:
    writes = more.pop("writes", (f"{name}.json",))
    return refresh.Step(name=name, command=(sys.executable, "-c", code), writes=writes, **more)


def write(name: str, content: str) -> str:
    return f"from pathlib import Path; Path({name!r}).write_text({content!r})"


def test_each_step_comes_after_the_steps_whose_results_it_reads() -> None:
    refresh = script("refresh")
    written: dict[str, str] = {}
    earlier: set[str] = set()
    for step in refresh.STEPS:
        assert set(step.after) <= earlier, step.name
        assert all(name in written for name in step.reads), step.name
        earlier.add(step.name)
        written |= dict.fromkeys(step.writes, step.name)
        if "eval/" in (source := step.command[1]):
            assert (ROOT / source).is_file()
    assert len(earlier) == len(refresh.STEPS)


def test_every_script_whose_result_names_weights_is_a_step() -> None:
    """Otherwise new weights would leave it out of date without notice."""
    steps = {Path(name).name for step in script("refresh").STEPS for name in step.writes}
    named = {path.name for path in EVAL.glob("*.json") if "weights" in json.loads(path.read_text("utf-8"))}
    assert named <= steps


def test_a_step_is_done_once_and_again_when_what_it_reads_or_the_weights_have_changed(
    refresh: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(refresh, tmp_path)
    (tmp_path / "curves.json").write_text("1")
    step = a_step(refresh, "dial", write("dial.json", "0"), reads=("curves.json",))
    assert not refresh.is_done(step, run)
    schedule = refresh.Schedule([step], run, 1, 10)
    schedule.finish()
    assert schedule.failed == {}
    assert refresh.is_done(step, run)
    (tmp_path / "curves.json").write_text("2")
    assert not refresh.is_done(step, run)
    (tmp_path / "curves.json").write_text("1")
    monkeypatch.setattr(refresh, "weights_today", lambda: {"unet": "2"})
    assert not refresh.is_done(step, run)


def test_a_result_that_names_today_s_weights_is_done_wherever_it_was_measured(
    refresh: ModuleType, tmp_path: Path
) -> None:
    run = a_run(refresh, tmp_path)
    step = a_step(refresh, "dial", "")
    (tmp_path / "dial.json").write_text(json.dumps({"weights": {"unet": "1", "judge": "3"}}))
    assert refresh.is_done(step, run)
    (tmp_path / "dial.json").write_text(json.dumps({"weights": {"unet": "0"}}))
    assert not refresh.is_done(step, run)


def test_what_needs_a_failed_step_does_not_begin_and_all_else_does(refresh: ModuleType, tmp_path: Path) -> None:
    run = a_run(refresh, tmp_path)
    steps = [
        a_step(refresh, "a", "raise SystemExit('no such photo')"),
        a_step(refresh, "b", write("b.json", "0"), after=("a",)),
        a_step(refresh, "c", write("c.json", "0"), after=("b",)),
        a_step(refresh, "d", write("d.json", "0")),
    ]
    schedule = refresh.Schedule(steps, run, 2, 10)
    schedule.finish()
    assert schedule.failed.keys() == {"a", "b", "c"}
    assert "no such photo" in schedule.failed["a"]
    assert schedule.failed["b"] == "not begun: it needs a"
    assert (tmp_path / "d.json").is_file()
    assert [step.name for step in refresh.to_run(steps, run, again=False)] == ["a", "b", "c"]


def test_a_step_begins_after_those_that_it_needs_and_no_step_after_the_time(
    refresh: ModuleType, tmp_path: Path
) -> None:
    run = a_run(refresh, tmp_path)
    steps = [
        a_step(refresh, "a", "import time; time.sleep(0.2); " + write("a.json", "7")),
        a_step(
            refresh,
            "b",
            "from pathlib import Path; Path('b.json').write_text(Path('a.json').read_text())",
            after=("a",),
        ),
    ]
    refresh.Schedule(steps, run, 2, 10).finish()
    assert (tmp_path / "b.json").read_text() == "7"
    late = refresh.Schedule(steps, run, 2, 0)
    late.finish()
    assert set(late.failed.values()) == {"not begun within 0 minutes"}


def test_a_step_that_is_alone_has_all_cores_and_nothing_beside_it(refresh: ModuleType, tmp_path: Path) -> None:
    run = a_run(refresh, tmp_path)
    begin = "import time; from pathlib import Path; Path('{0}.begun').touch(); time.sleep(0.2); "
    late = begin + "alone = not Path('{1}.begun').exists(); Path('{0}.json').write_text(str(int(alone)))"
    cores = "; import os; Path('cores').write_text(str(len(os.sched_getaffinity(0))))"
    steps = [
        a_step(refresh, "a", late.replace("{0}", "a").replace("{1}", "b")),
        a_step(refresh, "b", late.replace("{0}", "b").replace("{1}", "c") + cores, alone=True),
        a_step(refresh, "c", write("c.json", "0").replace("import Path;", "import Path; Path('c.begun').touch();")),
    ]
    refresh.Schedule(steps, run, 2, 10).finish()
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text() == "1"
    assert int((tmp_path / "cores").read_text()) == len(script("processes").all_cores())


def test_curves_and_measurements_of_parts_become_one(tmp_path: Path) -> None:
    calibrate = script("calibrate")
    curves = json.loads((ROOT / "portrait" / "recipes" / "mini.curves.json").read_text("utf-8"))
    styles = list(curves["styles"])
    parts = []
    for number in range(2):
        share = {style: curves["styles"][style] for style in styles[number::2]}
        parts.append(tmp_path / f"{number}.json")
        parts[-1].write_text(json.dumps(curves | {"styles": share}))
    whole = json.loads(json.dumps(calibrate.join_curves(parts, styles).model_dump()))
    assert whole == curves
    assert list(whole["styles"]) == styles
    for number in range(2):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"seed": 1}}\n{{"key": [{number}]}}\n')
    lines = [tmp_path / "0.jsonl", tmp_path / "1.jsonl"]
    calibrate.join_measurements(lines, tmp_path / "whole.jsonl")
    assert (tmp_path / "whole.jsonl").read_text() == '{"seed": 1}\n{"key": [0]}\n{"key": [1]}\n'
    lines[1].write_text('{"seed": 2}\n')
    with pytest.raises(SystemExit, match="different people or weights"):
        calibrate.join_measurements(lines, tmp_path / "whole.jsonl")


def test_a_result_takes_the_place_of_the_old_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, place = tmp_path / "new.json", tmp_path / "folder" / "mini.curves.json"
    for content in ("1", "2"):
        source.write_text(content)
        script("calibrate").install(source, place)
        assert place.read_text() == content
    assert [path.name for path in place.parent.iterdir()] == ["mini.curves.json"]
    assert str(place) in capsys.readouterr().out


def test_a_trial_writes_nothing_outside_of_its_folder() -> None:
    refresh = script("refresh")
    for step in refresh.STEPS:
        if step.quick is not None and step.writes:
            assert "--output" in step.quick, step.name
            assert step.quick[step.quick.index("--output") + 1].startswith("{work}"), step.name
            assert all("{work}" in word for word in step.quick if "/" in word), step.name


def test_the_list_says_what_is_left() -> None:
    refresh = script("refresh")
    run = refresh.Run(data=Path("faces"), work=Path("none"), held_out=Path("none"))
    lines = refresh.listing(refresh.STEPS, run, 0.5).splitlines()
    assert len(lines) == len(refresh.STEPS) + 2
    assert "mini.curves.json, mini.thresholds.json -> dial.json" in "\n".join(lines)
    assert lines[-1].endswith("processor minutes at 0.5 s per picture")
