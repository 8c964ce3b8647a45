"""Imports go one way, file by file, those inside functions counted: base types first, entry points last."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import portrait

PACKAGE = Path(portrait.__file__).parent
LAYERS = [
    {"errors", "records", "settings", "validation", "file_model", "paths", "files"},  # base types
    {"images", "intervals", "hub", "provenance"},  # utilities
    {"faces", "recipes"},
    {"generate", "judge"},
    {"loop"},
    {"calibrate", "campaign"},
    {"report"},
    {"api"},
    {"cli", "studio", "__main__"},  # entry points
]
"""A file or folder may import what is above it in this list, and files of its own folder."""
SIDE_BY_SIDE = [{"faces", "recipes"}, {"generate", "judge"}, {"calibrate", "campaign"}]
"""These never import each other, so that each can be read, tested and replaced alone."""
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"  # the public names, which are imported when they are first asked for
}
"""Name below `portrait` -> file; a folder's name stands for its `__init__.py`."""


def imports(path: Path) -> Iterator[str]:
    """The names in `FILES` that a file imports, deferred imports included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("portrait."):
                target = name.removeprefix("portrait.")
                yield target if target in FILES else target.rpartition(".")[0]


GRAPH = {name: {target for target in imports(path) if target} for name, path in FILES.items()}
ARROWS = [(name, target) for name, targets in GRAPH.items() for target in sorted(targets)]


def folder(name: str) -> str:
    return name.partition(".")[0]


def test_every_import_is_of_a_file_that_is_there_and_every_file_has_its_layer() -> None:
    assert {target for _, target in ARROWS} <= FILES.keys()
    assert {folder(name) for name in FILES} == RANK.keys()


def test_every_file_imports_only_from_its_own_layer_or_below() -> None:
    upwards = [f"{a} imports {b}" for a, b in ARROWS if RANK[folder(b)] > RANK[folder(a)]]
    assert upwards == []


def test_folders_side_by_side_do_not_import_each_other() -> None:
    across = [
        f"{a} imports {b}"
        for a, b in ARROWS
        if folder(a) != folder(b) and any({folder(a), folder(b)} <= pair for pair in SIDE_BY_SIDE)
    ]
    assert across == []


def test_no_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter(GRAPH).prepare()  # CycleError names the files of a circle


def test_importing_the_command_line_loads_no_heavy_library() -> None:
    heavy = ["torch", "diffusers", "transformers", "onnxruntime", "insightface", "dlib", "cv2", "rich", "skimage"]
    heavy += ["ray", "matplotlib", "jinja2", "scipy", "gradio", "pydantic", "PIL", "huggingface_hub"]
    code = "import sys, portrait.cli.main; portrait.cli.main.build_parser();"
    code += f"print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
