"""From recipes to segments.

- A band of rows becomes a chain of segments: load, one segment per step, and a conversion where the
  output's type differs; dimensions are merged as far as every operand's layout allows.
- Sources are still ``(group, file)`` pairs here; :mod:`vbuild.plan.order` numbers them.
- A layout of more than four dimensions that cannot be merged is refused: no checkpoint in the field
  has one, and a copy with fewer is easily made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from vbuild.errors import InvalidInput
from vbuild.plan.claim import Band, Recipe, Step, View, Zeros
from vbuild.table import (
    AS_STORED,
    BYTES,
    CHAIN,
    NOTHING,
    Op,
    Operand,
    Segment,
    dense,
    joint_dims,
    type_code,
)
from vbuild.tensors import DType, TensorSpec

__all__ = ["Draft", "FileRef", "lower"]


@dataclass(frozen=True, slots=True, order=True)
class FileRef:
    """An input file: 0 is the base, i the i-th delta; ``file`` its key in the manifest."""

    group: int
    file: str


@dataclass(slots=True)
class Draft:
    """A table in the making. Operands' sources index ``files``; no HASH segments yet."""

    files: list[FileRef] = field(default_factory=list)
    numbers: dict[FileRef, int] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    literals: bytearray = field(default_factory=bytearray)

    def source(self, ref: FileRef) -> int:
        """The index of ``ref``, added if it is new."""
        number = self.numbers.setdefault(ref, len(self.files))
        if number == len(self.files):
            self.files.append(ref)
        return number

    def literal(self, data: bytes) -> int:
        """Offset of ``data`` in the literals, appended."""
        self.literals += data
        return len(self.literals) - len(data)

    def store_bytes(self, data: bytes) -> None:
        """Add a segment that writes ``data`` (a file's header)."""
        offset = self.literal(data)
        operand, dims = dense(Operand.LITERAL, offset, offset + len(data))
        self.segments.append(Segment(Op.COPY, dims, operand, BYTES, BYTES))


def tensor_prefix(dtype: DType, shape: Sequence[int]) -> bytes:
    """What a tensor's digest starts with (numerics.md, weights digest)."""
    dims = ",".join(str(n) for n in shape)
    return b"vbuild-tensor-v1\0" + dtype.code.encode() + b"\0" + dims.encode() + b"\0"


def lower(draft: Draft, recipe: Recipe) -> None:
    """Append the segments of one output tensor to ``draft``."""
    tensor = len(draft.prefixes)
    draft.prefixes.append(tensor_prefix(recipe.dtype, recipe.shape))
    for band in recipe.bands:
        rows = band.end - band.begin
        shape = (rows, *recipe.shape[1:]) if recipe.shape else ()
        if 0 not in shape:
            _band(draft, recipe, band, shape, tensor)


def _band(draft: Draft, recipe: Recipe, band: Band, shape: tuple[int, ...], tensor: int) -> None:
    """One chain of segments. The operands of all steps share dimensions, as a chain has to."""
    views = [v for v in (band.start, *(s.operand for s in band.steps)) if isinstance(v, View)]
    strides = [[s * v.dtype.itemsize for s in v.spec.strides] for v in views]
    joint = joint_dims(shape, strides)
    if joint is None:
        raise InvalidInput(
            "layout-too-complex",
            "the tensor's layout in memory has more than four dimensions that cannot be merged",
            where=recipe.name,
            hint="save a contiguous copy of it",
        )
    dims, per_view = joint
    operands = iter(
        Operand(
            draft.source(FileRef(v.group, v.spec.file)),
            _row_offset(v.spec, v.first_row),
            view_strides,
        )
        for v, view_strides in zip(views, per_view, strict=True)
    )
    chain = _chain(band, recipe.dtype)
    if len(chain) > CHAIN:
        raise InvalidInput(
            "too-many-deltas",
            "too many steps make this tensor",
            where=recipe.name,
            expected=f"at most {CHAIN}",
            got=len(chain),
        )
    for i, link in enumerate(chain):
        a = Operand(Operand.PREVIOUS)
        if i == 0:
            a = Operand(Operand.ZERO) if isinstance(band.start, Zeros) else next(operands)
        b = next(operands) if link.step is not None else NOTHING
        draft.segments.append(link.segment(dims, a, b, tensor))


def _row_offset(spec: TensorSpec, row: int) -> int:
    return spec.offset + (row * spec.strides[0] * spec.dtype.itemsize if row else 0)


@dataclass(frozen=True, slots=True)
class _Link:
    """A segment but for its operands: type before, type after, and the step (None: a copy)."""

    before: DType
    after: DType
    step: Step | None

    def segment(self, dims: tuple[int, ...], a: Operand, b: Operand, tensor: int) -> Segment:
        if self.step is None:
            types = type_code(self.before), type_code(self.after)
            return Segment(Op.COPY, dims, a, *types, tensor=tensor)
        raw = self.step.op is Op.XOR
        compute = None if raw else self.step.compute
        return Segment(
            self.step.op,
            dims,
            a,
            type_code(self.before, raw=raw),
            type_code(self.after, raw=raw),
            b,
            type_code(self.step.operand.dtype, raw=raw),
            AS_STORED if compute is None else type_code(compute),
            tensor,
        )


def _chain(band: Band, target: DType) -> list[_Link]:
    """The links from the band's start to ``target``.

    An arithmetic step leaves its result in the type that comes next: the one that a following XOR
    combines, ``target`` after the last step, and its own compute type before more arithmetic. XOR
    and a bare copy need a conversion of their own.
    """
    links: list[_Link] = []
    current = band.start.dtype
    for step, following in zip_longest(band.steps, band.steps[1:]):
        after = current if step.compute is None else step.compute
        if step.op is Op.XOR:
            if current is not after:
                links.append(_Link(current, after, None))
            current = after
        elif following is None:
            after = target
        elif following.op is Op.XOR and following.compute is not None:
            after = following.compute
        links.append(_Link(current, after, step))
        current = after
    if not links or current is not target:
        links.append(_Link(current, target, None))
    return links
