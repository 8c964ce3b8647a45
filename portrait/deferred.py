"""Delay imports until they are used, for libraries that import others without needing them here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from types import ModuleType
from typing import Any


class _StandIn(type):
    """The metaclass of a class that resolves to the real MODULE.NAME when it is inspected, called or compared."""

    def _real(cls) -> Any:  # noqa: ANN401  (of whatever type the real one is)
        return getattr(import_module(cls.__module__), cls.__name__)

    def __getattr__(cls, name: str) -> object:
        return getattr(cls._real(), name)

    def __call__(cls, *args: object, **kwargs: object) -> object:
        return cls._real()(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._real())

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls._real())


class _Deferred(MetaPathFinder, Loader):
    """A finder that provides some packages, and everything in them, as modules whose every name is a stand-in."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def defers(self, module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in self._packages)

    def find_spec(self, fullname: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if self.defers(fullname) else None

    def exec_module(self, module: ModuleType) -> None:
        def stand_in(name: str) -> object:
            if name == "__version__":
                return version(module.__name__)
            if name.startswith("__"):
                raise AttributeError(name)
            if sys.modules.get(module.__name__) is not module:  # the block has ended, but somebody kept the module
                return getattr(import_module(module.__name__), name)
            return _StandIn(name, (), {"__module__": module.__name__})

        module.__dict__["__getattr__"] = stand_in


@contextmanager
def deferred(*packages: str) -> Iterator[None]:
    """Within the block, importing from these packages loads nothing; each imported name loads when it is used.

    This is what `lazy from ... import` does from Python 3.15 on (PEP 810). Packages that are already loaded are left alone.
    Within the block their classes cannot be subclassed, and no other thread may import them.
    """
    finder = _Deferred([name for name in packages if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in filter(finder.defers, list(sys.modules)):  # a copy: other threads may import other packages
            sys.modules.pop(name, None)
