"""The picture of a diff: a table of layers and modules, each cell as dark as it has changed.

- It is a table, so that a screen reader says the layer and the module of a cell; a number stands in
  every cell, so that nothing depends on colour alone.
- Three measures are in each cell; the page's style shows the one that is chosen. Levels of share
  are fixed, so that two pages compare; those of distances go from the least to the most, in
  logarithms.
- A cell has several tensors where modules share a column (experts); it shows their total.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from vbuild.diff import Comparison, Pair, Stack
from vbuild.errors import printable
from vbuild.report.differences import Part, distance, grouped, share, stacks, totals
from vbuild.report.units import counted

__all__ = ["LEVELS", "SHARES", "Scale", "anchors", "picture", "safe", "scale", "short", "tiny"]

SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The largest share of each level above 0."""

LEVELS = len(SHARES)


@dataclass(frozen=True, slots=True)
class Scale:
    """From the least to the most of a measure that is not 0, over all cells; (0, 0) for none."""

    least: float
    most: float

    def level(self, value: float) -> int:
        """1 to LEVELS in equal steps of the logarithm; 0 for 0."""
        if not value:
            return 0
        if self.most == self.least or math.isinf(value):
            return LEVELS
        part = math.log(value / self.least) / math.log(self.most / self.least)
        return 1 + min(LEVELS - 1, int(part * LEVELS))


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What every cell needs: the pairs, which side lonely names are on, anchors and scales."""

    pairs: Mapping[str, Pair]
    only: Mapping[str, str]
    anchors: Mapping[str, str]
    ulp: Scale
    abs: Scale


def safe(text: str) -> str:
    """``text`` for HTML, in an element or in a quoted attribute: whatever it is, it is text."""
    return escape(printable(text), quote=True)


def anchors(comparison: Comparison) -> dict[str, str]:
    """The id of each tensor's row, by name: none is made of a name."""
    pairs = {pair.name: f"t{i}" for i, pair in enumerate(comparison.pairs)}
    only = {t.name: f"o{i}" for i, t in enumerate((*comparison.only_a, *comparison.only_b))}
    return pairs | only


def scale(values: Sequence[float]) -> Scale:
    """The scale of what is not 0 and not infinite among the values."""
    known = [value for value in values if value and math.isfinite(value)]
    return Scale(min(known, default=0.0), max(known, default=0.0))


def share_level(value: float) -> int:
    """1 to LEVELS, 0 for 0."""
    return next((i for i, top in enumerate(SHARES, 1) if value <= top), LEVELS) if value else 0


def scales(comparison: Comparison) -> tuple[Scale, Scale]:
    """Those of the largest ulp and of the largest absolute distance."""
    found = [pair.measured for pair in comparison.pairs if pair.measured is not None]
    return scale([m.max_ulp for m in found]), scale([m.max_abs for m in found])


def picture(comparison: Comparison) -> Iterator[str]:
    """The tables of all stacks, and the tiles of what stands apart."""
    found, apart = stacks(comparison)
    drawing = _Drawing(
        {pair.name: pair for pair in comparison.pairs},
        {t.name: "a" for t in comparison.only_a} | {t.name: "b" for t in comparison.only_b},
        anchors(comparison),
        *scales(comparison),
    )
    if apart:
        yield '<ul class="tiles">'
        for name in apart:
            label = f'<span class="label">{safe(name)}</span>'
            yield f"<li>{label}{_cell(drawing, (name,), 'div')}</li>"
        yield "</ul>"
    for stack in found:
        yield from _grid(drawing, stack)


def _grid(drawing: _Drawing, stack: Stack) -> Iterator[str]:
    caption = f"{safe(stack.name)}.*: {counted(len(stack.layers), 'layer')}"
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
    yield f'<table class="grid"><caption>{caption}</caption>'
    heads = "".join(f'<th scope="col">{safe(module)}</th>' for module in stack.modules)
    yield f'<thead><tr><th scope="col">layer</th>{heads}<th scope="col">all</th></tr></thead>'
    yield "<tbody>"
    for layer in stack.layers:
        rows = [stack.cells.get((layer, module), ()) for module in stack.modules]
        cells = "".join(_cell(drawing, names) for names in rows)
        every = _total(drawing, [name for names in rows for name in names])
        yield f'<tr><th scope="row">{layer}</th>{cells}{every}</tr>'
    yield "</tbody><tfoot>"
    columns = [
        [name for layer in stack.layers for name in stack.cells.get((layer, module), ())]
        for module in stack.modules
    ]
    cells = "".join(_total(drawing, names) for names in columns)
    every = _total(drawing, [name for names in columns for name in names])
    yield f'<tr><th scope="row">all</th>{cells}{every}</tr></tfoot></table></div>'


