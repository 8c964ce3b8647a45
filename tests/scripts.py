"""The scripts of eval/ and weights/training/, which are no packages, as modules that a test can call."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EVAL = Path(__file__).parents[1] / "eval"
TRAINING = EVAL.parent / "weights" / "training"


def script(name: str) -> ModuleType:
    """A script of eval/ as a module."""
    return _module(EVAL, name, f"portrait_eval_{name}")


def stage_of_training(name: str) -> ModuleType:
    """A module of weights/training/, under a name that no installed module has."""
    return _module(TRAINING, name, f"training_{name}")


def _module(folder: Path, file: str, name: str) -> ModuleType:
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(name, folder / f"{file}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module
