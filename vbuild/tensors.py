"""Element types, and where a tensor's bytes lie.

- A :class:`TensorSpec` describes bytes in a file; it holds no data and opens nothing.
- Element types are spelt as safetensors spells them; the manifest's spellings (``float16``) and
  torch's are aliases of the few types that arithmetic is defined for.
- ggml's quantized types, spelt as ggml spells them, are types of a GGUF file only. Nothing here
  looks into their blocks: a row of them is a row of bytes.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

__all__ = [
    "BLOCK_ELEMENTS",
    "DType",
    "JoinedSpec",
    "LowRankSpec",
    "Tensor",
    "TensorSpec",
    "contiguous_strides",
]

BLOCK_ELEMENTS = 32
"""Elements of a block of each of ggml's types that are quantized."""


class DType(enum.Enum):
    """An element type. The order of members is safetensors' own: wider (later) types are
    written first by its serializer, so it decides the layout of an output shard."""

    BOOL = ("BOOL", 1, "bool")
    U8 = ("U8", 1, "uint8")
    I8 = ("I8", 1, "int8")
    F8_E5M2 = ("F8_E5M2", 1, "float8_e5m2")
    F8_E4M3 = ("F8_E4M3", 1, "float8_e4m3fn")
    F8_E8M0 = ("F8_E8M0", 1, "float8_e8m0fnu")
    F8_E4M3FNUZ = ("F8_E4M3FNUZ", 1, "float8_e4m3fnuz")
    F8_E5M2FNUZ = ("F8_E5M2FNUZ", 1, "float8_e5m2fnuz")
    I16 = ("I16", 2, "int16")
    U16 = ("U16", 2, "uint16")
    F16 = ("F16", 2, "float16")
    BF16 = ("BF16", 2, "bfloat16")
    I32 = ("I32", 4, "int32")
    U32 = ("U32", 4, "uint32")
    F32 = ("F32", 4, "float32")
    C64 = ("C64", 8, "complex64")
    F64 = ("F64", 8, "float64")
    I64 = ("I64", 8, "int64")
    U64 = ("U64", 8, "uint64")
    Q4_0 = ("Q4_0", 1, "q4_0", 18)
    Q4_1 = ("Q4_1", 1, "q4_1", 20)
    Q5_0 = ("Q5_0", 1, "q5_0", 22)
    Q5_1 = ("Q5_1", 1, "q5_1", 24)
    Q8_0 = ("Q8_0", 1, "q8_0", 34)

    def __init__(self, code: str, itemsize: int, long_name: str, block_bytes: int = 0) -> None:
        self.code = code
        self.itemsize = itemsize
        self.long_name = long_name
        self.block_bytes = block_bytes

    def __str__(self) -> str:
        return self.code

    @property
    def rank(self) -> int:
        """Position in safetensors' order of types; higher ranks are laid out first."""
        return _RANK[self]

    @property
    def is_block(self) -> bool:
        """Whether BLOCK_ELEMENTS elements are stored as one block of ``block_bytes``.

        ``itemsize`` is then that of a block's bytes, which is all that a copy moves.
        """
        return self.block_bytes > 0

    def size_of(self, count: int) -> int:
        """Bytes of ``count`` elements, which are whole blocks."""
        if self.is_block:
            return count // BLOCK_ELEMENTS * self.block_bytes
        return count * self.itemsize

    @property
    def is_arithmetic(self) -> bool:
        """Whether addition is defined for the type (numerics.md: f16, bf16, f32, f64)."""
        return self in (DType.F16, DType.BF16, DType.F32, DType.F64)

    @classmethod
    def from_code(cls, code: str) -> DType | None:
        """The type that safetensors spells ``code``, or None."""
        return _BY_CODE.get(code)

    @classmethod
    def from_long_name(cls, name: str) -> DType | None:
        """The type that torch and the manifest spell ``name`` (``float16``), or None."""
        return _BY_LONG_NAME.get(name)


_RANK = {dtype: i for i, dtype in enumerate(DType)}
_BY_CODE = {dtype.code: dtype for dtype in DType if not dtype.is_block}
_BY_LONG_NAME = {dtype.long_name: dtype for dtype in DType if not dtype.is_block}


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a C-order array of ``shape`` (an extent of 0 counts as 1)."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * max(shape[i + 1], 1)
    return tuple(strides)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor inside a file.

    ``file`` is the file's key in the manifest; ``offset`` the byte at which element (0, ..., 0)
    stands; ``strides`` are in elements and never negative; the bytes are little-endian. ``dims``
    are the extents that the strides belong to, where an axis of ``shape`` is cut into several (rows
    that are read in another order), or where they count the bytes of blocks; empty where they are
    those of ``shape``.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    file: str
    offset: int
    strides: tuple[int, ...]
    dims: tuple[int, ...] = ()

    @property
    def parts(self) -> tuple[TensorSpec, ...]:
        """The tensor itself: one that lies in one place."""
        return (self,)

    @property
    def layout(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Extents and strides, in C order of the elements."""
        return self.dims or self.shape, self.strides

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the tensor's values in bytes, as an output stores them."""
        return self.dtype.size_of(self.count)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie densely in C order (extents of 1 may have any stride)."""
        extents, strides = self.layout
        want = contiguous_strides(extents)
        return self.count == 0 or all(
            n == 1 or s == w for n, s, w in zip(extents, strides, want, strict=True)
        )

    @property
    def extent(self) -> tuple[int, int]:
        """``(begin, end)``: the byte range of the file that the elements lie in."""
        if self.count == 0:
            return self.offset, self.offset
        last = sum((n - 1) * s for n, s in zip(*self.layout, strict=True))
        return self.offset, self.offset + (last + 1) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class JoinedSpec:
    """A named tensor whose parts lie in several places, joined along ``axis``.

    The axis is the first or the last; the parts agree in type and in all other extents, and have
    the name of the whole.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    axis: int
    parts: tuple[TensorSpec, ...]

    @property
    def file(self) -> str:
        """The file of the first part."""
        return self.parts[0].file

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the tensor's values in bytes, as an output stores them."""
        return self.dtype.size_of(self.count)


Tensor = TensorSpec | JoinedSpec
"""A tensor of a checkpoint, wherever it lies."""


@dataclass(frozen=True, slots=True)
class LowRankSpec:
    """A change of a matrix: ``scale * left @ right`` is added to it (numerics.md, LoRA).

    ``left`` is (rows, rank), ``right`` (rank, columns); a transposed factor is one whose strides
    are. ``scale`` is a value of f32. ``weight`` replaces the matrix first, where it is not None.
    """

    name: str
    left: TensorSpec
    right: TensorSpec
    scale: float
    weight: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix that is changed."""
        return self.left.shape[0], self.right.shape[1]
