"""What differs between two checkpoints, as one page for a browser.

- The page stands alone: no script, no font, no image, nothing from the network; its policy forbids
  all of it and admits one style sheet by digest. Names are text wherever they stand.
- It works by keyboard and with a screen reader, in light and dark, and on paper: the picture is a
  table, and each cell leads to the row of its tensor.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vbuild.report.diff import side_text, verdict
from vbuild.report.diff_picture import (
    LEVELS,
    SHARES,
    Scale,
    anchors,
    picture,
    safe,
    scales,
    short,
    tiny,
)
from vbuild.report.differences import (
    brief,
    described,
    distance,
    grouped,
    headline,
    position,
    shape,
    share,
)

if TYPE_CHECKING:
    from vbuild.commands.diff import Differed
    from vbuild.diff import Comparison, Pair, Side
    from vbuild.tensors import Tensor

__all__ = ["page"]

MEASURES = (
    ("share", "changed elements, in %"),
    ("ulp", "largest difference in ulps"),
    ("abs", "largest absolute difference"),
)


def page(found: Differed) -> str:
    """The page, as text of HTML 5."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = f"{safe(str(found.a.path))} and {safe(str(found.b.path))}: vbuild diff"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{title}</title>\n<style>{style}</style>\n</head>",
        f'<body class="{"same" if found.same else "differs"}">',
        *_body(found),
        "</body>\n</html>",
    ]
    return "\n".join(parts) + "\n"


def _style() -> str:
    """The style sheet, with a rule per measure and level."""
    sheet = (Path(__file__).parent / "diff.css").read_text(encoding="utf-8")
    rules = []
    for prefix, chosen in (("s", "share"), ("u", "ulp"), ("d", "abs")):
        root = f"body:has(#m-{chosen}:checked) "
        for level in range(1, LEVELS + 1):
            ink = "low" if level < 6 else "high"
            where = ", ".join(
                f"{root}{place}.{prefix}{level}" for place in (".grid td", ".tiles .c")
            )
            rules.append(f"{where} {{ background-color: var(--l{level}); color: var(--{ink}); }}")
    rules += [
        f".scale .l{level}::before {{ background: var(--l{level}); }}"
        for level in range(1, LEVELS + 1)
    ]
    return sheet + "\n".join(rules) + "\n"


def _body(found: Differed) -> Iterator[str]:
    comparison = found.comparison
    yield '<a class="skip" href="#tensors">Skip to the list of all tensors</a>'
    word = "The same weights" if found.same else "The weights differ"
    yield f"<header><h1>{word}</h1>"
    yield f'<p class="lead">{safe(verdict(found))}. {safe(headline(comparison.summary))}.</p>'
    yield '<div class="sides">'
    for i, side in enumerate((found.a, found.b)):
        yield from _side("ab"[i], side, found.weights[i] if found.weights else None)
    yield "</div>"
    yield from _facts(comparison)
    yield "</header>\n<main>"
    yield '<section aria-labelledby="picture"><h2 id="picture">By layer and module</h2>'
    yield from _controls(comparison)
    yield from picture(comparison)
    yield "</section>"
    ids = anchors(comparison)
    for title, tensors in (("Only in a", comparison.only_a), ("Only in b", comparison.only_b)):
        if tensors:
            yield from _only(title, tensors, ids)
    yield from _all(comparison.pairs, ids)
    yield "</main>"
    yield (
        "<footer><p>Tensors are matched by name and compared bit by bit; container and sharding "
        "make no difference. An ulp is one step from a value to the next. Of elements that are "
        "the farthest apart, the first is counted.</p><p>Made by vbuild diff.</p></footer>"
    )


def _side(label: str, side: Side, weights: str | None) -> Iterator[str]:
    yield f'<div class="side {label}"><h2>{label}</h2><p>{safe(side_text(side))}</p>'
    if weights is not None:
        yield f"<p>weights digest <code>{weights}</code></p>"
    yield "</div>"


def _facts(comparison: Comparison) -> Iterator[str]:
    summary = comparison.summary
    facts = [
        (share(summary.differing, summary.elements), "of the elements changed"),
        (f"{grouped(summary.changed)} of {grouped(summary.in_both)}", "tensors changed"),
        (grouped(summary.only_a), "only in a"),
        (grouped(summary.only_b), "only in b"),
        (grouped(summary.type), "of another type"),
        (grouped(summary.shape), "of another shape"),
    ]
    yield '<ul class="facts">'
    for number, what in facts:
        yield f"<li><strong>{safe(number)}</strong> <span>{what}</span></li>"
    yield "</ul>"


