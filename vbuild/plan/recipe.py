"""What an output tensor is made of, as data.

- A :class:`Recipe` is bands of rows; a band is a start and then steps, each with an operand. Where
  the operands' bytes lie is said by the specs of :mod:`vbuild.tensors`; nothing here reads data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from vbuild.table import Op
from vbuild.tensors import DType, Tensor, TensorSpec

__all__ = ["Band", "Mean", "Product", "Recipe", "Step", "View", "Zeros", "as_type", "copied"]


@dataclass(frozen=True, slots=True)
class View:
    """Rows of an input tensor. ``group`` is 0 for the base and i for the i-th delta."""

    group: int
    spec: Tensor
    first_row: int = 0

    @property
    def dtype(self) -> DType:
        """Element type, as stored."""
        return self.spec.dtype


@dataclass(frozen=True, slots=True)
class Zeros:
    """Rows of +0 that no input has (``pad = "zero"``)."""

    dtype: DType


@dataclass(frozen=True, slots=True)
class Mean:
    """Rows that are each the mean of an input tensor's rows, in f32 (``pad = "mean"``).

    The order of the sum is torch's (numerics.md, new rows).
    """

    group: int
    spec: TensorSpec

    @property
    def dtype(self) -> DType:
        """Element type of the mean."""
        return DType.F32


@dataclass(frozen=True, slots=True)
class Product:
    """Rows of ``scale * left @ right``, a low-rank update in f32 (numerics.md, LoRA).

    ``left`` is (rows, rank) and ``right`` (rank, columns); a transposed factor is one whose strides
    are. ``scale`` is a value of f32.
    """

    group: int
    left: TensorSpec
    right: TensorSpec
    scale: float
    first_row: int = 0

    @property
    def dtype(self) -> DType:
        """Element type of the product."""
        return DType.F32


@dataclass(frozen=True, slots=True)
class Step:
    """``op`` with an operand; both sides are first converted to ``compute`` (None: as stored).

    For XOR ``compute`` is the type whose bit patterns the operand is combined with.
    """

    op: Op
    operand: View | Product
    compute: DType | None


@dataclass(frozen=True, slots=True)
class Band:
    """Rows ``[begin, end)`` of an output tensor: a start, then steps."""

    begin: int
    end: int
    start: View | Zeros | Mean
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one output tensor is made. ``rule`` tells a reader which rules claimed it.

    ``dtype`` is the type in the output; ``rounded`` the one that the result has before it is stored
    as that (None: it is the same).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    bands: tuple[Band, ...]
    rule: str = ""
    rounded: DType | None = None

    @property
    def rows(self) -> int:
        """Extent of the first dimension (1 for a scalar)."""
        return self.shape[0] if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the output."""
        return self.dtype.size_of(prod(self.shape))


def copied(group: int, spec: Tensor, rule: str = "copy") -> Recipe:
    """The recipe that takes a tensor as it is."""
    rows = spec.shape[0] if spec.shape else 1
    return Recipe(spec.name, spec.dtype, spec.shape, (Band(0, rows, View(group, spec)),), rule)


def as_type(recipes: Mapping[str, Recipe], dtype: DType | None) -> dict[str, Recipe]:
    """``recipes`` with results of ``dtype``, where they are numbers; None changes nothing."""
    return {
        name: recipe
        if dtype is None or not recipe.dtype.is_arithmetic
        else replace(recipe, dtype=dtype)
        for name, recipe in recipes.items()
    }
