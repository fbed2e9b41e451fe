"""The benchmark's picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmarks.documents import picture
from benchmarks.plot import ACCENT, INK, PEER, Bar, Curve, Panel, svg
from tests.benchmarks.made_up import report

LIGHT, DARK = "#ffffff", "#0d1117"  # the pages of GitHub's two themes


def luminance(colour):
    """WCAG 2's relative luminance."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", [LIGHT, DARK])
def test_every_colour_is_readable_in_both_themes(page):
    assert contrast(INK, page) >= 4
    assert contrast(ACCENT, page) >= 3
    assert contrast(PEER, page) >= 3


def test_no_other_colour_is_used():
    used = set(re.findall(r'(?:fill|stroke)="([^"]+)"', picture(report())))
    assert used <= {INK, ACCENT, PEER, "none"}


def test_the_same_results_give_the_same_bytes():
    assert picture(report()) == picture(report())


def test_the_picture_is_well_formed_and_loads_nothing():
    text = svg("<a> & b", [Bar("<x>", 1.0)], [])
    root = ElementTree.fromstring(text)
    assert root[0].text == "<a> & b"
    assert "href" not in text
    assert "style" not in text


def test_bars_are_as_long_as_their_figures():
    root = ElementTree.fromstring(svg("t", [Bar("a", 1.0), Bar("b", 4.0, own=True)], []))
    widths = [float(rect.get("width")) for rect in root if rect.tag.endswith("rect")]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)


def test_linear_places_stand_at_their_values():
    curve = Curve("c", (1.0, 2.0, 4.0))
    root = ElementTree.fromstring(svg("t", [], [Panel("p", (1, 2, 4), (curve,), linear=True)]))
    xs, ys = (
        [float(dot.get(axis)) for dot in root if dot.tag.endswith("circle")]
        for axis in ("cx", "cy")
    )
    assert (xs[2] - xs[1]) == pytest.approx(2 * (xs[1] - xs[0]), rel=0.01)
    assert (ys[1] - ys[2]) == pytest.approx(2 * (ys[0] - ys[1]), rel=0.01)
