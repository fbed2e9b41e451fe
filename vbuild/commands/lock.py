"""``vbuild lock``: sizes and digests of the inputs, written into the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vbuild.build.materials import untrue_weights
from vbuild.digest import watched
from vbuild.errors import Mismatch
from vbuild.manifest import load_manifest
from vbuild.manifest.check import inputs
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

    ``progress`` hears of the bytes that are hashed. Weights that are pinned are compared, too.
    """
    loaded = load_manifest(manifest)
    untrue: tuple[Mismatch, ...] = ()
    if any(side.weights is not None for _, side in inputs(loaded.manifest)):
        untrue = untrue_weights(loaded, base, delta, progress=progress)
    if untrue and not check:
        raise untrue[0]
    result = lock_manifest(
        manifest, hash_files=watched(progress), base=base, delta=delta, check=check
    )
    return replace(result, problems=(*result.problems, *untrue))
