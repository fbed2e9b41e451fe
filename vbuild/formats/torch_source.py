"""Reading a pickle's bytes in order, from a window of a file whose end may not be known.

- A legacy checkpoint does not say how long its pickles are, so bytes are fetched in steps that
  double from 4 KiB to 1 MiB: what is read beyond the pickle stays small.
- Every byte is read once; tensors' values that a step happened to fetch are simply passed over.
- Positions are absolute offsets in the file, because error messages give them.
"""

from __future__ import annotations

from vbuild.errors import InvalidInput
from vbuild.files import InputFile

__all__ = ["PICKLE_LIMIT", "Source"]

PICKLE_LIMIT = 64 * 1024 * 1024
"""Bytes; the largest pickle that is interpreted (formats.md)."""

_FIRST_STEP = 4 * 1024
_LAST_STEP = 1024 * 1024
_LINE_LIMIT = 256


class Source:
    """The bytes of ``file`` from ``start`` to ``end``, taken from the front.

    At most PICKLE_LIMIT bytes are handed out; more raises InvalidInput (``pickle-too-large``).
    """

    def __init__(self, file: InputFile, start: int, end: int) -> None:
        """A window of ``file``, none of which is read yet."""
        self.name = file.name
        self.end = end
        self._file = file
        self._start = start
        self._base = start
        self._buffer = b""
        self._at = 0
        self._step = _FIRST_STEP

    @property
    def position(self) -> int:
        """The offset in the file of the next byte."""
        return self._base + self._at

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes; InvalidInput (``torch-truncated``) where fewer are left."""
        if self.position + n > self.end:
            raise InvalidInput(
                "torch-truncated",
                f"the pickle is cut off: {n} bytes are wanted at byte {self.position}",
                where=self.name,
                got=f"{self.end - self.position} bytes",
                hint="download or copy the file again",
            )
        if self.position + n - self._start > PICKLE_LIMIT:
            raise InvalidInput(
                "pickle-too-large",
                "the pickle is too large to describe a state dict",
                where=self.name,
                expected=f"at most {PICKLE_LIMIT} bytes",
            )
        self._fetch(n)
        data = self._buffer[self._at : self._at + n]
        self._at += n
        return data

    def line(self) -> bytes | None:
        """The next bytes up to a newline, which is dropped; None if the line is too long."""
        self._fetch(min(_LINE_LIMIT, self.end - self.position))
        stop = self._buffer.find(b"\n", self._at, self._at + _LINE_LIMIT)
        return None if stop < 0 else self.take(stop + 1 - self._at)[:-1]

    def read_at(self, offset: int, n: int) -> bytes:
        """``n`` bytes at ``offset``, which is not before what was already taken.

        Bytes that a step has fetched are not read again.
        """
        begin = offset - self._base
        if begin + n <= len(self._buffer):
            return self._buffer[begin : begin + n]
        have = self._buffer[begin:]
        return have + self._file.pread(offset + len(have), n - len(have))

    def _fetch(self, n: int) -> None:
        missing = self._at + n - len(self._buffer)
        if missing <= 0:
            return
        rest = self._buffer[self._at :]
        begin = self._base + len(self._buffer)
        chunk = self._file.pread(begin, min(max(missing, self._step), self.end - begin))
        self._base += self._at
        self._at = 0
        self._buffer = rest + chunk
        self._step = min(2 * self._step, _LAST_STEP)
