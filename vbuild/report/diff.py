"""What differs between two checkpoints: for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vbuild.report.differences import (
    Part,
    brief,
    changed_most,
    described,
    distance,
    grouped,
    headline,
    is_finite,
    position,
    shape,
    share,
    stacks,
    totals,
    value,
)
from vbuild.report.document import Value
from vbuild.report.lines import BLANK, Line, Span, line, styled, table
from vbuild.report.units import counted, size

if TYPE_CHECKING:
    from vbuild.commands.diff import Differed
    from vbuild.diff import Comparison, Pair, Side
    from vbuild.tensors import Tensor

__all__ = ["LISTED", "document", "lines", "status", "verdict"]

LISTED = 12
"""How many tensors of a kind the text names; JSON and HTML have them all."""


def status(found: Differed) -> int:
    """0 if the weights are the same, 1 if anything differs."""
    return 0 if found.same else 1


def verdict(found: Differed) -> str:
    """The answer in one sentence without a full stop."""
    summary = found.comparison.summary
    if found.same:
        return f"{counted(summary.same, 'tensor')}, {grouped(summary.elements)} elements"
    part = f" ({share(summary.differing, summary.elements)})" if summary.differing else ""
    return f"{grouped(summary.differing)} of {grouped(summary.elements)} elements compared{part}"


def lines(found: Differed) -> Iterator[Line]:
    """The two sides, the counts, what is on one side only, what has changed most, the verdict."""
    comparison = found.comparison
    for label, side in (("a", found.a), ("b", found.b)):
        yield line(styled(label, "strong"), f"  {side_text(side)}")
    for i, digest in enumerate(found.weights or ()):
        yield line(styled(f"weights digest of {'ab'[i]}", "strong"), f"  {digest}")
    yield line(headline(comparison.summary))
    yield from _only("only in a", comparison.only_a)
    yield from _only("only in b", comparison.only_b)
    yield from _described(comparison.pairs)
    yield from _modules(comparison)
    yield from _most(changed_most(comparison.pairs))
    yield BLANK
    word = styled("SAME:", "good") if found.same else styled("DIFFERS:", "bad")
    yield line(word, f" {verdict(found)}")


def side_text(side: Side) -> str:
    """``tuned: safetensors, 3 files, 291 tensors, 13.5 GB``."""
    tensors = side.checkpoint.tensors.values()
    files = counted(len(side.checkpoint.files), "file")
    total = size(sum(tensor.nbytes for tensor in tensors))
    count = counted(len(tensors), "tensor")
    return f"{side.path}: {side.checkpoint.format}, {files}, {count}, {total}"


def _only(title: str, tensors: Sequence[Tensor]) -> Iterator[Line]:
    if not tensors:
        return
    yield BLANK
    yield line(styled(title, "strong"))
    yield from table([[t.name, described(t)] for t in tensors[:LISTED]])
    yield from _more(len(tensors))


def _described(pairs: Sequence[Pair]) -> Iterator[Line]:
    """Tensors whose type or shape is not the same on both sides."""
    other = [pair for pair in pairs if pair.status in ("type", "shape")]
    if not other:
        return
    yield BLANK
    yield line(styled("of another type or shape", "strong"))
    rows = []
    for pair in other[:LISTED]:
        compared = "not compared"
        if pair.measured is not None:
            compared = f"compared as {pair.compared_as}: "
            compared += f"{share(pair.differing, pair.elements)} differ"
        rows.append([pair.name, described(pair.a), described(pair.b), compared])
    yield from table(rows)
    yield from _more(len(other))


def _more(count: int) -> Iterator[Line]:
    if count > LISTED:
        yield line(styled(f"  and {count - LISTED} more", "faint"))


def _modules(comparison: Comparison) -> Iterator[Line]:
    """A row per module, over all layers, where layers have changed."""
    pairs = {pair.name: pair for pair in comparison.pairs}
    for stack in stacks(comparison)[0]:
        rows = []
        for module in stack.modules:
            names = [n for (_, m), some in stack.cells.items() if m == module for n in some]
            part = totals(pairs[name] for name in names if name in pairs)
            rows.append(_module(module, part))
        if not any(pair.differing for pair in comparison.pairs):
            continue
        yield BLANK
        yield line(styled(f"{stack.name}.*", "strong"), f", {counted(len(stack.layers), 'layer')}")
        heads: list[str | Span] = [
            styled(head, "faint")
            for head in ("module", "changed", "elements", "largest ulp", "largest abs")
        ]
        yield from table([heads, *rows], right={1, 2, 3, 4})


def _module(module: str, part: Part) -> list[str | Span]:
    return [
        module,
        f"{part.changed} of {part.tensors}",
        share(part.differing, part.elements),
        grouped(part.max_ulp),
        distance(part.max_abs),
    ]


def _most(pairs: Sequence[Pair]) -> Iterator[Line]:
    if not pairs:
        return
    yield BLANK
    yield line(styled("changed most", "strong"))
    heads = ("tensor", "elements", "largest ulp", "largest abs", "first at", "a", "b")
    rows: list[list[str | Span]] = [[styled(head, "faint") for head in heads]]
    for pair in pairs[:LISTED]:
        found, dtype = pair.measured, pair.compared_as
        assert found is not None
        assert dtype is not None
        rows.append(
            [
                pair.name,
                share(found.differing, pair.elements),
                grouped(found.max_ulp) if dtype.is_arithmetic else "-",
                distance(found.max_abs) if dtype.is_arithmetic else "-",
                shape(position(found.first, pair.extents)),
                brief(found.bits[0], dtype),
                brief(found.bits[1], dtype),
            ]
        )
    yield from table(rows, right={1, 2, 3, 5, 6})
    yield from _more(len(pairs))


def document(found: Differed) -> dict[str, Value]:
    """The fields of ``vbuild.diff/1``."""
    comparison = found.comparison
    summary = comparison.summary
    weights = found.weights or (None, None)
    return {
        "same": found.same,
        "exit_status": status(found),
        "a": _side(found.a, weights[0]),
        "b": _side(found.b, weights[1]),
        "summary": {
            "same": summary.same,
            "changed": summary.changed,
            "type": summary.type,
            "shape": summary.shape,
            "only_a": summary.only_a,
            "only_b": summary.only_b,
            "elements": summary.elements,
            "differing": summary.differing,
        },
        "only_a": [_tensor(tensor) for tensor in comparison.only_a],
        "only_b": [_tensor(tensor) for tensor in comparison.only_b],
        "tensors": [_pair(pair) for pair in comparison.pairs],
        "seconds": round(found.seconds, 3),
    }


def _side(side: Side, weights: str | None) -> dict[str, Value]:
    return {
        "path": side.path,
        "format": side.checkpoint.format,
        "files": list(side.checkpoint.files),
        "tensors": len(side.checkpoint.tensors),
        "bytes": sum(tensor.nbytes for tensor in side.checkpoint.tensors.values()),
        "weights": weights,
    }


def _tensor(tensor: Tensor) -> dict[str, Value]:
    return {"name": tensor.name, "dtype": tensor.dtype.code, "shape": list(tensor.shape)}


def _pair(pair: Pair) -> dict[str, Value]:
    found, dtype = pair.measured, pair.compared_as
    differs = found is not None and found.differing > 0
    return {
        "name": pair.name,
        "status": pair.status,
        "a": {"dtype": pair.a.dtype.code, "shape": list(pair.a.shape)},
        "b": {"dtype": pair.b.dtype.code, "shape": list(pair.b.shape)},
        "compared_as": None if dtype is None else dtype.code,
        "elements": pair.elements if found is not None else None,
        "differing": None if found is None else found.differing,
        "unordered": None if found is None else found.unordered,
        "first": _first(pair) if differs else None,
        "max_ulp": _farthest(pair, "max_ulp") if differs else None,
        "max_abs": _farthest(pair, "max_abs") if differs else None,
    }


def _first(pair: Pair) -> dict[str, Value]:
    found, dtype = pair.measured, pair.compared_as
    assert found is not None
    assert dtype is not None
    width = 2 + 2 * dtype.itemsize
    return {
        "index": found.first,
        "position": list(position(found.first, pair.extents)),
        "a": value(found.bits[0], dtype),
        "b": value(found.bits[1], dtype),
        "a_bits": f"{found.bits[0]:#0{width}x}",
        "b_bits": f"{found.bits[1]:#0{width}x}",
    }


def _farthest(pair: Pair, what: str) -> dict[str, Value] | None:
    """The largest distance and where it is; None for types without arithmetic."""
    found, dtype = pair.measured, pair.compared_as
    assert found is not None
    if dtype is None or not dtype.is_arithmetic:
        return None
    if what == "max_ulp":
        distance, index = float(found.max_ulp), found.max_ulp_at
        shown: Value = found.max_ulp
    else:
        distance, index = found.max_abs, found.max_abs_at
        shown = distance if is_finite(distance) else repr(distance)
    if not distance:
        return None
    return {"value": shown, "index": index, "position": list(position(index, pair.extents))}