def _part(drawing: _Drawing, names: Sequence[str]) -> Part:
    return totals(drawing.pairs[name] for name in names if name in drawing.pairs)


def _levels(drawing: _Drawing, part: Part) -> str:
    ulp, distant = drawing.ulp.level(part.max_ulp), drawing.abs.level(part.max_abs)
    return f"s{share_level(part.share)} u{ulp} d{distant}"


def _total(drawing: _Drawing, names: Sequence[str]) -> str:
    part = _part(drawing, names)
    if not part.elements:
        return '<td class="none"></td>'
    return f'<td class="sum {_levels(drawing, part)}">{_numbers(part)}</td>'


def _cell(drawing: _Drawing, names: Sequence[str], tag: str = "td") -> str:
    """One or several tensors, as a link to the row of the first."""
    if not names:
        return f'<{tag} class="none"></{tag}>'
    part = _part(drawing, names)
    marks = sorted({_mark(drawing, name) for name in names} - {""})
    words = _words(drawing, names, part)
    text = _MARKS[marks[0]] if marks and not part.elements else _numbers(part)
    classes = " ".join(["c", *marks, _levels(drawing, part)])
    return (
        f'<{tag} class="{classes}"><a href="#{drawing.anchors[names[0]]}" aria-label="{words}">'
        f'{text}<span class="tip" aria-hidden="true">{words}</span></a></{tag}>'
    )


_MARKS = {
    "only-a": "only a",
    "only-b": "only b",
    "shape": "shape",
    "type": "type",
}


def _mark(drawing: _Drawing, name: str) -> str:
    """What is the matter with a tensor besides its values: a class, or nothing."""
    if name in drawing.only:
        return f"only-{drawing.only[name]}"
    status = drawing.pairs[name].status
    return status if status in ("shape", "type") else ""


def _words(drawing: _Drawing, names: Sequence[str], part: Part) -> str:
    """What a pointer or a screen reader gets to know of a cell."""
    first = safe(names[0])
    what = first if len(names) == 1 else f"{first} and {len(names) - 1} more"
    lonely = sorted({drawing.only[name] for name in names if name in drawing.only})
    said = [f"only in {side}" for side in lonely]
    statuses = {drawing.pairs[name].status for name in names if name in drawing.pairs}
    said += [f"another {status}" for status in ("type", "shape") if status in statuses]
    if part.elements:
        differ = f"{grouped(part.differing)} of {grouped(part.elements)} elements"
        said.append(f"{differ} ({safe(share(part.differing, part.elements))}) changed")
        if part.max_ulp:
            said.append(f"at most {grouped(part.max_ulp)} ulp, {distance(part.max_abs)}")
    return f"{what}: {'; '.join(said)}"


def _numbers(part: Part) -> str:
    """The three measures, of which the page shows one."""
    if not part.differing:
        return '<span class="zero">&middot;</span>'
    percent = safe(share(part.differing, part.elements).removesuffix(" %"))
    return (
        f'<span class="by-share">{percent}</span><span class="by-ulp">{short(part.max_ulp)}</span>'
        f'<span class="by-abs">{tiny(part.max_abs)}</span>'
    )


def short(number: int) -> str:
    """``12``, ``1.2k``, ``34M``."""
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            scaled = number / limit
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return str(number)


def tiny(number: float) -> str:
    """``0.12`` or ``3e-4``."""
    if number == 0 or 0.01 <= number < 1000:
        return format(number, ".2g") if number < 10 else format(number, ".0f")
    mantissa, _, exponent = format(number, ".0e").partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
