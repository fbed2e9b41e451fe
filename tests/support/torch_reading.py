"""Reading a checkpoint that a test holds in memory, and judging a refusal."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.formats.registry import format_of
from vbuild.tensors import DType, TensorSpec

__all__ = ["NAME", "MemoryFile", "read", "refusal", "values"]

NAME = "shard-00001.bin"

_BITS = {DType.BF16: "uint16", DType.F8_E4M3: "uint8", DType.F8_E5M2: "uint8"}


class MemoryFile:
    """What `InputFile` offers to a reader, over bytes; it counts how many were looked at."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.name = NAME
        self.size = len(data)
        self.seen = bytearray(len(data))
        self.reads = 0

    def pread(self, offset: int, length: int) -> bytes:
        assert offset >= 0 and length >= 0 and offset + length <= self.size
        self.seen[offset : offset + length] = b"\1" * length
        self.reads += 1
        return self.data[offset : offset + length]


def read(data: bytes) -> dict[str, TensorSpec]:
    """The tensors of the checkpoint ``data``, by name, in its order."""
    file = cast(InputFile, MemoryFile(data))
    return {spec.name: spec for spec in format_of(file).read_tensors(file)}


def refusal(data: bytes) -> InvalidInput:
    """The error that ``data`` must be refused with: exit status 2, one line, naming the file."""
    try:
        specs = read(data)
    except InvalidInput as error:
        assert error.exit_status == 2
        assert error.message.startswith(f"{NAME}: ")
        assert error.message.isprintable() and len(error.message) < 600
        return error
    raise AssertionError(f"accepted: {specs}")


def values(spec: TensorSpec, data: bytes) -> NDArray[np.generic]:
    """The values that ``spec`` describes; bits, where NumPy has no such type."""
    kind = np.dtype(_BITS.get(spec.dtype, spec.dtype.long_name)).newbyteorder("<")
    strides = [s * kind.itemsize for s in spec.strides]
    return np.ndarray(spec.shape, kind, data, spec.offset, strides)
