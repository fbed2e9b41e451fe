"""From recipes to segments.

- A band of rows becomes a chain of segments: load, one segment per step, and a conversion where the
  output's type differs; dimensions are merged as far as every operand's layout allows.
- Sources are still ``(group, file)`` pairs here; :mod:`vbuild.plan.order` numbers them.
- A tensor that is joined along its rows has a chain per part; one that is joined along its columns,
  a mean of rows and a low-rank product are operands of several parts.
- A layout of more than four dimensions that cannot be merged is refused: no checkpoint in the field
  has one, and a copy with fewer is easily made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise, zip_longest
from math import prod

from vbuild.errors import InvalidInput
from vbuild.plan.recipe import Band, Mean, Product, Recipe, Step, View, Zeros
from vbuild.plan.strides import Layout, joint_dims
from vbuild.table import (
    AS_STORED,
    BYTES,
    CHAIN,
    FACTORS,
    NOTHING,
    RANK,
    Op,
    Operand,
    Part,
    Segment,
    dense,
    result_code,
    type_code,
)
from vbuild.tensors import DType, JoinedSpec, TensorSpec

__all__ = ["Draft", "FileRef", "lower"]

Term = View | Product | Mean | Zeros
"""What a chain starts from, or what a step of it takes."""


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
    parts: list[Part] = field(default_factory=list)
    allow_nonfinite: bool = False

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

    def composite(self, kind: int, parts: Sequence[Part], scale: float = 0.0) -> Operand:
        """An operand of ``parts``, which are appended."""
        first = len(self.parts)
        self.parts += parts
        return Operand.of_parts(kind, first, len(parts), scale)

    def store_bytes(self, data: bytes) -> None:
        """Add a segment that writes ``data`` (a file's header, or padding)."""
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
    """Chains of segments for a band: one, or more where a tensor is joined along its rows."""
    for begin, end in pairwise(_cuts(band)):
        rows = (end - begin, *shape[1:]) if shape else ()
        terms = [_term(what, begin, end) for what in (band.start, *(s.operand for s in band.steps))]
        _run(draft, recipe, band, terms, rows, tensor)


def _cuts(band: Band) -> list[int]:
    """Rows of the band, from its first on, at which an operand goes on in another part."""
    rows = band.end - band.begin
    cuts = {0, rows}
    for what in (band.start, *(step.operand for step in band.steps)):
        if isinstance(what, View) and isinstance(what.spec, JoinedSpec) and what.spec.axis == 0:
            ends = accumulate(part.shape[0] for part in what.spec.parts)
            cuts |= {e - what.first_row for e in ends if 0 < e - what.first_row < rows}
    return sorted(cuts)


def _term(what: View | Product | Mean | Zeros, begin: int, end: int) -> Term:
    """``what`` over the rows ``[begin, end)`` of its band, joined along its columns at most."""
    if isinstance(what, Zeros | Mean):
        return what
    what = replace(what, first_row=what.first_row + begin)
    if not isinstance(what, View) or not isinstance(what.spec, JoinedSpec) or what.spec.axis != 0:
        return what
    row = what.first_row
    for part in what.spec.parts:
        if row < part.shape[0]:
            return View(what.group, part, row)
        row -= part.shape[0]
    raise AssertionError("a row beyond the tensor's last")


def _run(
    draft: Draft,
    recipe: Recipe,
    band: Band,
    terms: Sequence[Term],
    shape: tuple[int, ...],
    tensor: int,
) -> None:
    """One chain of segments. The operands of all steps share dimensions, as a chain has to."""
    dims, operands = _operands(draft, recipe, terms, shape)
    chain = _chain(band, recipe.rounded or recipe.dtype, recipe.dtype)
    for what, got, most in (
        ("too many steps make this tensor", len(chain), CHAIN),
        ("the low-rank updates of this tensor are too large", _factors(terms, dims[-1]), FACTORS),
    ):
        if got > most:
            raise InvalidInput(
                "too-many-deltas", what, where=recipe.name, expected=f"at most {most}", got=got
            )
    rest = iter(operands)
    for i, link in enumerate(chain):
        a = next(rest) if i == 0 else Operand(Operand.PREVIOUS)
        b = next(rest) if link.step is not None else NOTHING
        draft.segments.append(link.segment(dims, a, b, tensor))
        _type_parts(draft, draft.segments[-1])


def _type_parts(draft: Draft, segment: Segment) -> None:
    """Give parts that are joined the type that the segment takes them as: XOR takes raw items."""
    for operand, code in ((segment.a, segment.a_type), (segment.b, segment.b_type)):
        if operand.source == Operand.JOINED:
            for i in range(operand.offset, operand.offset + operand.tag):
                draft.parts[i] = replace(draft.parts[i], type=code)


def _operands(
    draft: Draft, recipe: Recipe, terms: Sequence[Term], shape: tuple[int, ...]
) -> tuple[tuple[int, ...], list[Operand]]:
    """Dimensions that all terms share, and an operand for each term."""
    layouts = [_layouts(term, shape) for term in terms]
    columns = any(isinstance(t, Mean | Product) or len(_pieces(t)) > 1 for t in terms)
    joint = None
    if None not in layouts:
        flat = [layout for found in layouts for layout in found or ()]
        joint = joint_dims(flat or [(shape, (0,) * len(shape))], columns=columns)
    if joint is None:
        raise InvalidInput(
            "layout-too-complex",
            "the tensor's layout in memory has more than four dimensions that cannot be merged",
            where=recipe.name,
            hint="save a contiguous copy of it",
        )
    dims, strides = joint
    rest = iter(strides)
    return dims, [_operand(draft, term, dims, rest) for term in terms]


def _factors(terms: Sequence[Term], columns: int) -> int:
    """Bytes that a chain keeps in memory (table-format.md, operands of parts)."""
    means = sum(20 * columns for term in terms if isinstance(term, Mean))
    ranks = sum(term.right.shape[0] for term in terms if isinstance(term, Product))
    return means + 4 * ranks * (columns + 1)


def _pieces(term: Term) -> tuple[TensorSpec, ...]:
    """The strided readings of an input that a view is made of, side by side."""
    if not isinstance(term, View):
        return ()
    return term.spec.parts if isinstance(term.spec, JoinedSpec) else (term.spec,)


def _layouts(term: Term, shape: tuple[int, ...]) -> list[Layout] | None:
    """A layout per piece of a term, in bytes; None where its rows cannot be cut out.

    A piece that is only some of the columns stands for all of them: nothing but the extent of the
    last axis is different.
    """
    layouts: list[Layout] = []
    first_row = 0 if isinstance(term, Zeros | Mean) else term.first_row
    rows = shape[0] if shape else 1
    if isinstance(term, Product):
        step = _row_step(term.left)
        return None if rows % step or first_row % step else layouts
    for piece in _pieces(term):
        extents, strides = piece.layout
        if piece.shape and piece.shape[0] != rows:
            step = _row_step(piece)
            if rows % step or first_row % step:
                return None
            extents = (rows // step, *extents[1:])
        if shape and piece.shape[-1] != shape[-1]:
            extents = (*extents[:-1], shape[-1])
        layouts.append((extents, [s * piece.dtype.itemsize for s in strides]))
    return layouts


def _operand(
    draft: Draft, term: Term, dims: tuple[int, ...], strides: Iterator[tuple[int, ...]]
) -> Operand:
    if isinstance(term, Zeros):
        return Operand(Operand.ZERO)
    if isinstance(term, Mean):
        part = _matrix(draft, term.group, term.spec, 0, term.spec.shape[0])
        return draft.composite(Operand.MEAN, [part])
    if isinstance(term, Product):
        left = _matrix(draft, term.group, term.left, term.first_row, prod(dims[:-1]))
        right = _matrix(draft, term.group, term.right, 0, term.right.shape[0])
        return draft.composite(Operand.PRODUCT, [left, right], term.scale)
    pieces = _pieces(term)
    sources = [draft.source(FileRef(term.group, piece.file)) for piece in pieces]
    offsets = [_row_offset(piece, term.first_row) for piece in pieces]
    if len(pieces) == 1:
        return Operand(sources[0], offsets[0], next(strides))
    parts = [
        Part(source, offset, (*dims[:-1], piece.shape[-1]), next(strides), type_code(piece.dtype))
        for source, offset, piece in zip(sources, offsets, pieces, strict=True)
    ]
    return draft.composite(Operand.JOINED, parts)


def _matrix(draft: Draft, group: int, spec: TensorSpec, first_row: int, rows: int) -> Part:
    """Rows of a two-dimensional tensor as a part."""
    extents, strides = spec.layout
    extents = (rows // _row_step(spec), *extents[1:])
    padding = RANK - len(extents)
    return Part(
        draft.source(FileRef(group, spec.file)),
        _row_offset(spec, first_row),
        (*(1,) * padding, *extents),
        (*(0,) * padding, *(s * spec.dtype.itemsize for s in strides)),
        type_code(spec.dtype),
    )


def _row_offset(spec: TensorSpec, row: int) -> int:
    """Where a row begins, which is one that an extent of the first axis begins with."""
    if not row:
        return spec.offset
    _, strides = spec.layout
    return spec.offset + row // _row_step(spec) * strides[0] * spec.dtype.itemsize


def _row_step(spec: TensorSpec) -> int:
    """Rows that one of the first axis of the tensor's layout stands for."""
    extents, _ = spec.layout
    return spec.shape[0] // extents[0]


@dataclass(frozen=True, slots=True)
class _Link:
    """A segment but for its operands: type before, type after, and the step (None: a copy)."""

    before: DType
    after: DType
    step: Step | None

    def segment(self, dims: tuple[int, ...], a: Operand, b: Operand, tensor: int) -> Segment:
        if self.step is None:
            same = self.before is self.after
            after = type_code(self.after) if same else result_code(self.after)
            return Segment(Op.COPY, dims, a, type_code(self.before), after, tensor=tensor)
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


def _chain(band: Band, rounded: DType, target: DType) -> list[_Link]:
    """The links from the band's start to ``target``, by way of ``rounded``.

    An arithmetic step leaves its result in the type that comes next: the one that a following XOR
    combines, its own compute type before more arithmetic, and ``rounded`` after the last step;
    that is ``target`` if the step rounds to ``rounded`` anyhow. XOR, a bare copy and blocks need
    a conversion of their own. A DIFF comes last, and takes what would have been stored.
    """
    if band.steps and band.steps[-1].op is Op.DIFF:
        made = _chain(replace(band, steps=band.steps[:-1]), rounded, target)
        bare = len(made) == 1 and made[0].step is None and made[0].before is target
        return [*([] if bare else made), _Link(target, target, band.steps[-1])]
    links: list[_Link] = []
    current = band.start.dtype
    stored = False
    for step, following in zip_longest(band.steps, band.steps[1:]):
        after = current if step.compute is None else step.compute
        if step.op is Op.XOR:
            if current is not after:
                links.append(_Link(current, after, None))
            current = after
        elif following is None:
            stored = after is rounded and not target.is_block
            after = target if stored else rounded
        elif following.op is Op.XOR and following.compute is not None:
            after = following.compute
        links.append(_Link(current, after, step))
        current = after
    for wanted in () if stored else (rounded, target):
        if current is not wanted:
            links.append(_Link(current, wanted, None))
        current = wanted
    return links or [_Link(current, target, None)]
