"""The bytes before the data of a GGUF file, as the ``gguf`` package writes them.

- The only importer of ``gguf``, which is an extra (``vbuild[gguf]``) and needs numpy.
- The package writes into an anonymous file in memory: no name of a file enters the header, and no
  tensor's bytes go through it.
- Same entries and tensors, same bytes: the package adds ``general.architecture`` and nothing else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from vbuild.errors import Unavailable
from vbuild.formats.gguf import GGML_TYPES, aligned
from vbuild.tensors import DType

if TYPE_CHECKING:
    from gguf import GGUFWriter

__all__ = ["VERSION", "Entry", "Kind", "header"]

VERSION: Final = 3
"""The version of the format that is written."""

Kind: TypeAlias = Literal["STRING", "UINT32", "INT32", "FLOAT32", "BOOL"]

Value: TypeAlias = str | bytes | int | float
"""A string is text, or its UTF-8 bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A metadata value of the type ``kind``; a tuple is an array of them, and has an item."""

    key: str
    kind: Kind
    value: Value | tuple[Value, ...]


def header(
    architecture: str,
    entries: Sequence[Entry],
    tensors: Sequence[tuple[str, DType, tuple[int, ...]]],
) -> bytes:
    """The bytes before the data of a file that holds ``tensors`` (name, type, shape), in order.

    The data starts right behind them; each tensor is padded to a multiple of ALIGNMENT. Raises
    Unavailable (``gguf-missing``) without the package, or with one that writes another version.
    """
    try:
        import gguf
        import numpy
    except ImportError as e:
        raise _unavailable("the package `gguf`, which writes GGUF files, is not installed") from e
    if gguf.GGUF_VERSION != VERSION:
        raise _unavailable("the installed package `gguf` writes another version of the format")
    any_dtype = numpy.dtype("float32")  # asked for, but not used beside raw_dtype
    fd = os.memfd_create("gguf-header", os.MFD_CLOEXEC)
    try:
        writer = gguf.GGUFWriter(f"/proc/self/fd/{fd}", architecture)
        for entry in entries:
            _add(writer, entry)
        for name, dtype, shape in tensors:
            number = gguf.GGMLQuantizationType(GGML_TYPES[dtype])
            size = dtype.size_of(math.prod(shape))
            writer.add_tensor_info(name, shape, any_dtype, size, raw_dtype=number)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        size = os.fstat(fd).st_size
        return os.pread(fd, size, 0).ljust(aligned(size), b"\0")
    finally:
        os.close(fd)


def _unavailable(what: str) -> Unavailable:
    hint = "pip install 'vbuild[gguf]'"
    return Unavailable("gguf-missing", what, expected=f"gguf for version {VERSION}", hint=hint)


def _add(writer: GGUFWriter, entry: Entry) -> None:
    from gguf import GGUFValueType

    kind = GGUFValueType[entry.kind]
    if isinstance(entry.value, tuple):
        writer.add_key_value(entry.key, entry.value, GGUFValueType.ARRAY, sub_type=kind)
    else:
        writer.add_key_value(entry.key, entry.value, kind)
