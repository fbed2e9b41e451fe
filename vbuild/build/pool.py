"""Running programs on threads, whatever they are for.

- A file is opened for its run only, and its identity is compared with the one at planning, before
  and after.
- The first error stops all others; threads that have nothing to do are lent to the runs that have.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from vbuild import _core
from vbuild.digest import threads
from vbuild.files import Identity, changed, open_regular, os_error
from vbuild.plan import FileRef
from vbuild.plan.order import Program
from vbuild.progress import POLL_SECONDS, Progress

__all__ = ["Input", "Inputs", "Work", "opened", "run_all", "scratch"]


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


class Work(Protocol):
    """A program to run, and the bytes that its progress is counted in."""

    @property
    def program(self) -> Program:
        """What is run."""

    @property
    def bytes(self) -> int:
        """How much there is to do."""


Job = TypeVar("Job", bound=Work)


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


@contextlib.contextmanager
def scratch(directory: Path | None = None) -> Iterator[int]:
    """A descriptor of an empty file without a name in ``directory`` (default: the system's)."""
    try:
        file = tempfile.TemporaryFile(dir=directory)
    except OSError as e:
        raise os_error(e, str(directory or tempfile.gettempdir()), "write") from e
    with file:
        yield file.fileno()


def run_all(
    tasks: Sequence[Job],
    run: Callable[[Job], _core.Result],
    done: Callable[[Job, _core.Result], None],
    control: _core.Control,
    jobs: int | None,
    progress: Progress,
) -> None:
    """``done(task, run(task))`` for every task, the largest first, on ``jobs`` threads (default: see
    :func:`vbuild.digest.threads`); ``done`` is called in this thread.

    ``control`` is what ``run`` gives to the core. All threads have ended when this returns.
    """
    progress.begin(sum(task.bytes for task in tasks))
    widest = max((len(task.program.files) for task in tasks), default=0)
    hands = threads(jobs, widest + 2)
    pool = ThreadPoolExecutor(max_workers=hands, thread_name_prefix="vbuild")
    waiting = iter(sorted(tasks, key=lambda t: -t.bytes))
    running: dict[Future[_core.Result], Job] = {}
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
