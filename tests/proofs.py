"""Tests and tables that another test relies on, looked up so that a renamed or deleted one is noticed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def missing(proofs: Iterable[str]) -> list[str]:
    """The references that do not exist.

    Args:
        proofs: `test_file.py::test_name` below tests/, or a path in the repository such as `eval/loop.json`.
    """
    absent = []
    for proof in proofs:
        file, _, test = proof.partition("::")
        path = ROOT / "tests" / file if test else ROOT / file
        exists = path.is_file() and (not test or re.search(rf"^def {test}\(", path.read_text("utf-8"), re.M))
        if not exists:
            absent.append(proof)
    return absent
