"""Results as markdown tables, for the terminal and for the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.cases import COPY, GROWTH, ONE, SHARDS, TWO
from benchmarks.lines import MAIN, Judged, NotMeasured, cost, group_of_size
from benchmarks.measure import Quantity
from benchmarks.results import Report

__all__ = [
    "bound_text",
    "contestants_table",
    "growth_groups",
    "kernels_table",
    "lines_table",
    "machine_text",
    "measured",
    "series_table",
    "shard_groups",
    "summary_table",
    "table",
]


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
    words = {"missed": "**missed**", "not judged": ""}
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
    others = max((ran.others for ran in report.results.values()), default=0.0)
    small = " A twentieth of the sizes that are named." if report.quick else ""
    return (
        f"{m['cores']} cores of {m['processor']} ({m['instructions']}), {m['system']}, Python "
        f"{m['python']}, OpenSSL {m['openssl']}; cached files, every output synced, {runs}, all "
        f"in one run of `make bench`, beside which others used up to {others:.0%} of the "
        f"processors.{small}\n"
    )


def measured(report: Report, group: str, label: str, quantity: Quantity) -> float | None:
    """The best run's figure, or None if there is none."""
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


def series_table(report: Report, named: Mapping[str, str], first: str) -> str:
    """A table over groups by label."""
    rows = []
    for label, group in named.items():
        wall, user, memory = (
            measured(report, group, TWO, quantity) for quantity in ("wall", "user", "memory")
        )
        copied = measured(report, group, COPY, "wall")
        if wall is None or user is None or memory is None or copied is None:
            continue
        size = report.results[group].bytes / 1e9
        figures = (size, wall, wall / size, wall / copied, user / size)
        rows.append([label, *(f"{n:.2f}" for n in figures), f"{memory / 2**20:.0f}"])
    head = [first, "GB", "wall s", "wall s / GB", "x cp + sync", "user s / GB", "peak MiB"]
    return table(head, rows)


def kernels_table(report: Report) -> str:
    """Rates on one core."""
    one = report.kernels["hashlib"]
    names = {"hashlib": "SHA-256, hashlib (OpenSSL)"}
    rows = [
        [names.get(name, name), f"{rate / 1e9:.1f}", f"{rate / one:.2f}"]
        for name, rate in report.kernels.items()
    ]
    return table(["one core, data in cache", "GB/s", "x OpenSSL's SHA-256"], rows)


def bound_text(report: Report) -> str:
    """What part of a build's CPU time is hashing at the rate of three streams."""
    user = measured(report, MAIN, ONE, "user")
    if user is None:
        return ""
    hashed = 3 * report.results[MAIN].bytes
    needed = hashed / report.kernels["sha256 x 3"]
    peer = report.kernels["hashlib"] / report.kernels["sha256 x 3"]
    return (
        f"The 2 x 1 GB build hashes {hashed / 1e9:.1f} GB. Three streams at a time take "
        f"{needed:.2f} s of one core for that, {peer:.2f} of what one stream takes, and "
        f"{needed / user:.0%} of the {user:.2f} s of user CPU that the whole command takes on one "
        "thread.\n"
    )


def growth_groups() -> dict[str, str]:
    """Group by size in GB."""
    return {f"{size:g} GB": group_of_size(size) for size in GROWTH}


def shard_groups() -> dict[str, str]:
    """Group by number of shards."""
    named = {1: "1 x 2 GB", 2: MAIN, 40: "40 x 50 MB"}
    return {str(n): named.get(n, f"{n} shards") for n in SHARDS}
