"""The reproducible build tool for model weights: base + delta -> verified, signed model.

- Every command is a function of the same name: ``vbuild.apply(Path("manifest.toml"))``. It returns
  a result, raises :class:`vbuild.errors.VbuildError`, and never prints.
- Importing this package loads nothing else; a function is loaded when it is first looked up.
- A command that shares its name with a room (``plan``) is the function here; the room is imported
  as ``from vbuild.plan import ...``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vbuild.commands.apply import apply
    from vbuild.commands.check import check
    from vbuild.commands.diff import diff
    from vbuild.commands.doctor import doctor
    from vbuild.commands.fetch import fetch
    from vbuild.commands.inspect import inspect
    from vbuild.commands.keygen import keygen
    from vbuild.commands.lock import lock
    from vbuild.commands.make_delta import make_delta
    from vbuild.commands.plan import plan
    from vbuild.commands.sign import sign
    from vbuild.commands.verify import verify

    __version__: str

__all__ = [
    "__version__",
    "apply",
    "check",
    "diff",
    "doctor",
    "fetch",
    "inspect",
    "keygen",
    "lock",
    "make_delta",
    "plan",
    "sign",
    "verify",
]

_COMMANDS = frozenset(__all__) - {"__version__"}


class _Package(ModuleType):
    """This package, whose commands keep their names when a room of the same name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _COMMANDS or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("vbuild._core").VERSION
    if name in _COMMANDS:
        return getattr(import_module(f"vbuild.commands.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
