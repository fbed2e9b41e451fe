"""``file:``: a directory on this machine.

- ``file:models/base`` is relative to the manifest's directory, ``file:/srv/base`` and
  ``file:///srv/base`` are absolute; ``..`` is allowed, it is the user's own machine.
- What follows is a path as it is: nothing is percent-decoded, ``~`` is not expanded.
"""

from __future__ import annotations

from pathlib import Path

from vbuild.errors import InvalidInput

__all__ = ["check", "directory"]


def check(rest: str, where: str | None = None) -> None:
    """Refuse (``bad-uri``) a ``file:`` URI with a host; ``rest`` is what follows the colon."""
    if rest.startswith("//") and not rest.startswith("///"):
        raise InvalidInput(
            "bad-uri",
            "a file URI names no host",
            where=where,
            expected="file:PATH or file:///PATH",
            got=f"file:{rest}",
        )


def directory(rest: str, manifest_dir: Path) -> Path:
    """The directory that ``file:`` + ``rest``, which is checked, names (it need not exist)."""
    return manifest_dir / (rest[2:] if rest.startswith("///") else rest)
