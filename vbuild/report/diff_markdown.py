"""What differs between two checkpoints, as Markdown: for a pull request or a model card.

- Names come from strangers: no character of one can end a cell or begin anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from vbuild.errors import printable
from vbuild.report.diff import LISTED, verdict
from vbuild.report.differences import (
    brief,
    changed_most,
    described,
    distance,
    grouped,
    headline,
    position,
    shape,
    share,
)
from vbuild.report.units import size

if TYPE_CHECKING:
    from vbuild.commands.diff import Differed
    from vbuild.diff import Pair

__all__ = ["text"]

_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")


def text(found: Differed) -> str:
    """The report, with a line end."""
    return "".join(f"{line}\n" for line in _lines(found))


def _lines(found: Differed) -> Iterator[str]:
    comparison = found.comparison
    word = "The same weights" if found.same else "The weights differ"
    yield f"**{word}:** {verdict(found)}. {headline(comparison.summary)}."
    yield ""
    yield from _table(("", "path", "format", "files", "tensors", "size"), _sides(found))
    only = [("a", t) for t in comparison.only_a] + [("b", t) for t in comparison.only_b]
    if only:
        yield from ("", "### On one side only", "")
        rows = [[_code(t.name), side, described(t)] for side, t in only[:LISTED]]
        yield from _table(("tensor", "in", "type and shape"), rows)
        yield from _more(len(only))
    other = [pair for pair in comparison.pairs if pair.status in ("type", "shape")]
    if other:
        yield from ("", "### Of another type or shape", "")
        rows = [[_code(p.name), described(p.a), described(p.b)] for p in other[:LISTED]]
        yield from _table(("tensor", "a", "b"), rows)
        yield from _more(len(other))
    most = changed_most(comparison.pairs)
    if most:
        yield from ("", "### Changed most", "")
        heads = ("tensor", "elements", "largest ulp", "largest abs", "first at", "a", "b")
        yield from _table(heads, [_row(pair) for pair in most[:LISTED]])
        yield from _more(len(most))


def _sides(found: Differed) -> Iterator[Sequence[str]]:
    for label, side in (("a", found.a), ("b", found.b)):
        tensors = side.checkpoint.tensors.values()
        yield (
            f"**{label}**",
            _code(str(side.path)),
            side.checkpoint.format,
            str(len(side.checkpoint.files)),
            str(len(tensors)),
            size(sum(tensor.nbytes for tensor in tensors)),
        )
    for i, digest in enumerate(found.weights or ()):
        yield (f"**{'ab'[i]}**", _code(digest), "weights digest", "", "", "")


def _row(pair: Pair) -> list[str]:
    found, dtype = pair.measured, pair.compared_as
    assert found is not None
    assert dtype is not None
    return [
        _code(pair.name),
        share(found.differing, pair.elements).replace("<", "&lt;"),
        grouped(found.max_ulp) if dtype.is_arithmetic else "",
        distance(found.max_abs) if dtype.is_arithmetic else "",
        shape(position(found.first, pair.extents)),
        brief(found.bits[0], dtype),
        brief(found.bits[1], dtype),
    ]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _more(count: int) -> Iterator[str]:
    if count > LISTED:
        yield ""
        yield f"... and {count - LISTED} more."


def _code(name: str) -> str:
    """``name`` as code. A usual one is a code span; of any other, every character that could mean
    something to a reader of Markdown or HTML is a character reference, which means nothing."""
    if _PLAIN.fullmatch(name):
        return f"`{name}`"
    encoded = "".join(
        c if _PLAIN.fullmatch(c) or ord(c) > 127 else f"&#{ord(c)};" for c in printable(name)
    )
    return f"<code>{encoded}</code>"
