"""``vbuild fetch``: have a manifest's inputs of the Hub in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vbuild.build.materials import check_overrides, group_label
from vbuild.manifest import Base, Delta, LoadedManifest, load_manifest, require_locked
from vbuild.progress import Progress
from vbuild.sources import repository_of
from vbuild.sources.fetch import Fetched, Pending, fetch_files
from vbuild.sources.wanted import Wanted

__all__ = ["fetch", "fetch_inputs"]


def fetch(
    manifest: Path,
    *,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    refetch: bool = False,
    progress: Progress | None = None,
    on_start: Callable[[LoadedManifest, Pending], None] | None = None,
) -> tuple[Fetched, ...]:
    """Download every pinned file of the Hub that is not in the cache; all of them, in order.

    ``base`` and ``delta`` are local copies, of which nothing is downloaded. With ``refetch`` the
    files in the cache are hashed, and those that are not the pinned ones are downloaded again.
    ``on_start`` is called before the first byte comes: the place to show the licence. Errors: those
    of the manifest room; Mismatch where the Hub has, or sends, another file; Unavailable where it
    cannot be reached or refuses; NotLocked for a manifest that is not fully pinned.
    """
    loaded = load_manifest(manifest)
    return fetch_inputs(loaded, base, delta, refetch=refetch, progress=progress, on_start=on_start)


def fetch_inputs(
    loaded: LoadedManifest,
    base: Path | None,
    delta: Sequence[Path],
    *,
    refetch: bool,
    progress: Progress | None,
    on_start: Callable[[LoadedManifest, Pending], None] | None,
) -> tuple[Fetched, ...]:
    """As :func:`fetch`, for a manifest that is loaded."""
    require_locked(loaded)
    check_overrides(loaded, delta)

    def start(pending: Pending) -> None:
        if on_start is not None:
            on_start(loaded, pending)

    wanted = _wanted(loaded, [base, *delta])
    return fetch_files(wanted, refetch=refetch, progress=progress, on_start=start)


def _wanted(loaded: LoadedManifest, overrides: Sequence[Path | None]) -> list[Wanted]:
    """The files of the Hub that the manifest pins."""
    wanted = []
    sides: tuple[Base | Delta, ...] = (loaded.manifest.base, *loaded.manifest.delta)
    for group, side in enumerate(sides):
        repository = repository_of(side.uri, overrides[group] if group < len(overrides) else None)
        if repository is None:
            continue
        repository.commit(f"{group_label(group)}: {side.uri}")
        for name, pin in sorted(side.files.items()):
            label = f"{group_label(group)}/{name}"
            wanted.append(Wanted(repository, name, label, pin.size, pin.sha256))
    return wanted
