"""``vbuild lock``: sizes and digests of the inputs, written into the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vbuild.digest import watched
from vbuild.manifest.lock import LockResult, lock_manifest
from vbuild.progress import Progress

__all__ = ["lock"]


def lock(
    manifest: Path,
    *,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    check: bool = False,
    progress: Progress | None = None,
) -> LockResult:
    """Pin ``manifest`` in place; with ``check``, only say whether it is pinned and true.

    ``progress`` hears of the bytes that are hashed.
    """
    return lock_manifest(
        manifest, hash_files=watched(progress), base=base, delta=delta, check=check
    )
