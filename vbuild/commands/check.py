"""``vbuild check``: build a manifest again under other conditions, and compare the bytes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild import _core
from vbuild.commands.plan import plan
from vbuild.errors import Unavailable
from vbuild.reproduce import (
    Difference,
    Observation,
    Request,
    Variant,
    differences,
    rebuild_all,
    reference,
    variants,
    vbuild_command,
)

__all__ = ["Checked", "Checking", "check"]


@dataclass(frozen=True, slots=True)
class Checking:
    """What a check is going to do: ``needed`` and ``free`` are bytes in the directory ``work``."""

    name: str
    variants: tuple[Variant, ...]
    work: Path
    needed: int
    free: int


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer: ``observations`` are the rebuilds, then what they were compared with."""

    checking: Checking
    observations: tuple[Observation, ...]
    differences: tuple[Difference, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether everything is the same."""
        return not self.differences


def check(
    manifest: Path,
    *,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    vary: Collection[str] = (),
    against: Path | None = None,
    work: Path | None = None,
    on_start: Callable[[Checking], None] | None = None,
    on_build: Callable[[Checking, int], None] | None = None,
    environment: Mapping[str, str] = os.environ,
    command: Sequence[str] | None = None,
) -> Checked:
    """Build ``manifest`` once per variant, in child processes, and compare the results.

    ``vary`` names the conditions to change one by one (``all``, or some of
    :data:`vbuild.reproduce.CONDITIONS`); without it there are two builds that differ in all of
    them. ``against`` is a model directory or a SHA256SUMS file to compare with as well. ``work`` is
    where the builds go (default: the system's temporary directory); they are removed. ``command``
    replaces ``python -m vbuild``. ``on_build`` hears the number of each build, from 1, before it.

    A difference is a result. Errors: those of ``plan``; of a child, with its exit status;
    InvalidInput for an unknown condition; Unavailable where there is no room.
    """
    start = time.monotonic()
    chosen = variants(vary, _core.cpu_features(), len(os.sched_getaffinity(0)))
    place = Path(os.path.abspath(work or tempfile.gettempdir()))
    if not place.is_dir():
        raise Unavailable(
            "file-missing",
            "no such directory to work in",
            where=str(place),
            hint="make it, or choose another with --work DIR",
        )
    planned = plan(manifest, base=base, delta=delta, out=place / "check")
    name = planned.prepared.loaded.manifest.name
    checking = Checking(name, chosen, place, planned.write, planned.free)
    _check_space(checking)
    known = () if against is None else reference(against)
    if on_start is not None:
        on_start(checking)
    request = Request(
        name,
        Path(os.path.abspath(manifest)),
        None if base is None else Path(os.path.abspath(base)),
        tuple(Path(os.path.abspath(path)) for path in delta),
        dict(environment),
        tuple(command or vbuild_command()),
    )

    def building(variant: Variant) -> None:
        if on_build is not None:
            on_build(checking, chosen.index(variant) + 1)

    made = (*rebuild_all(request, chosen, place, building), *known)
    return Checked(checking, made, differences(made), time.monotonic() - start)


def _check_space(checking: Checking) -> None:
    if checking.needed > checking.free:
        raise Unavailable(
            "disk-full",
            "there is not enough room for a build",
            where=str(checking.work),
            expected=f"{checking.needed} bytes free",
            got=f"{checking.free} bytes",
            hint="free some space, or choose another disk with --work DIR",
        )
