"""Import insightface without skimage, which needs scipy, and which it only uses for alignments that are not done here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_TRANSFORM = "skimage.transform"


@contextmanager
def without_skimage() -> Iterator[None]:
    """Within the block, importing from `skimage.transform` loads nothing; each imported function loads it when it is called.

    If skimage is already loaded, nothing changes. No other thread may import it meanwhile.
    """
    if "skimage" in sys.modules:
        yield
        return
    package, transform = ModuleType("skimage"), ModuleType(_TRANSFORM)
    vars(package)["transform"], vars(transform)["__getattr__"] = transform, _loading
    sys.modules |= {"skimage": package, _TRANSFORM: transform}
    try:
        yield
    finally:
        del sys.modules["skimage"], sys.modules[_TRANSFORM]


def _loading(name: str) -> Callable[..., Any]:
    """A function of `skimage.transform` that is loaded when it is called."""
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *args, **options: getattr(import_module(_TRANSFORM), name)(*args, **options)
