"""Running a plan's programs on threads, and comparing what they read with the pins.

- A file is opened for its run only, and its identity is compared with the one at planning, before
  and after; regions of files that are read twice are tagged under the build's key: with the digest
  of what was read, that is the guard of performance.md.
- Where fewer programs are left than there are threads for, those that run get a second one: a
  single large file keeps two processors busy (performance.md).
- A program's inputs are judged when it has ended, and nothing is kept before they are.
- A result that is not finite is reported only if the inputs are the right ones: with a wrong base
  it is a consequence, not the fault. They are judged once, when everything has stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vbuild import _core
from vbuild.build.materials import Material, check_digest, first_mismatch
from vbuild.build.nonfinite import nonfinite_error
from vbuild.build.pool import opened, run_all
from vbuild.build.pool import scratch as scratch_file
from vbuild.digest import core_error
from vbuild.errors import Interrupted
from vbuild.files import Identity
from vbuild.plan import FileRef, OutputFile
from vbuild.plan.order import Program
from vbuild.progress import Progress

__all__ = ["Pinned", "Task", "run_tasks"]


class Pinned(Protocol):
    """The files that a run reads, what they were when they were planned with, and what they have to
    be; see :class:`vbuild.build.pool.Inputs`."""

    @property
    def materials(self) -> Mapping[FileRef, Material]:
        """By reference."""

    @property
    def identities(self) -> Mapping[FileRef, Identity]:
        """Of those whose headers were read."""


@dataclass(frozen=True, slots=True)
class Task:
    """A program, and the output file that it makes (None: it only hashes)."""

    program: Program
    output: OutputFile | None

    @property
    def bytes(self) -> int:
        """Bytes that it hashes."""
        inputs = sum(size for mode, size in self.program.table.sources if mode)
        return inputs + (self.output.size if self.output is not None else 0)


class _NotFinite(Exception):
    """A result that is not finite, before anybody knows whether the inputs are right."""

    def __init__(self, output: OutputFile, fault: _core.Fault) -> None:
        super().__init__(fault.status)
        self.output = output
        self.fault = fault


def _run_one(
    inputs: Pinned,
    task: Task,
    create: Callable[[str], int],
    scratch: Path,
    kernels: _core.Kernels,
    control: _core.Control,
    tensor_digests: Collection[str],
    tag_key: bytes,
) -> _core.Result:
    """Run one program; its output is synced when this returns."""
    labels = [inputs.materials[ref].label for ref in task.program.files]
    output = task.output.name if task.output is not None else ""
    out_fd = -1
    with opened(inputs, task.program.files) as fds, scratch_file(scratch) as scratch_fd:
        try:
            out_fd = create(output) if task.output is not None else -1
            result = _core.run(
                task.program.table.serialize(),
                fds,
                out_fd,
                kernels,
                control,
                hash_output=task.output is not None,
                tensor_digests=output in tensor_digests,
                tag_key=tag_key,
                scratch_fd=scratch_fd,
            )
            if out_fd >= 0:
                os.fsync(out_fd)
        except _core.Fault as fault:
            if fault.status == "nonfinite" and task.output is not None:
                raise _NotFinite(task.output, fault) from fault
            raise core_error(fault, labels, output) from fault
        finally:
            if out_fd >= 0:
                os.close(out_fd)
    for ref, digest in zip(task.program.files, result.sources, strict=True):
        if digest is not None:
            check_digest(inputs.materials[ref], digest.hex())
    return result


def run_tasks(
    inputs: Pinned,
    tasks: Sequence[Task],
    *,
    create: Callable[[str], int],
    scratch: Path,
    done: Callable[[Task, _core.Result], None],
    kernels: _core.Kernels,
    jobs: int | None,
    progress: Progress,
    tag_key: bytes,
    tensor_digests: Collection[str] = (),
) -> None:
    """Run ``tasks`` on ``jobs`` threads (default: see :func:`threads`), the largest first.

    ``create(name)`` opens an output file for writing, or gives -1: then it is hashed only.
    ``scratch`` is a directory for what tensors that lie in another order are read into. ``done`` is
    called in this thread when a program has ended and the files that it hashed are the pinned ones.
    The first error stops the others. ``tensor_digests`` names the outputs whose tensors are hashed
    one by one. ``tag_key`` is random and of this build alone: results have the tags of their
    programs' regions under it. KeyboardInterrupt becomes Interrupted.
    """
    control = _core.Control()

    def run(task: Task) -> _core.Result:
        return _run_one(
            inputs, task, create, scratch, kernels, control, tensor_digests, tag_key
        )

    try:
        run_all(tasks, run, done, control, jobs, progress)
    except _NotFinite as found:
        wrong = first_mismatch(inputs.materials)
        raise wrong or nonfinite_error(found.output, found.fault) from found
    except KeyboardInterrupt as e:
        raise Interrupted("interrupted", "interrupted") from e
