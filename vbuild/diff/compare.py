"""Two checkpoints side by side, and what differs between them, as data.

- Tensors are matched by name. Container, sharding and the order of bytes are no difference.
- Where the types differ, both are widened exactly to one that has all values of both (f16 and bf16:
  f32) and compared there; types without arithmetic are compared only with themselves.
- Where the shapes differ nothing is measured.
- Of quantized types, bytes are compared: what a byte of a block means depends on the others.
- The same is: the same names, types, shapes and bits. -0 and +0 differ, and are 0 apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from vbuild.tensors import DType, Tensor

__all__ = ["Comparison", "Measured", "Pair", "Status", "Summary", "common_type", "pair_up"]

Status = Literal["same", "changed", "type", "shape"]
"""``type``: another element type, whatever the values; ``shape``: other extents."""

_WIDER = {
    frozenset({DType.F16, DType.BF16}): DType.F32,
    frozenset({DType.F16, DType.F32}): DType.F32,
    frozenset({DType.BF16, DType.F32}): DType.F32,
    frozenset({DType.F16, DType.F64}): DType.F64,
    frozenset({DType.BF16, DType.F64}): DType.F64,
    frozenset({DType.F32, DType.F64}): DType.F64,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found in a tensor's elements; indices are in C order.

    ``differing`` elements have other bits, ``unordered`` of them a NaN on one side. ``first`` is
    the index of the first one and ``bits`` what stands there on each side, in the type that was
    compared. ``max_ulp`` counts steps from a value to the next, ``max_abs`` is the distance; each
    with the index of the first element that has it. Types without arithmetic have no distances.
    """

    differing: int = 0
    unordered: int = 0
    first: int = 0
    bits: tuple[int, int] = (0, 0)
    max_ulp: int = 0
    max_ulp_at: int = 0
    max_abs: float = 0.0
    max_abs_at: int = 0


NOTHING = Measured()


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor that both sides have. ``measured`` is None where nothing could be compared, and
    ``compared_as`` then, too."""

    a: Tensor
    b: Tensor
    compared_as: DType | None
    measured: Measured | None = None

    @property
    def name(self) -> str:
        """Of both."""
        return self.a.name

    @property
    def status(self) -> Status:
        """What the difference is, if any: the most that can be said."""
        if self.a.shape != self.b.shape:
            return "shape"
        if self.a.dtype is not self.b.dtype:
            return "type"
        return "changed" if self.measured is not None and self.measured.differing else "same"

    @property
    def differing(self) -> int:
        """Elements that are known to differ."""
        return 0 if self.measured is None else self.measured.differing

    @property
    def extents(self) -> tuple[int, ...]:
        """What indices count over: the shape; of a quantized type, bytes along the last axis."""
        if not self.a.dtype.is_block:
            return self.a.shape
        return (*self.a.shape[:-1], self.a.dtype.size_of(self.a.shape[-1]))

    @property
    def elements(self) -> int:
        """How many there are to compare: elements, or bytes of a quantized type."""
        return prod(self.extents)

    @property
    def share(self) -> float:
        """Differing elements as a part of all, from 0 to 1."""
        return self.differing / self.elements if self.elements else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of tensors, and of the elements that were compared."""

    same: int
    changed: int
    type: int
    shape: int
    only_a: int
    only_b: int
    elements: int
    differing: int

    @property
    def in_both(self) -> int:
        """Tensors that both sides have."""
        return self.same + self.changed + self.type + self.shape


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything about two checkpoints that differs; all in code-point order of names."""

    pairs: tuple[Pair, ...]
    only_a: tuple[Tensor, ...]
    only_b: tuple[Tensor, ...]

    @property
    def same(self) -> bool:
        """Whether the two are the same weights."""
        return not (self.only_a or self.only_b or any(pair.status != "same" for pair in self.pairs))

    @property
    def summary(self) -> Summary:
        """The counts."""
        statuses = [pair.status for pair in self.pairs]
        compared = [pair for pair in self.pairs if pair.measured is not None]
        return Summary(
            same=statuses.count("same"),
            changed=statuses.count("changed"),
            type=statuses.count("type"),
            shape=statuses.count("shape"),
            only_a=len(self.only_a),
            only_b=len(self.only_b),
            elements=sum(pair.elements for pair in compared),
            differing=sum(pair.differing for pair in compared),
        )


def common_type(a: DType, b: DType) -> DType | None:
    """The narrowest type that has all values of both; None where there is none."""
    return a if a is b else _WIDER.get(frozenset({a, b}))


def pair_up(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Comparison:
    """The tensors of two checkpoints matched; nothing is measured yet.

    A pair without elements is compared already.
    """
    pairs = []
    for name in sorted(a.keys() & b.keys()):
        shared = a[name].shape == b[name].shape
        common = common_type(a[name].dtype, b[name].dtype) if shared else None
        empty = common is not None and a[name].count == 0
        pairs.append(Pair(a[name], b[name], common, NOTHING if empty else None))
    return Comparison(
        tuple(pairs),
        tuple(a[name] for name in sorted(a.keys() - b.keys())),
        tuple(b[name] for name in sorted(b.keys() - a.keys())),
    )
