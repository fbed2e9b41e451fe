"""A file that is being downloaded: kept when the download is cut off, hashed while it grows.

- It has the same name in every process, so that the next run goes on where this one stopped.
- One process at a time writes to it, with a lock that the system drops when the process dies. Where
  a file system grants such locks to everybody, two processes spoil each other's file; the digest
  shows it, and nothing gets further than this file.
- What an earlier run has left is hashed before it is continued: the digest is that of all bytes.
- More bytes than were announced are refused as they come, so a server cannot fill the disk.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from vbuild.errors import Interrupted, Unavailable
from vbuild.files import read_exactly

__all__ = ["Partial"]

WAIT_SECONDS: Final = 0.2
_BLOCK: Final = 4 * 1024 * 1024


class Partial:
    """The unfinished file ``path``, opened and locked; ``label`` names the file in errors.

    It is written to as a file is (``write``, ``seek``, ``tell``, ``truncate``), by one thread.
    ``size`` is what it must have in the end, if that is known; ``advance`` hears how many bytes
    have come (fewer than none when they are thrown away); ``stop`` ends a write with Interrupted.
    """

    def __init__(
        self,
        path: Path,
        label: str,
        *,
        size: int | None,
        advance: Callable[[int], None],
        stop: threading.Event,
    ) -> None:
        self.path = path
        self.label = label
        self.size = size
        self._advance = advance
        self._stop = stop
        self._fd = _locked(path, stop)
        self._hash = hashlib.sha256()
        self._at = 0
        self.kept = self._recover()

    def _recover(self) -> int:
        """Hash what an earlier run has left; how many bytes that are."""
        left = os.fstat(self._fd).st_size
        if self.size is not None and left > self.size:
            left = 0
            os.ftruncate(self._fd, 0)
        while self._at < left:
            if self._stop.is_set():
                raise Interrupted("interrupted", "interrupted")
            block = read_exactly(self._fd, self._at, min(_BLOCK, left - self._at), self.label)
            self._hash.update(block)
            self._at += len(block)
        self._advance(left)
        return left

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        os.close(self._fd)  # drops the lock, too

    def write(self, data: bytes) -> int:
        """Append ``data``; Unavailable (``hub-length``) beyond the announced size."""
        if self._stop.is_set():
            raise Interrupted("interrupted", "interrupted")
        if self.size is not None and self._at + len(data) > self.size:
            raise Unavailable(
                "hub-length",
                "the Hub sends more than it has announced",
                where=self.label,
                expected=f"{self.size} bytes",
                got=f"at least {self._at + len(data)} bytes",
            )
        view = memoryview(data)
        while view:
            view = view[os.pwrite(self._fd, view, self._at + len(data) - len(view)) :]
        self._hash.update(data)
        self._at += len(data)
        self._advance(len(data))
        return len(data)

    def tell(self) -> int:
        """How many bytes there are."""
        return self._at

    def seek(self, position: int) -> int:
        """Go back to the beginning, the only other place that one can go on from."""
        if position != self._at:
            self.restart()
        return self._at

    def truncate(self) -> int:
        """What is behind the position is gone already."""
        return self._at

    def restart(self) -> None:
        """Throw away what there is."""
        os.ftruncate(self._fd, 0)
        self._advance(-self._at)
        self._hash = hashlib.sha256()
        self._at = 0

    def discard(self) -> None:
        """Throw away what there is, and its name."""
        self.restart()
        self.path.unlink()

    @property
    def sha256(self) -> str:
        """Of all bytes that there are, lower-case hex."""
        return self._hash.hexdigest()

    def head(self, length: int) -> bytes:
        """The first bytes, at most ``length``."""
        return read_exactly(self._fd, 0, min(length, self._at), self.label)

    def finish(self, final: Path) -> None:
        """Give the file, which is complete, its final name, replacing what has it."""
        os.fsync(self._fd)
        self.path.replace(final)


def _locked(path: Path, stop: threading.Event) -> int:
    """A descriptor of ``path``, made if it is not there, with the lock; waits for the lock."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EACCES, errno.ENOENT):
                os.close(fd)
                raise
        os.close(fd)  # another process has it, or has just given it its final name
        if stop.wait(WAIT_SECONDS):
            raise Interrupted("interrupted", "interrupted")
