"""A strict reader of the ZIP archives that PyTorch writes: where each entry's bytes lie.

- Every entry is stored: no compression, no encryption, no comment, one disk.
- The entries tile the file: the first local header is at byte 0, each next one stands where the
  one before ends (its data descriptor included), the central directory follows the last, and the
  end records follow it. So nothing can overlap, precede or hide between entries.
- Sizes come from the central directory, because PyTorch leaves them out of local headers; the
  start of the data comes from the local header, whose extra field pads it to 64 bytes
  (formats.md). Local names and sizes that contradict the directory are refused.
- Zip64 values count only where the 32-bit field says so, and must agree where both are given.
- CRCs are not looked at: PyTorch can write them wrong on purpose, and digests do their work.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.strict_json import quoted

__all__ = ["DIRECTORY_LIMIT", "Directory", "Entry", "read_directory"]

DIRECTORY_LIMIT = 16 * 1024 * 1024
"""Bytes; the largest central directory that is read: room for 160,000 tensors."""

_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_FOLDER = 0x10
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_FLAG_ENCRYPTED, _FLAG_DESCRIPTOR, _FLAG_UTF8 = 0x1, 0x8, 0x800
# With and without the optional signature, with 32-bit and 64-bit sizes.
_DESCRIPTOR_SIZES = (12, 16, 20, 24)


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored entry: ``size`` bytes from byte ``start`` of the file."""

    name: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Record:
    """What the central directory says of an entry."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Span:
    """Where the central directory lies, and how many entries it has."""

    offset: int
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class Directory:
    """The central directory: it is enough to tell what kind of archive this is."""

    file: InputFile
    records: list[_Record]
    offset: int

    @property
    def names(self) -> list[str]:
        """The names of all entries, in the directory's order."""
        return [record.name for record in self.records]

    def entries(self) -> list[Entry]:
        """All entries, in the directory's order, once the local headers have been compared.

        InvalidInput: ``zip-malformed``, ``zip-compressed``, ``zip-overlap``.
        """
        starts = _check_layout(self.file, self.records, self.offset)
        return [Entry(r.name, starts[r.offset], r.size) for r in self.records]


def read_directory(file: InputFile) -> Directory:
    """The central directory of the archive ``file``.

    InvalidInput: ``zip-malformed``, ``zip-truncated``, ``zip-encrypted``,
    ``zip-duplicate-entry``, ``zip-too-large``.
    """
    span = _find_directory(file)
    records = _parse_directory(file, file.pread(span.offset, span.size), span.count)
    _check_unique(file, records)
    return Directory(file, records, span.offset)


def _malformed(file: InputFile, what: str, at: int | None = None) -> InvalidInput:
    place = "" if at is None else f" (byte {at})"
    return InvalidInput("zip-malformed", f"malformed zip archive: {what}{place}", where=file.name)


def _find_directory(file: InputFile) -> _Span:
    """The end records, which must be the file's very last bytes."""
    end_at = file.size - _END.size
    end = file.pread(end_at, _END.size) if end_at >= 0 else b""
    if end[:4] != b"PK\x05\x06":
        raise InvalidInput(
            "zip-truncated",
            "the zip archive has no end record as its last bytes: it is cut off, or something "
            "(a comment, other data) follows it",
            where=file.name,
            hint="download or copy the file again",
        )
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack(end)
    if comment:
        raise _malformed(file, "it has a comment", end_at)
    if disk or first_disk or here != count:
        raise _malformed(file, "it has more than one part", end_at)
    directory, end_at = _find_zip64(file, end_at, _Span(offset, size, count))
    if directory.offset + directory.size != end_at:
        raise _malformed(file, "the central directory does not end at the end record", end_at)
    if directory.size > DIRECTORY_LIMIT:
        raise InvalidInput(
            "zip-too-large",
            "the zip archive's central directory is too large",
            where=file.name,
            expected=f"at most {DIRECTORY_LIMIT} bytes",
            got=f"{directory.size} bytes",
        )
    return directory


