"""Imports go one way: words <- tools <- faces | recipes <- generate | judge <- loop <- campaign <- report <- doors."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import portrait

PACKAGE = Path(portrait.__file__).parent
LAYERS = [
    {"errors", "records", "settings", "validation", "file_model"},
    {"images", "paths", "intervals", "hub"},
    {"faces", "recipes"},
    {"generate", "judge"},
    {"loop"},
    {"calibrate", "campaign"},
    {"report", "api"},
    {"cli", "studio", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("portrait"):
            names = [node.module] if node.module != "portrait" else [f"portrait.{a.name}" for a in node.names]
            found |= {n.split(".")[1] for n in names if "." in n}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("portrait.")}
    return found


def test_every_file_imports_only_from_its_own_layer_or_below() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        station = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if station == "__init__":
            continue
        for other in imports(path):
            assert RANK[other] <= RANK[station], f"{path.relative_to(PACKAGE)} imports portrait.{other}"
            beside = RANK[other] == RANK[station] and other != station and station in ("faces", "generate", "judge")
            assert not beside, f"{path.relative_to(PACKAGE)} imports its neighbour portrait.{other}"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """The files of the package that a file imports, at its top or within a function; not those for annotations alone."""
    tree = ast.parse(path.read_text("utf-8"))
    annotations = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if node in annotations:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            names |= inside or {node.module}
    return names & modules


def test_no_import_comes_back_to_where_it_began() -> None:
    """File by file, deferred imports counted. `portrait` itself, which hands out the public names, is left out."""
    paths = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    del paths["portrait"]
    graph = {name: imported_modules(path, paths.keys() - {name}) for name, path in paths.items()}
    assert sum(map(len, graph.values())) > 100
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_importing_the_command_line_loads_no_heavy_library() -> None:
    heavy = ("torch", "diffusers", "transformers", "onnxruntime", "insightface", "dlib", "cv2", "rich", "skimage")
    heavy += ("ray", "matplotlib", "jinja2", "scipy", "pydantic")
    code = f"import sys, portrait.cli.main; portrait.cli.main.build_parser(); print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
