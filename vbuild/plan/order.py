"""Who hashes which input file, and when.

- A file that one table reads whole (but for gaps) and in order is hashed in the same pass: the
  bytes used are the bytes hashed. Gaps become hash-only segments.
- Any other file is *walked*: one of the tables that use it (the least loaded) runs a cursor over
  it, from its first byte to its last, beside its own work.
- What is read from a file that is walked is a *use region* of the table that reads it, and a *walk
  region* of the one that walks it: their tags are equal if the bytes used are the bytes hashed.
  A strided reading's region goes from its first element to its last. Only readings of few elements
  far apart have none (:func:`vbuild.table.use_range`); the file's identity alone guards them.
- Parts of operands never read a file that is hashed as it is used.
- Files that no table uses are walked by a table without output.
- The bytes that planning itself has read (headers, indexes, archive directories) are literals: they
  go to the file's hash as they were read, so that a plan can rest on nothing but hashed bytes
  (bad-inputs.md, 24).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from vbuild.plan.lower import Draft, FileRef
from vbuild.table import (
    BYTES,
    Mode,
    Operand,
    Part,
    Region,
    RegionKind,
    Segment,
    Table,
    dense,
    hash_only,
    item_size,
    use_range,
)

__all__ = ["InputLayout", "Program", "Range", "finish", "unhashed"]


@dataclass(frozen=True, slots=True)
class InputLayout:
    """Size of an input file, and the ranges of it that planning has read."""

    size: int
    ranges: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Bytes ``[begin, end)`` of an input file."""

    ref: FileRef
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Program:
    """A finished table, and the files that its sources are."""

    table: Table
    files: tuple[FileRef, ...]

    @property
    def regions(self) -> tuple[tuple[RegionKind, Range], ...]:
        """The table's regions, by file."""
        return tuple(
            (r.kind, Range(self.files[r.source], r.begin, r.end)) for r in self.table.regions
        )


@dataclass(frozen=True, slots=True)
class _Use:
    """A reading of a file in the chain that starts at segment ``chain``.

    ``region`` is what it may be tagged as, ``orderly`` whether it may be hashed as it is used.
    """

    chain: int
    region: tuple[int, int] | None
    orderly: bool


def finish(
    drafts: Sequence[Draft],
    inputs: Mapping[FileRef, InputLayout],
    *,
    used: Iterable[Range] = (),
) -> list[Program]:
    """Programs of all drafts, in order; then one without output, if files are left over.

    ``used`` are use regions of other programs, which have no draft here: they are tagged where
    their files are walked.
    """
    uses = [_uses(draft) for draft in drafts]
    users: dict[FileRef, list[int]] = defaultdict(list)
    for i, by_file in enumerate(uses):
        for ref in by_file:
            users[ref].append(i)
    modes: list[dict[FileRef, Mode]] = [{} for _ in drafts]
    load = [0] * len(drafts)
    for ref in sorted(inputs):
        if len(users[ref]) == 1 and _in_order(uses[users[ref][0]][ref]):
            modes[users[ref][0]][ref] = Mode.ORDERED
        elif users[ref]:
            walker = min(users[ref], key=lambda i: (load[i], i))
            modes[walker][ref] = Mode.WALKED
            load[walker] += inputs[ref].size
    ordered = {ref for mode in modes for ref in mode if mode[ref] is Mode.ORDERED}
    ranges = _ranges(uses, ordered, used)
    programs = [
        _program(draft, uses[i], modes[i], inputs, ranges) for i, draft in enumerate(drafts)
    ]
    unused = [ref for ref in sorted(inputs) if not users[ref]]
    if unused:
        draft = Draft()
        for ref in unused:
            draft.source(ref)
        walked = dict.fromkeys(unused, Mode.WALKED)
        programs.append(_program(draft, {}, walked, inputs, ranges))
    return programs


def unhashed(draft: Draft, inputs: Mapping[FileRef, InputLayout]) -> Program:
    """The program of a draft whose inputs nobody hashes."""
    return _program(draft, {}, {}, inputs, {})


def _ranges(
    uses: Sequence[Mapping[FileRef, Sequence[_Use]]],
    ordered: Collection[FileRef],
    used: Iterable[Range],
) -> dict[FileRef, list[tuple[int, int]]]:
    """The distinct ranges of every file that are to be tagged, sorted."""
    found: dict[FileRef, set[tuple[int, int]]] = defaultdict(set)
    for by_file in uses:
        for ref in by_file.keys() - ordered:
            found[ref] |= {use.region for use in by_file[ref] if use.region is not None}
    for wanted in used:
        found[wanted.ref].add((wanted.begin, wanted.end))
    return {ref: sorted(found[ref]) for ref in sorted(found)}


def _uses(draft: Draft) -> dict[FileRef, list[_Use]]:
    """Every reading of a file by the draft's segments, in order."""
    uses: dict[FileRef, list[_Use]] = defaultdict(list)
    chain = 0
    for i, segment in enumerate(draft.segments):
        if segment.a.source != Operand.PREVIOUS:
            chain = i
        for operand, code in ((segment.a, segment.a_type), (segment.b, segment.b_type)):
            for part in _parts(draft, operand):
                region = use_range(part.offset, part.dims, part.strides, part.type)
                uses[draft.files[part.source]].append(_Use(chain, region, False))
            if operand.source >= 0:
                region = use_range(operand.offset, segment.dims, operand.strides, code)
                dense = _is_dense(segment.dims, operand.strides, item_size(code))
                uses[draft.files[operand.source]].append(_Use(chain, region, dense))
    return uses


