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

import contextlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vbuild import _core
from vbuild.build.materials import check_digest, first_mismatch
from vbuild.build.nonfinite import nonfinite_error
from vbuild.build.prepare import Prepared
from vbuild.digest import core_error, threads
from vbuild.errors import Interrupted
from vbuild.files import Identity, changed, open_regular, os_error
from vbuild.plan import FileRef, OutputFile
from vbuild.plan.order import Program
from vbuild.progress import POLL_SECONDS, Progress

__all__ = ["Task", "run_tasks"]


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
def _opened(prepared: Prepared, refs: Sequence[FileRef]) -> Iterator[list[int]]:
    """Descriptors of the files, which stay what they were when they were planned with."""
    fds: list[int] = []
    identities: list[Identity] = []
    try:
        for ref in refs:
            material = prepared.materials[ref]
            fds.append(open_regular(material.path, material.label))
            identities.append(Identity.of(fds[-1]))
            if identities[-1] != prepared.identities.get(ref, identities[-1]):
                raise changed(material.label)
        yield fds
        for fd, ref, identity in zip(fds, refs, identities, strict=True):
            if Identity.of(fd) != identity:
                raise changed(prepared.materials[ref].label)
    finally:
        for fd in fds:
            os.close(fd)


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[int]:
    """A descriptor of an empty file without a name in ``directory``."""
    try:
        file = tempfile.TemporaryFile(dir=directory)
    except OSError as e:
        raise os_error(e, str(directory), "write") from e
    with file:
        yield file.fileno()


def _run_one(
    prepared: Prepared,
    task: Task,
    create: Callable[[str], int],
    scratch: Path,
    kernels: _core.Kernels,
    control: _core.Control,
    tensor_digests: Collection[str],
    tag_key: bytes,
) -> _core.Result:
    """Run one program; its output is synced when this returns."""
    labels = [prepared.materials[ref].label for ref in task.program.files]
    output = task.output.name if task.output is not None else ""
    out_fd = -1
    with _opened(prepared, task.program.files) as fds, _scratch(scratch) as scratch_fd:
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
            if task.output is not None:
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
            check_digest(prepared.materials[ref], digest.hex())
    return result


def run_tasks(
    prepared: Prepared,
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

    ``create(name)`` opens an output file for writing; ``scratch`` is a directory for what tensors
    that lie in another order are read into; ``done`` is called in this thread when a
    program has ended and the files that it hashed are the pinned ones. The first error stops the
    others. ``tensor_digests`` names the outputs whose tensors are hashed one by one. ``tag_key`` is
    random and of this build alone: results have the tags of their programs' regions under it.
    KeyboardInterrupt becomes Interrupted.
    """
    control = _core.Control()

    def run(task: Task) -> _core.Result:
        return _run_one(
            prepared, task, create, scratch, kernels, control, tensor_digests, tag_key
        )

    try:
        _run_all(tasks, run, done, control, jobs, progress)
    except _NotFinite as found:
        wrong = first_mismatch(prepared.materials)
        raise wrong or nonfinite_error(found.output, found.fault) from found
    except KeyboardInterrupt as e:
        raise Interrupted("interrupted", "interrupted") from e


def _run_all(
    tasks: Sequence[Task],
    run: Callable[[Task], _core.Result],
    done: Callable[[Task, _core.Result], None],
    control: _core.Control,
    jobs: int | None,
    progress: Progress,
) -> None:
    """``done(task, run(task))`` for every task; all threads have ended when this returns."""
    progress.begin(sum(task.bytes for task in tasks))
    widest = max((len(task.program.files) for task in tasks), default=0)
    hands = threads(jobs, widest + 2)
    pool = ThreadPoolExecutor(max_workers=hands, thread_name_prefix="vbuild")
    waiting = iter(sorted(tasks, key=lambda t: -t.bytes))
    running: dict[Future[_core.Result], Task] = {}
    left, lent = len(tasks), 0
    try:
        while True:
            if left + lent < hands:
                control.lend(hands - left - lent)
                lent = hands - left
            # Not all at once: waiting takes time in proportion to what is waited for.
            running |= {pool.submit(run, t): t for t in islice(waiting, 2 * hands - len(running))}
            if not running:
                break
            ended, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            progress.at(control.done)
            for future in [f for f in running if f in ended]:
                done(running.pop(future), future.result())
                left -= 1
    finally:
        control.stop()
        pool.shutdown(wait=True, cancel_futures=True)
        progress.end()
