"""Lines of text with styles, and tables of them.

- A line is a tuple of spans; a span's text is escaped when it is rendered, so whatever a file or a
  tensor is called, a line stays one line and steers no terminal (bad-inputs.md, 89).
- Styles say what a text means; which colour that is, is decided here only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from vbuild.errors import printable

__all__ = ["BLANK", "Line", "Span", "Style", "line", "render", "styled", "table"]

Style: TypeAlias = Literal["plain", "good", "bad", "caution", "strong", "faint", "accent"]

_SGR: Final[dict[Style, str]] = {
    "plain": "",
    "good": "32",
    "bad": "1;31",
    "caution": "33",
    "strong": "1",
    "faint": "2",
    "accent": "36",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line."""

    text: str
    style: Style = "plain"

    @property
    def shown(self) -> str:
        """The text as it may be shown."""
        return printable(self.text)


Line: TypeAlias = tuple[Span, ...]

BLANK: Final[Line] = ()


def styled(text: str, style: Style) -> Span:
    """``text`` in a style."""
    return Span(text, style)


def line(*parts: str | Span) -> Line:
    """A line of plain and styled parts."""
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def render(content: Line, *, colour: bool = False) -> str:
    """The line as text without a line end; with ``colour`` styles become ANSI sequences."""
    return "".join(_render(span, colour) for span in content)


def _render(span: Span, colour: bool) -> str:
    code = _SGR[span.style]
    return f"\x1b[{code}m{span.shown}\x1b[0m" if colour and code and span.text else span.shown


def table(
    rows: Sequence[Sequence[str | Span]], *, right: Collection[int] = (), indent: int = 2
) -> list[Line]:
    """``rows`` in columns two spaces apart; the columns ``right`` are aligned to the right."""
    spans = [line(*row) for row in rows]
    width: dict[int, int] = {}
    for row in spans:
        for i, cell in enumerate(row):
            width[i] = max(width.get(i, 0), len(cell.shown))
    return [_row(row, width, right, indent) for row in spans]


def _row(row: Line, width: dict[int, int], right: Collection[int], indent: int) -> Line:
    parts: list[Span] = []
    gap = indent
    for i, cell in enumerate(row):
        if not cell.text:
            gap += width[i] + 2
            continue
        blank = width[i] - len(cell.shown)
        before, after = (blank, 0) if i in right else (0, blank)
        parts += [Span(" " * (gap + before)), cell]
        gap = after + 2
    return tuple(parts)
