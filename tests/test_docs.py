"""The documentation: examples are valid commands, paths exist, tables match the results, links have targets."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from portrait.cli.main import build_parser
from portrait.hub.files import mini_folder
from portrait.records.portrait import PortraitRecord
from tests.scripts import script

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / folder / "README.md" for folder in ("eval", "tests", "weights", "weights/mini")]
RESULTS = [*(ROOT / "eval").glob("*.json"), *(ROOT / "portrait" / "recipes").glob("mini.*.json")]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language, indented ones too."""
    return re.findall(rf"^ *```(?:{language})\n(.*?)^ *```", page.read_text("utf-8"), re.S | re.M)


def commands() -> list[str]:
    lines = [
        line for page in PAGES for block in blocks(page, "bash|sh") for line in block.replace("\\\n", " ").splitlines()
    ]
    return sorted({line.split(" #")[0].strip() for line in lines if line.strip().startswith("portrait ")})


def test_the_readme_is_one_screen_and_shows_commands() -> None:
    assert (ROOT / "README.md").stat().st_size <= 7 * 1024
    assert (
        sum(line.startswith("portrait ") for block in blocks(ROOT / "README.md", "bash") for line in block.splitlines())
        >= 3
    )


@pytest.mark.parametrize("command", commands())
def test_each_example_command_is_understood(command: str) -> None:
    build_parser().parse_args(shlex.split(command)[1:])


def test_each_example_that_compares_a_portrait_names_its_style() -> None:
    printed = re.findall(r"^ *(portrait compare (?:\S+ \S+)(?: --\S+ \S+)*)", build_parser().format_help(), re.M)
    comparisons = [command for command in [*commands(), *printed] if command.startswith("portrait compare ")]
    parsed = [build_parser().parse_args(shlex.split(command)[1:]) for command in comparisons]
    assert printed
    assert [args.b for args in parsed if args.b.parent.name == "out" and not args.style] == []


def test_the_help_of_each_command_names_the_default_that_the_command_has(capsys: pytest.CaptureFixture[str]) -> None:
    for command, default in (("demo", "all"), ("stylize", "watercolor")):
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "--help"])
        printed = " ".join(capsys.readouterr().out.split())
        assert re.search(rf"for every style of the recipe \(default: {default}\)", printed)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_toml_and_python_example_is_well_formed(page: Path) -> None:
    for text in blocks(page, "toml"):
        tomllib.loads(text)
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_path_of_the_repository_that_is_named_exists(page: Path) -> None:
    """Whole paths below a top-level folder; `*` and placeholders in capitals stand for several."""
    text = page.read_text("utf-8")
    if page.name == "CHANGELOG.md":
        pytest.skip("a changelog names what was there at the time")
    for path in re.findall(r"`((?:portrait|eval|tests|docs|weights)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"python ((?:eval|weights)/[\w/]+\.py)", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_each_link_within_the_repository_leads_to_a_page_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"\w+:", target):
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}
            assert heading in anchors, target


def test_the_architecture_page_explains_every_key_of_a_record() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = text.partition("## What a record holds")[2].partition("\n## ")[0].split("\n| `")[1:]
    keys = [key for row in rows for key in re.findall(r"\w+(?=`)", row.partition(" | ")[0] + "`")]
    assert sorted(keys) == sorted(PortraitRecord.model_fields)


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_every_table_of_measurements_is_that_of_the_results() -> None:
    """If a result changed: `python eval/tables.py`."""
    tables = script("tables")
    for page in tables.PAGES:
        text = page.read_text("utf-8")
        assert tables.filled(text) == text, name(page)


@pytest.mark.parametrize("path", RESULTS, ids=name)
def test_a_result_is_of_the_shipped_weights_or_says_below_its_table_that_it_is_older(path: Path) -> None:
    """See eval/README.md for what to run after new weights."""
    measured = json.loads(path.read_text("utf-8")).get("weights")
    if measured is None:
        pytest.skip("it names no weights")
    manifest = json.loads((mini_folder() / "manifest.json").read_text("utf-8"))
    if measured.items() >= {file: entry["sha256"] for file, entry in manifest["files"].items()}.items():
        return
    tables = script("tables")
    said = tables.of_earlier_weights(path.stem)
    assert any(said in page.read_text("utf-8") for page in tables.PAGES)


@pytest.mark.parametrize("script_name", ["ablation", "held_out", "latency", "loop", "speed", "studio"])
def test_seconds_of_another_runtime_say_so_below_their_table(script_name: str) -> None:
    tables = script("tables")
    runtime = tables.results(script_name).get("runtime")
    said = tables.of_another_runtime(script_name, runtime)
    is_said = any(said in page.read_text("utf-8") for page in tables.PAGES)
    assert is_said == (runtime != tables.RUNTIME)
