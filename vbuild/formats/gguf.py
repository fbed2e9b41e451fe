"""The GGUF container: a strict reader of its header, without the metadata's meaning.

- A file is magic, version, counts, key-value pairs, tensor infos, padding, then the tensors' bytes,
  each at a multiple of the alignment. Only what stands before the data is read, and that in pieces:
  no count or length is believed before the bytes are there.
- Extents are turned round: the last one varies fastest, as everywhere else here.
- Types are the eight that vbuild writes and the other plain ones of ggml; K-quants are refused.
- As strict as ggml: a tensor begins where the one before ends, padded; nothing follows the last.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Final, NoReturn

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.strict_json import quoted
from vbuild.tensors import BLOCK_ELEMENTS, DType, TensorSpec, contiguous_strides

__all__ = ["ALIGNMENT", "GGML_TYPES", "MAGIC", "aligned", "read_tensors", "sniff"]

MAGIC: Final = b"GGUF"

ALIGNMENT: Final = 32
"""Bytes; where tensors may begin, unless ``general.alignment`` says otherwise."""

GGML_TYPES: Final = {
    DType.F32: 0,
    DType.F16: 1,
    DType.Q4_0: 2,
    DType.Q4_1: 3,
    DType.Q5_0: 6,
    DType.Q5_1: 7,
    DType.Q8_0: 8,
    DType.I8: 24,
    DType.I16: 25,
    DType.I32: 26,
    DType.I64: 27,
    DType.F64: 28,
    DType.BF16: 30,
}
"""ggml's number of each type that is read."""

MAX_HEADER: Final = 100_000_000
"""Bytes before the data. The largest vocabularies, merges included, need a fifth of it."""

MAX_STRINGS: Final = 1 << 22
"""Strings in the metadata; each has to be looked at to find the next."""

MAX_COUNT: Final = 1 << 17
"""Key-value pairs, and tensors; a model of the field has thousands."""

MAX_KEY: Final = 65535
MAX_NAME: Final = 63
MAX_RANK: Final = 4
_PIECE: Final = 1 << 20
_MAX_SPAN: Final = 1 << 63
_BY_NUMBER: Final = {number: dtype for dtype, number in GGML_TYPES.items()}
_VALUE_SIZES: Final = (1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8)  # by type of a metadata value
_UINT32, _STRING, _ARRAY = 4, 8, 9
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def sniff(head: bytes) -> bool:
    """Whether a file that starts with ``head`` (4 bytes are enough) means to be GGUF."""
    return head.startswith(MAGIC)


