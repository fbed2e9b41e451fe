"""The figures as a picture: SVG, the same bytes for the same figures.

- No fonts, scripts or style sheets: what a README may show. The background is transparent, and each
  colour has enough contrast with GitHub's light and with its dark page (a test computes it).
- Panels are bars (contestants of one group) and curves (how cost grows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["ACCENT", "INK", "PEER", "Bar", "Curve", "Panel", "svg"]

INK = "#767a80"
"""Text, axes."""

ACCENT = "#2f81d8"
"""vbuild."""

PEER = "#8c8f94"
"""Everybody else."""

WIDTH = 840
ROW = 26
LABELS = 290
"""Room for the names of bars."""

FONT = 'font-family="-apple-system,BlinkMacSystemFont,Segoe UI,Helvetica,Arial,sans-serif"'


@dataclass(frozen=True, slots=True)
class Bar:
    """A contestant's figure; ``own`` for vbuild's."""

    name: str
    value: float
    own: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """Figures over the panel's places; ``own`` for vbuild's."""

    name: str
    values: tuple[float, ...]
    own: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over ``places``, which stand at equal distances, or at their values if ``linear``."""

    title: str
    places: tuple[float, ...]
    curves: tuple[Curve, ...]
    linear: bool = False


def svg(title: str, bars: Sequence[Bar], panels: Sequence[Panel]) -> str:
    """The picture: bars above, panels side by side below."""
    top = 34 + ROW * len(bars) + 30
    height = top + 260 if panels else top
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" {FONT} font-size="13">',
        f"<title>{escape(title)}</title>",
        *_bars(title, bars),
    ]
    each = WIDTH / max(len(panels), 1)
    for i, panel in enumerate(panels):
        parts += _panel(panel, i * each, top, each)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(
    x: float, y: float, text: str, anchor: str = "start", colour: str = INK, bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>'
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{INK}" stroke-width="1"/>'
    )


def _bars(title: str, bars: Sequence[Bar]) -> list[str]:
    parts = [_text(0, 16, title, bold=True)]
    longest = max((bar.value for bar in bars), default=1.0)
    for i, bar in enumerate(bars):
        y = 34 + ROW * i
        length = (WIDTH - LABELS - 60) * bar.value / longest
        colour = ACCENT if bar.own else PEER
        parts += [
            _text(LABELS - 10, y + 15, bar.name, "end", bold=bar.own),
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{ROW - 6}" rx="2" '
            f'fill="{colour}"/>',
            _text(LABELS + length + 6, y + 15, f"{bar.value:.2f}", bold=bar.own),
        ]
    return parts


def _panel(panel: Panel, left: float, top: float, width: float) -> list[str]:
    x0, x1 = left + 40, left + width - 30
    y0, y1 = top + 230, top + 55
    highest = max(max(curve.values) for curve in panel.curves) * 1.1
    if panel.linear:
        span = max(panel.places) or 1.0
        xs = [x0 + (x1 - x0) * place / span for place in panel.places]
    else:
        step = (x1 - x0) / max(len(panel.places), 1)
        xs = [x0 + step * (i + 0.5) for i in range(len(panel.places))]
    parts = [_text(left, top + 12, panel.title, bold=True), _line(x0, y0, x1, y0)]
    parts += [_text(x, y0 + 18, f"{place:g}", "middle") for x, place in _apart(xs, panel.places)]
    for tick in _ticks(highest):
        y = y0 - (y0 - y1) * tick / highest
        parts += [_line(x0 - 4, y, x0, y), _text(x0 - 8, y + 4, f"{tick:g}", "end")]
    for i, curve in enumerate(panel.curves):
        ys = [y0 - (y0 - y1) * value / highest for value in curve.values]
        parts += [*_curve(curve, xs, ys), *_key(curve, x0 + 170 * i, top + 34)]
    return parts


def _key(curve: Curve, x: float, y: float) -> list[str]:
    """A curve's colour and name."""
    colour = ACCENT if curve.own else PEER
    swatch = f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" rx="2" fill="{colour}"/>'
    return [swatch, _text(x + 16, y, curve.name, bold=curve.own)]


def _apart(xs: Sequence[float], places: Sequence[float]) -> list[tuple[float, float]]:
    """The places whose labels do not touch the one before."""
    kept: list[tuple[float, float]] = []
    for x, place in zip(xs, places, strict=True):
        if not kept or x - kept[-1][0] >= 26:
            kept.append((x, place))
    return kept


def _ticks(highest: float) -> list[float]:
    """Round numbers from 0 to at most ``highest``, three to six of them."""
    step = next(
        base * 10.0**power
        for power in range(-3, 7)
        for base in (1, 2, 5)
        if highest / (base * 10.0**power) < 6
    )
    return [round(step * i, 6) for i in range(int(highest / step) + 1)]


def _curve(curve: Curve, xs: Sequence[float], ys: Sequence[float]) -> list[str]:
    colour = ACCENT if curve.own else PEER
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>']
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
        for x, y in zip(xs, ys, strict=True)
    ]
    return parts
