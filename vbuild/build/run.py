"""Running a plan's programs on threads, and comparing what they read with the pins.

- A file is opened for its run only, and its identity is compared with the one at planning, before
  and after; regions of files that are read twice are tagged under the build's key: with the digest
  of what was read, that is the guard of performance.md.
- A program's inputs are judged when it has ended, and nothing is kept before they are.
- A result that is not finite is reported only if the inputs are the right ones: with a wrong base
  it is a consequence, not the fault. They are judged once, when everything has stopped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from vbuild import _core
from vbuild.build.materials import Material, check_digest, first_mismatch
from vbuild.build.nonfinite import nonfinite_error
from vbuild.digest import core_error, threads
from vbuild.errors import Interrupted
from vbuild.files import Identity, changed, open_regular
from vbuild.plan import FileRef, OutputFile
from vbuild.plan.order import Program
from vbuild.progress import POLL_SECONDS, Progress

__all__ = [
    "Input",
    "Inputs",
    "Pinned",
    "Task",
    "opened",
    "run_all",
    "run_tasks",
]


class Input(Protocol):
    """A file that a program reads, and how messages name it."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def label(self) -> str:
        """``base/model.bin``."""


class Inputs(Protocol):
    """The files that a run reads; ``identities`` has what they were when they were planned with."""

    @property
    def materials(self) -> Mapping[FileRef, Input]:
        """By reference."""

    @property
    def identities(self) -> Mapping[FileRef, Identity]:
        """Of those whose headers were read."""


class Pinned(Protocol):
    """As :class:`Inputs`, and what the digest of each file has to be."""

    @property
    def materials(self) -> Mapping[FileRef, Material]:
        """By reference."""

    @property
    def identities(self) -> Mapping[FileRef, Identity]:
        """Of those whose headers were read."""


class Work(Protocol):
    """A program to run, and the bytes that its progress is counted in."""

    @property
    def program(self) -> Program:
        """What is run."""

    @property
    def bytes(self) -> int:
        """How much there is to do."""


Job = TypeVar("Job", bound=Work)


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


@contextlib.contextmanager
def opened(inputs: Inputs, refs: Sequence[FileRef]) -> Iterator[list[int]]:
    """Descriptors of the files, which stay what they were when they were planned with."""
    fds: list[int] = []
    identities: list[Identity] = []
    try:
        for ref in refs:
            material = inputs.materials[ref]
            fds.append(open_regular(material.path, material.label))
            identities.append(Identity.of(fds[-1]))
            if identities[-1] != inputs.identities.get(ref, identities[-1]):
                raise changed(material.label)
        yield fds
        for fd, ref, identity in zip(fds, refs, identities, strict=True):
            if Identity.of(fd) != identity:
                raise changed(inputs.materials[ref].label)
    finally:
        for fd in fds:
            os.close(fd)


def _run_one(
    inputs: Pinned,
    task: Task,
    create: Callable[[str], int],
    kernels: _core.Kernels,
    control: _core.Control,
    tensor_digests: bool,
    tag_key: bytes,
) -> _core.Result:
    """Run one program; its output is synced when this returns."""
    labels = [inputs.materials[ref].label for ref in task.program.files]
    output = task.output.name if task.output is not None else ""
    out_fd = -1
    with opened(inputs, task.program.files) as fds:
        try:
            out_fd = create(output) if task.output is not None else -1
            result = _core.run(
                task.program.table.serialize(),
                fds,
                out_fd,
                kernels,
                control,
                hash_output=task.output is not None,
                tensor_digests=tensor_digests and task.output is not None,
                tag_key=tag_key,
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
    done: Callable[[Task, _core.Result], None],
    kernels: _core.Kernels,
    jobs: int | None,
    progress: Progress,
    tag_key: bytes,
    tensor_digests: bool = False,
) -> None:
    """Run ``tasks`` on ``jobs`` threads (default: see :func:`threads`), the largest first.

    ``create(name)`` opens an output file for writing, or gives -1: then it is hashed only.
    ``done`` is called in this thread when a program has ended and the files that it hashed are the
    pinned ones. The first error stops the others. ``tag_key`` is random and of this build alone:
    results have the tags of their programs' regions under it. KeyboardInterrupt becomes
    Interrupted.
    """
    control = _core.Control()

    def run(task: Task) -> _core.Result:
        return _run_one(inputs, task, create, kernels, control, tensor_digests, tag_key)

    try:
        run_all(tasks, run, done, control, jobs, progress)
    except _NotFinite as found:
        wrong = first_mismatch(inputs.materials)
        raise wrong or nonfinite_error(found.output, found.fault) from found
    except KeyboardInterrupt as e:
        raise Interrupted("interrupted", "interrupted") from e


def run_all(
    tasks: Sequence[Job],
    run: Callable[[Job], _core.Result],
    done: Callable[[Job, _core.Result], None],
    control: _core.Control,
    jobs: int | None,
    progress: Progress,
) -> None:
    """``done(task, run(task))`` for every task; all threads have ended when this returns."""
    progress.begin(sum(task.bytes for task in tasks))
    widest = max((len(task.program.files) for task in tasks), default=0)
    hands = threads(jobs, widest + 1)
    pool = ThreadPoolExecutor(max_workers=hands, thread_name_prefix="vbuild")
    waiting = iter(sorted(tasks, key=lambda t: -t.bytes))
    running: dict[Future[_core.Result], Job] = {}
    try:
        while True:
            # Not all at once: waiting takes time in proportion to what is waited for.
            running |= {pool.submit(run, t): t for t in islice(waiting, 2 * hands - len(running))}
            if not running:
                break
            ended, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            progress.at(control.done)
            for future in [f for f in running if f in ended]:
                done(running.pop(future), future.result())
    finally:
        control.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        progress.end()
