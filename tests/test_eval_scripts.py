"""Every script of eval/ still fits the library: it can be loaded, and explains itself."""

from __future__ import annotations

import pytest

from tests.scripts import EVAL, script


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in EVAL.glob("*.py")))
def test_each_script_loads_and_says_what_it_does(name: str) -> None:
    assert len((script(name).__doc__ or "").splitlines()) >= 1