def _find_zip64(file: InputFile, end_at: int, short: _Span) -> tuple[_Span, int]:
    """The directory, and where the end records begin, with zip64 taken into account."""
    locator_at = end_at - _END64_LOCATOR.size
    locator = file.pread(locator_at, _END64_LOCATOR.size) if locator_at >= 0 else b""
    if locator[:4] != b"PK\x06\x07":
        if short.count == _MAX16 or _MAX32 in (short.size, short.offset):
            raise _malformed(file, "its zip64 end record is missing", end_at)
        return short, end_at
    _, disk, end64_at, disks = _END64_LOCATOR.unpack(locator)
    if disk or disks != 1 or end64_at != locator_at - _END64.size or end64_at < 0:
        raise _malformed(file, "its zip64 locator does not fit", locator_at)
    record = file.pread(end64_at, _END64.size)
    magic, length, _, _, disk, first_disk, here, count, size, offset = _END64.unpack(record)
    if magic != b"PK\x06\x06" or length != _END64.size - 12:
        raise _malformed(file, "its zip64 end record is unusable", end64_at)
    if disk or first_disk or here != count:
        raise _malformed(file, "it has more than one part", end64_at)
    clamped = _Span(min(offset, _MAX32), min(size, _MAX32), min(count, _MAX16))
    if clamped != short:
        raise _malformed(file, "its end records contradict each other", end64_at)
    return _Span(offset, size, count), end64_at


def _parse_directory(file: InputFile, data: bytes, count: int) -> list[_Record]:
    records: list[_Record] = []
    at = 0
    while at < len(data):
        if at + _CENTRAL.size > len(data) or len(records) == count:
            raise _malformed(file, "the central directory does not hold what it says")
        fields = _CENTRAL.unpack_from(data, at)
        name_at = at + _CENTRAL.size
        extra_at = name_at + fields[10]
        next_at = extra_at + fields[11]
        if fields[0] != b"PK\x01\x02" or next_at > len(data):
            raise _malformed(file, f"record {len(records)} of the central directory is cut off")
        name, extra = data[name_at:extra_at], data[extra_at:next_at]
        records.append(_parse_record(file, fields, name, extra))
        at = next_at
    if len(records) != count:
        raise _malformed(file, f"{count} entries are announced, {len(records)} are there")
    return records


def _checked_name(file: InputFile, name: bytes, flags: int) -> str:
    try:
        text = name.decode("utf-8" if flags & _FLAG_UTF8 else "ascii")
    except UnicodeDecodeError:
        raise _malformed(file, f"the entry name {quoted(repr(name))} is not text") from None
    if not text or not text.isprintable():
        raise _malformed(file, f"the entry name {quoted(text)} is not printable")
    return text


def _parse_record(file: InputFile, fields: tuple[int, ...], name: bytes, extra: bytes) -> _Record:
    flags, method, attributes = fields[3], fields[4], fields[15]
    packed, size, comment, disk, offset = *fields[8:10], *fields[12:14], fields[16]
    text = _checked_name(file, name, flags)
    where = f"entry {quoted(text)}"
    if flags & _FLAG_ENCRYPTED:
        raise InvalidInput("zip-encrypted", f"{where} is encrypted", where=file.name)
    if flags & ~(_FLAG_DESCRIPTOR | _FLAG_UTF8):
        raise _malformed(file, f"{where} has unknown flags 0x{flags:x}")
    # PyTorch's reader hands out unset memory for an entry that claims to be a folder.
    if attributes & _FOLDER and not text.endswith("/"):
        raise _malformed(file, f"{where} claims to be a folder")
    if comment or disk:
        raise _malformed(file, f"{where} has a comment or lies on another disk")
    long = [value == _MAX32 for value in (size, packed, offset)]
    values = iter(_zip64_values(file, where, extra, sum(long)))
    size, packed, offset = (
        next(values) if is_long else value
        for is_long, value in zip(long, (size, packed, offset), strict=True)
    )
    if packed != size and method == 0:
        raise _malformed(file, f"{where} is stored, but its two sizes differ")
    return _Record(text, name, flags, method, size, offset)


