"""The safetensors container: a strict reader of its header, and its canonical writer.

- A file is ``u64 LE N``, N bytes of JSON, then the tensors' bytes (formats.md). Only the first
  8 + N bytes are read; N is judged before anything of that size is read or allocated.
- Stricter than the reference where a file could mean two things: no duplicate keys, no unknown
  inner keys, ``{`` first and nothing but spaces after the last ``}`` (bad-inputs.md, 34-46).
  What is accepted here is accepted by the reference, as the same tensors.
- The data is covered without a hole or an overlap; tensors without elements may share an offset.
- Writing follows the reference byte for byte: wider types first, then by name; compact JSON,
  ``{"format":"pt"}`` as metadata, padded with spaces to a multiple of 8.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn

from vbuild import strict_json
from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.strict_json import Json, quoted
from vbuild.tensors import DType, TensorSpec, contiguous_strides

__all__ = ["canonical_order", "header", "read_tensors", "shard_name", "sniff"]

MAX_HEADER: Final = 100_000_000
"""Bytes; the reference reads no longer header (nor does it check before it writes one)."""

MAX_RANK: Final = 64
"""Dimensions; numpy's limit. Bounds the arithmetic on hostile shapes."""

_METADATA = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")
_SUB_BYTE = ("F4", "F6_E2M3", "F6_E3M2")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_SPAN = 1 << 63


def sniff(head: bytes) -> bool:
    """Whether a file that starts with ``head`` (9 bytes are enough) means to be safetensors.

    Text cannot: its first eight bytes are a number far above MAX_HEADER.
    """
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER


def read_tensors(file: InputFile) -> list[TensorSpec]:
    """The tensors of the safetensors file ``file``, in the order of their bytes, then by name.

    Reads the header only. Raises InvalidInput whose code is ``safetensors-`` and one of
    ``truncated``, ``header-size``, ``header``, ``metadata``, ``name``, ``dtype``, ``shape``,
    ``offsets``.
    """
    length = _header_length(file)
    data = file.pread(8, length)
    if not data.startswith(b"{"):
        _refuse(file, "header", "header does not start with {", got=f"byte 0x{data[0]:02x}")
    text = data.rstrip(b" ")
    if not text.endswith(b"}"):
        _refuse(file, "header", "header does not end with } and spaces")
    entries = strict_json.loads(text, file.name, code="safetensors-header", max_depth=3)
    if not isinstance(entries, dict):
        _refuse(file, "header", "header is not a JSON object")
    _check_metadata(file, entries.pop(_METADATA, {}))
    start = 8 + length
    tensors = [_tensor(file, start, name, entry) for name, entry in entries.items()]
    tensors.sort(key=lambda t: (t.offset, t.offset + t.nbytes, t.name))
    _check_coverage(file, start, tensors)
    return tensors


def _refuse(
    file: InputFile,
    kind: str,
    what: str,
    *,
    expected: object = None,
    got: object = None,
    hint: str | None = None,
) -> NoReturn:
    raise InvalidInput(
        f"safetensors-{kind}", what, where=file.name, expected=expected, got=got, hint=hint
    )


def _header_length(file: InputFile) -> int:
    """N: more than 0, at most MAX_HEADER, inside the file."""
    again = "the file is damaged or not complete: download or copy it again"
    if file.size < 8:
        _refuse(
            file,
            "truncated",
            "too short to be a safetensors file",
            expected="at least 8 bytes",
            got=f"{file.size} bytes",
            hint=again,
        )
    length: int = struct.unpack("<Q", file.pread(0, 8))[0]
    if not 0 < length <= MAX_HEADER:
        _refuse(
            file,
            "header-size",
            "length of the header at byte 0 is out of range",
            expected=f"1 to {MAX_HEADER} bytes",
            got=length,
            hint="this is probably not a safetensors file",
        )
    if length > file.size - 8:
        _refuse(
            file,
            "header-size",
            "the file ends inside the header",
            expected=f"{length} bytes after byte 8",
            got=file.size - 8,
            hint=again,
        )
    return length


