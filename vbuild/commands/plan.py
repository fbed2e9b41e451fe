"""``vbuild plan``: what a build would read, compute and write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild import _core
from vbuild.build import Prepared, prepare
from vbuild.commands.apply import default_out
from vbuild.digest import kernels
from vbuild.manifest import load_manifest

__all__ = ["Planned", "plan"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A prepared build with what it needs of this machine, in bytes.

    ``memory`` is what the core's buffers and tables take with ``jobs`` threads, beside the
    interpreter; ``free`` is the room where the output would go.
    """

    prepared: Prepared
    jobs: int
    read: int
    write: int
    memory: int
    out: Path
    free: int


def plan(
    manifest: Path,
    *,
    base: Path | None = None,
    delta: Sequence[Path] = (),
    out: Path | None = None,
    jobs: int | None = None,
) -> Planned:
    """Plan the build of ``manifest`` without writing anything. Errors as for ``apply``."""
    loaded = load_manifest(manifest)
    prepared = prepare(loaded, base, delta)
    hands = jobs or len(os.sched_getaffinity(0))
    target = out or default_out(loaded.manifest.name)
    return Planned(
        prepared=prepared,
        jobs=hands,
        read=sum(material.size for material in prepared.materials.values()),
        write=prepared.plan.output_bytes + sum(map(len, prepared.side_files.values())),
        memory=_memory(prepared, hands),
        out=target,
        free=shutil.disk_usage(_existing(target)).free,
    )


def _memory(prepared: Prepared, jobs: int) -> int:
    """The buffers of the hungriest programs on ``jobs`` threads, and the tables of all."""
    own = kernels()
    tables = [program.table.serialize() for program in prepared.plan.programs]
    buffers = sorted((_core.check_table(table, own)[1] for table in tables), reverse=True)
    most = max(
        sum(buffers[:n]) + min(n, jobs - n) * _core.SECOND_THREAD_MEMORY
        for n in range(1, min(jobs, len(buffers)) + 1)
    )
    return most + sum(map(len, tables))


def _existing(path: Path) -> Path:
    """The nearest directory above ``path`` that is there."""
    path = Path(os.path.abspath(path))
    while not os.path.isdir(path):  # noqa: PTH112 (also answers where it may not look)
        path = path.parent
    return path