def _zip64_values(file: InputFile, where: str, extra: bytes, count: int) -> tuple[int, ...]:
    """The ``count`` 64-bit values of the extra field, which must hold just these."""
    found: list[bytes] = []
    at = 0
    while at < len(extra):
        if at + 4 > len(extra):
            raise _malformed(file, f"{where} has an extra field that is cut off")
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if len(body) != length:
            raise _malformed(file, f"{where} has an extra field that is cut off")
        if kind == 1:
            found.append(body)
        at += 4 + length
    if len(found) != (count > 0) or len(b"".join(found)) != 8 * count:
        raise _malformed(file, f"{where} has zip64 values that its record does not call for")
    return struct.unpack(f"<{count}Q", b"".join(found))


def _check_unique(file: InputFile, records: list[_Record]) -> None:
    # PyTorch's own reader finds entries without regard to case.
    seen: set[bytes] = set()
    for record in records:
        folded = record.raw_name.lower()
        if folded in seen:
            what = f"two entries are called {quoted(record.name)}"
            raise InvalidInput("zip-duplicate-entry", what, where=file.name)
        seen.add(folded)


def _check_layout(file: InputFile, records: list[_Record], end: int) -> dict[int, int]:
    """Where the data of the entry at each local offset begins; the entries must tile the file."""
    starts: dict[int, int] = {}
    allowed: tuple[int, ...] = (0,)
    at = 0
    for record in sorted(records, key=lambda r: r.offset):
        _check_gap(file, at, record.offset, allowed)
        start = _data_start(file, record, end)
        at = start + record.size
        if at > end:
            what = f"entry {quoted(record.name)} runs into the central directory"
            raise InvalidInput("zip-overlap", what, where=file.name)
        starts[record.offset] = start
        allowed = _DESCRIPTOR_SIZES if record.flags & _FLAG_DESCRIPTOR else (0,)
    _check_gap(file, at, end, allowed)
    return starts


def _check_gap(file: InputFile, at: int, begin: int, allowed: tuple[int, ...]) -> None:
    if begin < at:
        what = f"two entries overlap at byte {begin}"
        raise InvalidInput("zip-overlap", what, where=file.name)
    if begin - at not in allowed:
        raise _malformed(file, f"{begin - at} bytes belong to no entry", at)


def _data_start(file: InputFile, record: _Record, end: int) -> int:
    """The first byte of the data, from the local header, which is compared with ``record``."""
    where = f"entry {quoted(record.name)}"
    if record.method != 0:
        raise InvalidInput(
            "zip-compressed",
            f"{where} is compressed; PyTorch stores tensors as they are",
            where=file.name,
            hint="save the checkpoint again with torch.save",
        )
    length = _LOCAL.size + len(record.raw_name)
    if record.offset + length > end:
        raise _malformed(file, f"{where} has no local header", record.offset)
    header = file.pread(record.offset, length)
    magic, _, flags, method, _, _, _, packed, size, names, extras = _LOCAL.unpack_from(header)
    same_name = names == len(record.raw_name) and header[_LOCAL.size :] == record.raw_name
    if magic != b"PK\x03\x04" or not same_name:
        raise _malformed(file, f"{where} has another local header", record.offset)
    if method != 0 or flags != record.flags:
        raise _malformed(file, f"{where} has two kinds of storage", record.offset)
    deferred = bool(flags & _FLAG_DESCRIPTOR) and packed == size == 0
    if not deferred and {packed, size} - {min(record.size, _MAX32), _MAX32}:
        raise _malformed(file, f"{where} has two sizes", record.offset)
    return record.offset + length + int(extras)
