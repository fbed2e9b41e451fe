"""Opening local files without being tricked, and writing them so that they are whole.

- Inputs are regular files. A directory, fifo, socket or device is an error at once; opening
  never blocks (bad-inputs.md, 20).
- A reader remembers every byte range that it was asked for: planning depends on those bytes, so
  the build feeds *them*, not a second reading, to the file's hash (bad-inputs.md, 24).
- Identity is device, inode, size, mtime and ctime; a file whose identity changes is an error.
- A small file is written under a temporary name, synced, and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vbuild.errors import InvalidInput, Mismatch, Unavailable

__all__ = [
    "Identity",
    "InputFile",
    "make_directories",
    "open_regular",
    "os_error",
    "read_small",
    "sync_directory",
    "write_atomic",
]

SMALL_FILE_LIMIT = 64 * 1024 * 1024
"""Bytes; the largest file that is read into memory whole (indexes, tokenizers, configs)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What must stay the same about a file between its first opening and its last use."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, fd: int) -> Identity:
        """The identity of the open file ``fd``."""
        s = os.fstat(fd)
        return cls(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def os_error(error: OSError, where: str, doing: str) -> Unavailable:
    """The error for a failed system call: ``doing`` is a verb ("read", "write", "open")."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Unavailable("file-missing", "no such file", where=where)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unavailable("permission", f"no permission to {doing} it", where=where)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            "disk-full", "the disk is full", where=where, hint="free some space and run again"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable(
            "too-many-files",
            f"could not {doing} it: too many open files",
            where=where,
            hint="raise the limit (ulimit -n), then run again",
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Unavailable("io-error", f"could not {doing} it: {reason}", where=where)


def open_regular(path: Path, label: str) -> int:
    """A read-only descriptor of the regular file ``path``; ``label`` names it in errors.

    Raises InvalidInput (``not-a-file``) for anything else that has the name, Unavailable where
    it is missing or unreadable. Symbolic links are followed: a Hub cache consists of them, and
    an input is identified by its digest.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as e:
        if e.errno == errno.ENXIO:  # a socket
            raise InvalidInput("not-a-file", "not a regular file", where=label) from e
        raise os_error(e, label, "read") from e
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidInput("not-a-file", "not a regular file", where=label)
    return fd


class InputFile:
    """A regular file opened for reading, with a memory of what was read.

    ``name`` is the file's key in the manifest (or a path, outside a build).
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.fd = open_regular(path, name)
        self.identity = Identity.of(self.fd)
        self._ranges: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.identity.size

    def __enter__(self) -> InputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``, remembered; Mismatch if the file got shorter.

        The range must lie inside the file (the caller has compared it with ``size``).
        """
        data = read_exactly(self.fd, offset, length, self.name)
        known = self._ranges.get(offset, b"")
        common = min(len(known), length)
        if known[:common] != data[:common]:
            raise changed(self.name)
        if length > len(known):
            self._ranges[offset] = data
        return data

    @property
    def ranges(self) -> tuple[tuple[int, bytes], ...]:
        """What was read, as sorted, disjoint ``(offset, bytes)``.

        Where two readings overlap they must agree; Mismatch (``file-changed``) otherwise.
        """
        merged: list[tuple[int, bytearray]] = []
        for offset, data in sorted(self._ranges.items()):
            if merged and offset < merged[-1][0] + len(merged[-1][1]):
                begin, before = merged[-1]
                at = offset - begin
                common = min(len(before) - at, len(data))
                if before[at : at + common] != data[:common]:
                    raise changed(self.name)
                before += data[common:]
            else:
                merged.append((offset, bytearray(data)))
        return tuple((offset, bytes(data)) for offset, data in merged)


def changed(name: str) -> Mismatch:
    """The error for a file that did not stay the same while it was used."""
    return Mismatch(
        "file-changed",
        "the file changed while it was being read",
        where=name,
        hint="make sure that nothing writes to the inputs, then run again",
    )


def read_exactly(fd: int, offset: int, length: int, name: str) -> bytes:
    """Exactly ``length`` bytes of ``fd`` at ``offset``; Mismatch where the file ends earlier."""
    chunks = []
    while length:
        try:
            chunk = os.pread(fd, min(length, 1 << 30), offset)
        except OSError as e:
            raise os_error(e, name, "read") from e
        if not chunk:
            raise changed(name)
        chunks.append(chunk)
        offset += len(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def read_small(path: Path, name: str, limit: int = SMALL_FILE_LIMIT) -> bytes:
    """The whole of a small regular file; InvalidInput (``file-too-large``) above ``limit``."""
    with InputFile(path, name) as f:
        if f.size > limit:
            raise InvalidInput(
                "file-too-large",
                "the file is too large to be what it should be",
                where=name,
                expected=f"at most {limit} bytes",
                got=f"{f.size} bytes",
            )
        return f.pread(0, f.size)


def make_directories(path: Path, mode: int) -> None:
    """Make the directory ``path`` and the missing ones above it, each with exactly ``mode``.

    The umask has no say: under 0777 a directory that was just made could not be entered.
    """
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        directory.chmod(mode)


def sync_directory(path: Path) -> None:
    """fsync the directory ``path``, so that names created in it survive a crash."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _temporary(path: Path, mode: int) -> Iterator[tuple[int, Path]]:
    # A random name: a killed process must not block a later one that gets its number. 40 characters
    # are at most 160 bytes, which leaves it shorter than any file system's limit.
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(8).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        yield fd, temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, overwrite: bool = True) -> None:
    """Write ``data`` to ``path``: all of it or nothing, synced, with exactly ``mode``.

    With ``overwrite=False`` an existing ``path`` raises FileExistsError and is left as it is.
    """
    with _temporary(path, mode) as (fd, temporary):
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
        if overwrite:
            temporary.replace(path)
        else:
            os.link(temporary, path)
            temporary.unlink()
    sync_directory(path.parent)
