"""How far a long piece of work is, for whoever wants to hear it.

- Work says how many bytes it will take and how many are done; the command line decides what that
  looks like. The library itself never prints.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final, Protocol

__all__ = ["POLL_SECONDS", "Progress", "Silence", "reporting"]

POLL_SECONDS: Final = 0.1


class Progress(Protocol):
    """Hears how far a piece of work is."""

    def begin(self, total: int) -> None:
        """``total`` bytes are going to be hashed or downloaded."""

    def at(self, done: int) -> None:
        """``done`` of them are."""

    def end(self) -> None:
        """The work has ended, whatever the outcome."""


class Silence:
    """Progress that nobody looks at."""

    def begin(self, total: int) -> None:
        """Nothing."""

    def at(self, done: int) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def reporting(progress: Progress, total: int, done: Callable[[], int]) -> Iterator[None]:
    """Tell ``progress`` what ``done()`` returns, ten times a second, while the body runs."""
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(POLL_SECONDS):
            progress.at(done())

    progress.begin(total)
    reporter = threading.Thread(target=report, name="vbuild-progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()
        progress.end()
