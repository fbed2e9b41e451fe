"""Results in the documents: the blocks that hold them, and the picture.

- A block stands between ``<!-- benchmark: NAME -->`` and ``<!-- benchmark end -->``; what is
  between is replaced, and nothing else.
- Everything is computed from the results, without a time stamp: the same results, the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks import tables
from benchmarks.cases import COPY, ONE, OPENSSL, PEER, TWO
from benchmarks.lines import MAIN, cost
from benchmarks.plot import Bar, Curve, Panel, svg
from benchmarks.results import Report
from benchmarks.tables import growth_groups, measured, shard_groups

__all__ = ["blocks", "picture", "rewrite"]

_BLOCK = re.compile(
    r"(<!-- benchmark: ([a-z]+) -->\n).*?(<!-- benchmark end -->)", re.DOTALL | re.ASCII
)

_BARS = {
    COPY: "cp + sync of the base",
    TWO: "vbuild apply, 2 threads",
    ONE: "vbuild apply, 1 thread",
    "vbuild, .bin + .bin": "vbuild apply, .bin files, 2 threads",
    OPENSSL: "openssl dgst of the three, alone",
    PEER: "torch load, add, save + openssl",
}


def picture(report: Report) -> str:
    """The plot of the README; what was not measured is left out."""
    unit = measured(report, MAIN, COPY, "wall") or 1.0
    bars = [
        Bar(name, value / unit, own=label.startswith("vbuild"))
        for label, name in _BARS.items()
        if (value := measured(report, MAIN, label, "wall")) is not None
    ]
    panels = [_growth_panel(report, unit), _shards_panel(report)]
    kept = [panel for panel in panels if panel is not None]
    return svg("Wall time for 2 GB + 2 GB; cp + sync of the base is 1", bars, kept)


def _points(report: Report, named: Mapping[str, str]) -> list[tuple[float, float, float]]:
    """Place, and wall time of vbuild and of cp, of every group that was measured."""
    return [
        (float(label.split()[0]), cost(report.results, group, TWO, "wall", "best"), copied)
        for label, group in named.items()
        if (copied := measured(report, group, COPY, "wall")) is not None
    ]


def _growth_panel(report: Report, unit: float) -> Panel | None:
    points = _points(report, growth_groups())
    if not points:
        return None
    places, own, copied = zip(*points, strict=True)
    curves = (
        Curve("vbuild, 2 threads", tuple(value / unit for value in own), own=True),
        Curve("cp + sync", tuple(value / unit for value in copied)),
    )
    return Panel("By GB of model; cp + sync of 2 GB is 1", places, curves, linear=True)


def _shards_panel(report: Report) -> Panel | None:
    points = _points(report, shard_groups())
    if not points:
        return None
    ratios = tuple(own / copied for _, own, copied in points)
    curve = Curve("vbuild, 2 threads", ratios, own=True)
    return Panel(
        "By shards of 2 GB; cp + sync of each is 1",
        tuple(place for place, _, _ in points),
        (curve,),
    )


def blocks(report: Report) -> dict[str, str]:
    """What stands in each block of the documents."""
    return {
        "machine": tables.machine_text(report),
        "summary": f"{tables.machine_text(report)}\n{tables.summary_table(report)}",
        "bound": tables.bound_text(report),
        "kernels": tables.kernels_table(report),
        "lines": tables.lines_table(report),
        "contestants": tables.contestants_table(report),
        "growth": tables.series_table(report, growth_groups(), "size"),
        "shards": tables.series_table(report, shard_groups(), "shards"),
    }


def rewrite(text: str, report: Report) -> str:
    """``text`` with its blocks filled in. KeyError for a block of an unknown name."""
    made = blocks(report)
    return _BLOCK.sub(lambda m: f"{m[1]}{made[m[2]]}{m[3]}", text)