def _parts(draft: Draft, operand: Operand) -> Sequence[Part]:
    if operand.source not in (Operand.JOINED, Operand.MEAN, Operand.PRODUCT):
        return ()
    return draft.parts[operand.offset : operand.offset + operand.tag]


def _is_dense(dims: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    want = itemsize
    for extent, stride in zip(reversed(dims), reversed(strides), strict=True):
        if extent != 1 and stride != want:
            return False
        want *= extent
    return True


def _in_order(uses: Sequence[_Use]) -> bool:
    """Whether the file can be hashed as it is used: densely, forwards, and once per chain."""
    position, chain = 0, -1
    for use in uses:
        if not use.orderly or use.region is None or use.chain == chain:
            return False
        begin, end = use.region
        if begin < position:
            return False
        position, chain = end, use.chain
    return True


def _program(
    draft: Draft,
    uses: Mapping[FileRef, Sequence[_Use]],
    modes: Mapping[FileRef, Mode],
    inputs: Mapping[FileRef, InputLayout],
    ranges: Mapping[FileRef, Sequence[tuple[int, int]]],
) -> Program:
    """Number the tensors' prefixes and the regions, insert the hash-only segments, and freeze."""
    prefixes = tuple((draft.literal(prefix), len(prefix)) for prefix in draft.prefixes)
    before: dict[int, list[Segment]] = defaultdict(list)
    after: list[Segment] = []
    for source, ref in enumerate(draft.files):
        mode, layout = modes.get(ref, Mode.PLAIN), inputs[ref]
        position = 0
        if mode is Mode.ORDERED:
            for use in uses[ref]:
                assert use.region is not None
                begin, end = use.region
                before[use.chain] += _hashes(draft, source, layout, position, begin)
                position = end
        if mode is not Mode.PLAIN:
            after += _hashes(draft, source, layout, position, layout.size)
    regions = [
        Region(source, RegionKind.WALK, begin, end)
        for source, ref in enumerate(draft.files)
        if modes.get(ref) is Mode.WALKED
        for begin, end in ranges.get(ref, ())
    ]
    tags = _Tags(draft, ranges, regions)
    segments: list[Segment] = []
    for i, segment in enumerate(draft.segments):
        segments += [*before[i], tags.of_segment(segment)]
    table = Table(
        sources=tuple((modes.get(ref, Mode.PLAIN), inputs[ref].size) for ref in draft.files),
        segments=(*segments, *after),
        tensors=prefixes,
        literals=bytes(draft.literals),
        allow_nonfinite=draft.allow_nonfinite,
        regions=tuple(regions),
        parts=tuple(tags.parts),
    )
    return Program(table, tuple(draft.files))


class _Tags:
    """Gives operands and parts that read files of ``refs`` their tags; ``regions`` grows."""

    def __init__(self, draft: Draft, refs: Collection[FileRef], regions: list[Region]) -> None:
        self.draft = draft
        self.refs = refs
        self.regions = regions
        self.parts: list[Part] = []

    def of_segment(self, segment: Segment) -> Segment:
        a = self._operand(segment, segment.a, segment.a_type)
        return replace(segment, a=a, b=self._operand(segment, segment.b, segment.b_type))

    def _operand(self, segment: Segment, operand: Operand, code: int) -> Operand:
        for p in _parts(self.draft, operand):
            region = use_range(p.offset, p.dims, p.strides, p.type)
            self.parts.append(replace(p, tag=self._tag(p.source, region)))
        if operand.source < 0:
            return operand
        region = use_range(operand.offset, segment.dims, operand.strides, code)
        return replace(operand, tag=self._tag(operand.source, region))

    def _tag(self, source: int, region: tuple[int, int] | None) -> int:
        if region is None or self.draft.files[source] not in self.refs:
            return 0
        self.regions.append(Region(source, RegionKind.USE, *region))
        return len(self.regions)


def _hashes(draft: Draft, source: int, layout: InputLayout, begin: int, end: int) -> list[Segment]:
    """Hash-only segments over ``[begin, end)``: literal where planning has read the file."""
    segments = []
    position = begin
    start = max(0, bisect_right(layout.ranges, begin, key=lambda known: known[0]) - 1)
    for offset, data in islice(layout.ranges, start, None):
        if offset >= end:
            break
        first, last = max(offset, position), min(offset + len(data), end)
        if first >= last:
            continue
        if position < first:
            segments.append(hash_only(source, position, first))
        literal = draft.literal(data[first - offset : last - offset])
        operand, _ = dense(Operand.LITERAL, literal, literal + last - first)
        segments.append(replace(hash_only(source, first, last), b=operand, b_type=BYTES))
        position = last
    if position < end:
        segments.append(hash_only(source, position, end))
    return segments
