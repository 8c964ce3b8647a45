"""The test suite itself: independent modules, and markers for what a test needs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_file_imports_a_test_module(path: Path) -> None:
    """Shared code is in conftest.py, fakes.py or another helper, so that each module can be run alone."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        assert not [name for name in names if name.startswith("tests.test_")], (path.name, node.lineno)