def _check_metadata(file: InputFile, metadata: Json) -> None:
    if not isinstance(metadata, dict):
        _refuse(file, "metadata", f"{_METADATA} is not a JSON object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            _refuse(file, "metadata", f"{_METADATA} entry {quoted(key)} is not a string")


def _tensor(file: InputFile, start: int, name: str, entry: Json) -> TensorSpec:
    """The tensor that the header's member ``name: entry`` describes."""
    if not name or _CONTROL.search(name):
        _refuse(file, "name", f"tensor name {quoted(name)} is empty or has control characters")
    if not isinstance(entry, dict):
        _refuse(file, "header", f"tensor {quoted(name)}: entry is not a JSON object")
    if entry.keys() != set(_FIELDS):
        odd = sorted(entry.keys() ^ set(_FIELDS))[0]
        problem = "is missing" if odd in _FIELDS else "is not known"
        _refuse(file, "header", f"tensor {quoted(name)}: key {quoted(odd)} {problem}")
    dtype = _dtype(file, name, entry["dtype"])
    shape = _shape(file, name, entry["shape"], dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    begin, end = _offsets(file, name, entry["data_offsets"])
    if end - begin != nbytes:
        _refuse(
            file,
            "offsets",
            f"tensor {quoted(name)}: data_offsets disagree with shape and dtype",
            expected=f"{nbytes} bytes",
            got=f"[{begin}, {end}]",
        )
    return TensorSpec(name, dtype, shape, file.name, start + begin, contiguous_strides(shape))


def _dtype(file: InputFile, name: str, value: Json) -> DType:
    if not isinstance(value, str):
        _refuse(file, "dtype", f"tensor {quoted(name)}: dtype is not a string")
    dtype = DType.from_code(value)
    if dtype is None:
        what = "dtype of less than a byte is not supported" if value in _SUB_BYTE else "bad dtype"
        known = ", ".join(d.code for d in DType if not d.is_block)
        _refuse(file, "dtype", f"tensor {quoted(name)}: {what}", expected=known, got=quoted(value))
    return dtype


def _shape(file: InputFile, name: str, value: Json, dtype: DType) -> tuple[int, ...]:
    """The shape, its size bounded: strides and byte offsets fit a signed 64-bit integer."""
    shape = _integers(value)
    if shape is None:
        _refuse(
            file, "shape", f"tensor {quoted(name)}: shape is not a list of non-negative integers"
        )
    if len(shape) > MAX_RANK:
        _refuse(
            file,
            "shape",
            f"tensor {quoted(name)}: shape has too many dimensions",
            expected=f"at most {MAX_RANK}",
            got=len(shape),
        )
    span = dtype.itemsize
    for extent in shape:
        span *= max(extent, 1)  # strides ignore extents of 0, and the reference overflows early
    if span >= _MAX_SPAN:
        _refuse(file, "shape", f"tensor {quoted(name)}: shape overflows", got=list(shape[:8]))
    return shape


def _offsets(file: InputFile, name: str, value: Json) -> tuple[int, int]:
    offsets = _integers(value)
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(
            file,
            "offsets",
            f"tensor {quoted(name)}: data_offsets are not two integers 0 <= begin <= end",
            got=None if offsets is None else list(offsets[:8]),
        )
    return offsets[0], offsets[1]


def _integers(value: Json) -> tuple[int, ...] | None:
    """``value`` if it is a list of plain integers from 0; ``True`` and 1.0 are none."""
    if not isinstance(value, list):
        return None
    integers = tuple(n for n in value if type(n) is int and n >= 0)
    return integers if len(integers) == len(value) else None


def _check_coverage(file: InputFile, start: int, tensors: Iterable[TensorSpec]) -> None:
    """The tensors, sorted, must follow each other from ``start`` to the end of the file."""
    at = start
    for tensor in tensors:
        if tensor.offset != at:
            problem = "leaves a hole before it" if tensor.offset > at else "overlaps another"
            _refuse(
                file,
                "offsets",
                f"tensor {quoted(tensor.name)} {problem}",
                expected=f"begin {at - start}",
                got=tensor.offset - start,
            )
        at += tensor.nbytes
    if at != file.size:
        cut = file.size < at
        _refuse(
            file,
            "offsets",
            "the file ends inside its tensors" if cut else "bytes follow the last tensor",
            expected=f"{at} bytes",
            got=f"{file.size} bytes",
            hint="the file is not complete: download or copy it again" if cut else None,
        )


def canonical_order(tensors: Iterable[tuple[str, DType]]) -> list[str]:
    """The names of ``tensors`` in the order that safetensors writes: wider types, then names."""
    return [name for name, _ in sorted(tensors, key=lambda t: (-t[1].rank, t[0]))]


def header(tensors: Sequence[tuple[str, DType, tuple[int, ...]]]) -> bytes:
    """The bytes before the data of a file that holds ``tensors`` (name, type, shape), in order.

    In :func:`canonical_order` the result is what ``safetensors.torch.save_file`` writes with the
    metadata ``{"format": "pt"}``. InvalidInput: ``safetensors-header-size`` above MAX_HEADER,
    ``safetensors-name`` for the metadata's own name.
    """
    entries: dict[str, object] = {_METADATA: {"format": "pt"}}
    offset = 0
    for name, dtype, shape in tensors:
        if name == _METADATA:
            what = "a safetensors file cannot hold a tensor of this name"
            raise InvalidInput("safetensors-name", what, where=name, hint="drop it by a rule")
        size = math.prod(shape) * dtype.itemsize
        entries[name] = {
            "dtype": dtype.code,
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    # The standard library escapes as serde_json does: quote, backslash and C0 controls only.
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise InvalidInput(
            "safetensors-header-size",
            "too many tensors for one safetensors file",
            expected=f"a header of at most {MAX_HEADER} bytes",
            got=len(text),
            hint="set a smaller output.max_shard_size",
        )
    return struct.pack("<Q", len(text)) + text


def shard_name(i: int, n: int) -> str:
    """The file name of shard ``i`` (from 1) of ``n``; of a single one, ``model.safetensors``."""
    return "model.safetensors" if n == 1 else f"model-{i:05d}-of-{n:05d}.safetensors"
