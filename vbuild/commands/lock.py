"""``vbuild lock``: sizes and digests of the inputs, written into the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vbuild.digest import hash_files
from vbuild.manifest.lock import LockResult, lock_manifest

__all__ = ["lock"]


def lock(
    manifest: Path,
    *,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    check: bool = False,
) -> LockResult:
    """Pin ``manifest`` in place; with ``check``, only say whether it is pinned and true."""
    return lock_manifest(manifest, hash_files=hash_files, base=base, delta=delta, check=check)
