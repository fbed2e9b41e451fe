"""Results as a table for the terminal, as JSON, and as the marked blocks of the documents.

- The JSON has every sample; everything else is computed from it, so a document can be written again
  from the JSON of an earlier run.
- A block of a document stands between ``<!-- benchmark: NAME -->`` and ``<!-- benchmark end -->``;
  what is between is replaced, and nothing else.
- No time stamps: the same results give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.cases import COPY, GROWTH, ONE, OPENSSL, PEER, SHARDS, TWO
from benchmarks.lines import LINES, MAIN, Judged, NotMeasured, cost, group_of_size, judge
from benchmarks.measure import Quantity, Sample
from benchmarks.plot import Bar, Curve, Panel, svg
from benchmarks.runner import Ran

__all__ = ["Report", "dumps", "loads", "picture", "rewrite", "table"]

SCHEMA = "vbuild.benchmark/1"
_BLOCK = re.compile(
    r"(<!-- benchmark: ([a-z]+) -->\n).*?(<!-- benchmark end -->)", re.DOTALL | re.ASCII
)


@dataclass(frozen=True, slots=True)
class Report:
    """A run: where, how often, and what it gave by group."""

    machine: Mapping[str, str]
    repetitions: int
    quick: bool
    results: Mapping[str, Ran]

    def judged(self) -> list[Judged]:
        """Every line."""
        return [judge(line, self.results) for line in LINES]


def dumps(report: Report) -> str:
    """The JSON document."""
    groups = {
        name: {
            "bytes": ran.bytes,
            "samples": {label: [asdict(s) for s in runs] for label, runs in ran.samples.items()},
            "skipped": ran.skipped,
        }
        for name, ran in report.results.items()
    }
    lines = [
        {
            "line": judged.line.what,
            "unit": judged.line.unit,
            "limit": judged.line.limit,
            "at_least": judged.line.at_least,
            "best": judged.best,
            "median": judged.median,
            "verdict": judged.verdict,
            "reason": judged.reason,
        }
        for judged in report.judged()
    ]
    document = {
        "schema": SCHEMA,
        "machine": dict(report.machine),
        "repetitions": report.repetitions,
        "quick": report.quick,
        "lines": lines,
        "groups": groups,
    }
    return json.dumps(document, indent=1) + "\n"


def loads(text: str) -> Report:
    """The report of a JSON document."""
    document = json.loads(text)
    if document["schema"] != SCHEMA:
        raise ValueError(f"not {SCHEMA}")
    results = {
        name: Ran(
            group["bytes"],
            {label: [Sample(**s) for s in runs] for label, runs in group["samples"].items()},
            group["skipped"],
        )
        for name, group in document["groups"].items()
    }
    return Report(document["machine"], document["repetitions"], document["quick"], results)


# ---- tables ----


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "MiB":
        return f"{value:.0f} MiB"
    return f"{value:.3f} s" if unit == "s" else f"{value:.2f} x"


def _limit(judged: Judged) -> str:
    line = judged.line
    if line.limit is None:
        return ""
    return f"{'>=' if line.at_least else '<='} {line.limit:g}{' ' + line.unit}"


def _verdict(judged: Judged) -> str:
    words = {"missed": "**missed**", "no limit": ""}
    text = words.get(judged.verdict, judged.verdict)
    return text if judged.reason is None else f"{text}: {judged.reason}"


def lines_table(report: Report) -> str:
    """Every line with its limit, the figure of the best runs, of the medians, and the verdict."""
    rows = [
        [
            j.line.what,
            _limit(j),
            *(_number(n, j.line.unit) for n in (j.best, j.median)),
            _verdict(j),
        ]
        for j in report.judged()
    ]
    return table(["figure", "limit", "best", "median", ""], rows)


def summary_table(report: Report) -> str:
    """The lines of the README."""
    rows = [
        [j.line.what, _number(j.best, j.line.unit), _limit(j), _verdict(j)]
        for j in report.judged()
        if j.line.summary
    ]
    return table(["2 x 1 GB unless said", "", "goal", ""], rows)


def machine_text(report: Report) -> str:
    """One sentence on where and how."""
    m = report.machine
    runs = "single runs" if report.repetitions == 1 else f"best of {report.repetitions}"
    small = " A twentieth of the sizes that are named." if report.quick else ""
    return (
        f"{m['cores']} cores of {m['processor']} ({m['instructions']}), {m['system']}, Python "
        f"{m['python']}, OpenSSL {m['openssl']}; cached files, every output synced, {runs}, all "
        f"in one run of `make bench`.{small}\n"
    )


def _cost(report: Report, group: str, label: str, quantity: Quantity) -> float | None:
    try:
        return cost(report.results, group, label, quantity, "best")
    except NotMeasured:
        return None


def contestants_table(report: Report) -> str:
    """Best and median of every contestant of the main group, absolutely."""
    rows = []
    ran = report.results.get(MAIN)
    for label in ran.samples if ran is not None else ():
        wall, user, system = (
            cost(report.results, MAIN, label, q, "best") for q in ("wall", "user", "system")
        )
        median = cost(report.results, MAIN, label, "wall", "median")
        peak = max(s.memory for s in report.results[MAIN].samples[label]) / 2**20
        cells = (wall, median, user, system)
        rows.append([label, *(f"{value:.2f}" for value in cells), f"{peak:.0f}"])
    return table(["2 x 1 GB", "wall s", "median", "user s", "system s", "peak MiB"], rows)


def _series(report: Report, named: Mapping[str, str], first: str) -> str:
    """A table over groups by label."""
    rows = []
    for label, group in named.items():
        wall, user, memory = (
            _cost(report, group, TWO, quantity) for quantity in ("wall", "user", "memory")
        )
        copied = _cost(report, group, COPY, "wall")
        if wall is None or user is None or memory is None or copied is None:
            continue
        size = report.results[group].bytes / 1e9
        figures = (size, wall, wall / size, wall / copied, user / size)
        rows.append([label, *(f"{n:.2f}" for n in figures), f"{memory / 2**20:.0f}"])
    head = [first, "GB", "wall s", "wall s / GB", "x cp + sync", "user s / GB", "peak MiB"]
    return table(head, rows)


def growth_groups() -> dict[str, str]:
    """Group by size in GB."""
    return {f"{size:g} GB": group_of_size(size) for size in GROWTH}


def shard_groups() -> dict[str, str]:
    """Group by number of shards."""
    named = {1: "1 x 2 GB", 2: MAIN, 40: "40 x 50 MB"}
    return {str(n): named.get(n, f"{n} shards") for n in SHARDS}


# ---- the picture ----

_BARS = {
    COPY: "cp + sync of the base",
    TWO: "vbuild apply, 2 threads",
    ONE: "vbuild apply, 1 thread",
    "vbuild, .bin + .bin": "vbuild apply, .bin files, 2 threads",
    OPENSSL: "openssl dgst of the three, alone",
    PEER: "torch load, add, save + openssl",
}


def picture(report: Report) -> str:
    """The plot of the README."""
    unit = _cost(report, MAIN, COPY, "wall") or 1.0
    bars = [
        Bar(name, value / unit, own=label.startswith("vbuild"))
        for label, name in _BARS.items()
        if (value := _cost(report, MAIN, label, "wall")) is not None
    ]
    growth, shards = [
        [(label, group) for label, group in named.items() if group in report.results]
        for named in (growth_groups(), shard_groups())
    ]
    panels = []
    if growth:
        curves = [
            Curve(
                name,
                tuple((_cost(report, group, label, "wall") or 0.0) / unit for _, group in growth),
                own=label == TWO,
            )
            for label, name in ((TWO, "vbuild, 2 threads"), (COPY, "cp + sync"))
        ]
        places = tuple(float(label.split()[0]) for label, _ in growth)
        panels.append(Panel("Time over GB of model", places, tuple(curves), linear=True))
    if shards:
        values = tuple(
            (_cost(report, group, TWO, "wall") or 0.0) / (_cost(report, group, COPY, "wall") or 1.0)
            for _, group in shards
        )
        curve = Curve("vbuild, 2 threads, of cp + sync", values, own=True)
        panels.append(
            Panel("Time over shards of 2 GB", tuple(float(n) for n, _ in shards), (curve,))
        )
    return svg("Wall time for 2 GB + 2 GB; cp + sync is 1", bars, panels)


# ---- documents ----


def blocks(report: Report) -> dict[str, str]:
    """What stands in each block of the documents."""
    return {
        "machine": machine_text(report),
        "summary": f"{machine_text(report)}\n{summary_table(report)}",
        "lines": lines_table(report),
        "contestants": contestants_table(report),
        "growth": _series(report, growth_groups(), "size"),
        "shards": _series(report, shard_groups(), "shards"),
    }


def rewrite(text: str, report: Report) -> str:
    """``text`` with its blocks filled in. KeyError for a block of an unknown name."""
    made = blocks(report)
    return _BLOCK.sub(lambda m: f"{m[1]}{made[m[2]]}{m[3]}", text)