def _controls(comparison: Comparison) -> Iterator[str]:
    yield "<fieldset><legend>Show</legend>"
    for key, label in MEASURES:
        checked = " checked" if key == "share" else ""
        yield (f'<label><input type="radio" name="measure" id="m-{key}"{checked}> {label}</label>')
    yield "</fieldset>"
    ulp, distant = scales(comparison)
    yield '<div class="scale"><div class="by-share"><ol aria-label="Scale of changed elements">'
    yield '<li class="l0">none</li>'
    for level, top in enumerate(SHARES, 1):
        yield f'<li class="l{level}">{"&le; " if top < 1 else ""}{100 * top:g} %</li>'
    yield "</ol></div>"
    yield from _ramp("ulp", "Scale of ulps", ulp)
    yield from _ramp("abs", "Scale of absolute differences", distant)
    marks = [
        (comparison.only_a, "only-a", "only in a"),
        (comparison.only_b, "only-b", "only in b"),
        (comparison.summary.type, "type", "another type"),
        (comparison.summary.shape, "shape", "another shape"),
    ]
    for there, kind, label in marks:
        if there:
            yield f'<span class="mark {kind}">{label}</span>'
    yield "</div>"


def _ramp(key: str, label: str, found: Scale) -> Iterator[str]:
    yield f'<div class="by-{key}"><ol aria-label="{label}"><li class="l0">none</li>'
    for level in range(1, LEVELS + 1):
        top = ""
        if found.most:
            number = found.least * (found.most / found.least) ** (level / LEVELS)
            top = short(round(number)) if key == "ulp" else tiny(number)
        yield f'<li class="l{level}">{top}</li>'
    yield "</ol></div>"


def _only(title: str, tensors: Sequence[Tensor], ids: dict[str, str]) -> Iterator[str]:
    key = title.lower().replace(" ", "-")
    yield f'<section aria-labelledby="{key}"><h2 id="{key}">{title}</h2>'
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
    yield '<table class="all"><thead><tr><th scope="col">tensor</th>'
    yield '<th scope="col">type and shape</th></tr></thead><tbody>'
    for tensor in tensors:
        yield f'<tr id="{ids[tensor.name]}"><th scope="row" class="name">{safe(tensor.name)}</th>'
        yield f"<td>{safe(described(tensor))}</td></tr>"
    yield "</tbody></table></div></section>"


HEADS = (
    "tensor",
    "a",
    "b",
    "changed",
    "of all",
    "first at",
    "in a",
    "in b",
    "largest ulp",
    "at",
    "largest abs",
    "at",
)


def _all(pairs: Sequence[Pair], ids: dict[str, str]) -> Iterator[str]:
    yield '<section aria-labelledby="tensors"><h2 id="tensors">All tensors that both have</h2>'
    yield '<div class="scroll" tabindex="0" role="region" aria-label="All tensors that both have">'
    heads = "".join(
        f'<th scope="col"{_NUMERIC if i > 2 else ""}>{head}</th>' for i, head in enumerate(HEADS)
    )
    yield f'<table class="all"><thead><tr>{heads}</tr></thead><tbody>'
    for pair in pairs:
        cells = "".join(f"<td{_NUMERIC}>{safe(text)}</td>" for text in _numbers(pair))
        yield (
            f'<tr id="{ids[pair.name]}" class="st-{pair.status}">'
            f'<th scope="row" class="name">{safe(pair.name)}</th>'
            f"<td>{safe(described(pair.a))}</td><td>{_other(pair)}</td>{cells}</tr>"
        )
    yield "</tbody></table></div></section>"


_NUMERIC = ' class="num"'


def _other(pair: Pair) -> str:
    """Type and shape in b, where they are not those in a."""
    return safe(described(pair.b)) if pair.status in ("type", "shape") else "as a"


def _numbers(pair: Pair) -> list[str]:
    """The columns of numbers, each as text."""
    found, dtype = pair.measured, pair.compared_as
    if found is None or dtype is None:
        return ["not compared", *[""] * 8]
    if not found.differing:
        return ["0", *[""] * 8]

    def at(index: int) -> str:
        return shape(position(index, pair.extents))

    cells = [
        grouped(found.differing),
        share(found.differing, pair.elements),
        at(found.first),
        brief(found.bits[0], dtype),
        brief(found.bits[1], dtype),
    ]
    if not dtype.is_arithmetic:
        return [*cells, "", "", "", ""]
    cells += [grouped(found.max_ulp), at(found.max_ulp_at) if found.max_ulp else ""]
    return [*cells, distance(found.max_abs), at(found.max_abs_at) if found.max_abs else ""]