def aligned(offset: int, alignment: int = ALIGNMENT) -> int:
    """The first multiple of ``alignment`` from ``offset`` on."""
    return -(-offset // alignment) * alignment


def read_tensors(file: InputFile) -> list[TensorSpec]:
    """The tensors of the GGUF file ``file``, in the order of their bytes.

    Reads the header only. A quantized tensor has the shape of its elements, and strides over the
    bytes of its rows. Raises InvalidInput whose code is ``gguf-`` and one of ``truncated``,
    ``version``, ``metadata``, ``name``, ``dtype``, ``shape``, ``offsets``.
    """
    header = _Header(file)
    magic = header.take(4)
    version = header.number(4)
    if magic != MAGIC or version not in (2, 3):
        what = "a big-endian file" if version in (2 << 24, 3 << 24) else "a version"
        _refuse(file, "version", f"{what} that is not read", expected="version 2 or 3", got=version)
    tensor_count, value_count = header.number(8), header.number(8)
    if max(tensor_count, value_count) > MAX_COUNT:
        got = f"{tensor_count} tensors, {value_count} values"
        _refuse(file, "metadata", "too many", expected=f"at most {MAX_COUNT} of each", got=got)
    alignment = _metadata(header, value_count)
    infos = _infos(header, tensor_count)
    return _placed(file, infos, aligned(header.at, alignment), alignment)


def _refuse(
    file: InputFile,
    kind: str,
    what: str,
    *,
    expected: object = None,
    got: object = None,
    hint: str | None = None,
) -> NoReturn:
    raise InvalidInput(f"gguf-{kind}", what, where=file.name, expected=expected, got=got, hint=hint)


class _Header:
    """The bytes from the start of a file on, read as they are asked for."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.at = 0
        self._read = bytearray()

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        end = self.at + size
        if end > min(self.file.size, MAX_HEADER):
            cut = end > self.file.size
            limit = self.file.size if cut else MAX_HEADER
            _refuse(
                self.file,
                "truncated",
                "the file ends inside its header" if cut else "the header is too long",
                expected=f"at most {limit} bytes before the data",
                got=f"at least {end}",
                hint="the file is not complete: download or copy it again" if cut else None,
            )
        if end > len(self._read):
            known = len(self._read)
            more = min(max(end - known, _PIECE), self.file.size - known)
            self._read += self.file.pread(known, more)
        begin, self.at = self.at, end
        return bytes(self._read[begin:end])

    def number(self, size: int) -> int:
        """The next ``size`` bytes as an unsigned number."""
        return int.from_bytes(self.take(size), "little")

    def text(self, what: str, longest: int) -> str:
        """The next string, which is a name: short, UTF-8, without control characters."""
        length = self.number(8)
        if not 0 < length <= longest:
            _refuse(
                self.file,
                "name",
                f"the length of {what} is out of range",
                expected=f"1 to {longest} bytes",
                got=length,
            )
        data = self.take(length)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            _refuse(self.file, "name", f"{what} is not UTF-8", got=quoted(repr(data[:40])))
        if _CONTROL.search(text):
            _refuse(self.file, "name", f"{what} has control characters", got=quoted(text))
        return text


def _metadata(header: _Header, count: int) -> int:
    """Walk over ``count`` key-value pairs; the alignment that they give."""
    keys: set[str] = set()
    alignment = ALIGNMENT
    strings = [MAX_STRINGS]
    for _ in range(count):
        key = header.text("a metadata key", MAX_KEY)
        if key in keys:
            _refuse(header.file, "name", f"the key {quoted(key)} is there twice")
        keys.add(key)
        kind = header.number(4)
        if key != "general.alignment":
            _skip_value(header, key, kind, strings)
            continue
        alignment = header.number(4)
        if kind != _UINT32 or not alignment or alignment & (alignment - 1):
            _refuse(header.file, "metadata", "general.alignment is no power of two", got=alignment)
    return alignment


def _skip_value(header: _Header, key: str, kind: int, strings: list[int]) -> None:
    """Go past a value. ``strings`` has how many may still come."""
    count = 1
    if kind == _ARRAY:
        kind, count = header.number(4), header.number(8)
        if kind == _ARRAY:
            _refuse(header.file, "metadata", f"{quoted(key)} is an array of arrays")
    if kind >= len(_VALUE_SIZES):
        _refuse(header.file, "metadata", f"{quoted(key)} is of an unknown type", got=kind)
    if kind != _STRING:
        header.take(count * _VALUE_SIZES[kind])
        return
    strings[0] -= count
    if strings[0] < 0:
        _refuse(header.file, "metadata", "too many strings", expected=f"at most {MAX_STRINGS}")
    for _ in range(count):
        header.take(header.number(8))


_Info = tuple[str, DType, tuple[int, ...], int]  # name, type, shape, offset in the data


def _infos(header: _Header, count: int) -> list[_Info]:
    """The next ``count`` tensor infos."""
    names: set[str] = set()
    infos: list[_Info] = []
    for _ in range(count):
        name = header.text("a tensor's name", MAX_NAME)
        if name in names:
            _refuse(header.file, "name", f"tensor {quoted(name)} is there twice")
        names.add(name)
        rank = header.number(4)
        if rank > MAX_RANK:
            _refuse(
                header.file,
                "shape",
                f"tensor {quoted(name)} has too many dimensions",
                expected=f"at most {MAX_RANK}",
                got=rank,
            )
        extents: tuple[int, ...] = struct.unpack(f"<{rank}Q", header.take(8 * rank))
        dtype = _dtype(header.file, name, header.number(4))
        shape = _shape(header.file, name, extents[::-1], dtype)
        infos.append((name, dtype, shape, header.number(8)))
    return infos


def _dtype(file: InputFile, name: str, number: int) -> DType:
    dtype = _BY_NUMBER.get(number)
    if dtype is None:
        known = ", ".join(d.code for d in GGML_TYPES)
        _refuse(
            file,
            "dtype",
            f"tensor {quoted(name)} is of a type that is not read",
            expected=known,
            got=f"ggml's type {number}",
        )
    return dtype


def _shape(file: InputFile, name: str, shape: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    """The shape, bounded, of whole blocks."""
    if dtype.itemsize * math.prod(max(extent, 1) for extent in shape) >= _MAX_SPAN:
        _refuse(file, "shape", f"tensor {quoted(name)}: shape overflows", got=list(shape))
    if dtype.is_block and (not shape or shape[-1] % BLOCK_ELEMENTS):
        _refuse(
            file,
            "shape",
            f"tensor {quoted(name)}: rows of {dtype} are whole blocks",
            expected=f"a multiple of {BLOCK_ELEMENTS} elements",
            got=list(shape),
        )
    return shape


def _placed(file: InputFile, infos: list[_Info], start: int, alignment: int) -> list[TensorSpec]:
    """The tensors, which have to follow each other from ``start`` to the end of the file."""
    tensors = []
    at = end = start
    for name, dtype, shape, offset in infos:
        if start + offset != at:
            _refuse(
                file,
                "offsets",
                f"tensor {quoted(name)} does not begin where the one before ends, aligned",
                expected=at - start,
                got=offset,
            )
        dims = (*shape[:-1], dtype.size_of(shape[-1])) if dtype.is_block else shape
        strides = contiguous_strides(dims)
        extra = dims if dtype.is_block else ()
        tensors.append(TensorSpec(name, dtype, shape, file.name, at, strides, extra))
        end = at + tensors[-1].nbytes
        at = aligned(end, alignment)
    if not end <= file.size <= at:
        cut = file.size < end
        _refuse(
            file,
            "offsets",
            "the file ends inside its tensors" if cut else "bytes follow the last tensor",
            expected=f"{at} bytes",
            got=f"{file.size} bytes",
            hint="the file is not complete: download or copy it again" if cut else None,
        )
    return tensors
