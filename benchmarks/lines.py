"""The report's lines: a figure, the limit that it has to keep, and whether it does.

- A figure is a ratio of two contestants of one group, or a cost of the product alone (peak memory,
  seconds of a start); its contestants' best runs count, and their medians stand beside it.
- A line whose contestant was skipped is skipped for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.cases import COPY, GROWTH, ONE, OPENSSL, PEER, TWO, WEIGHTS
from benchmarks.measure import Quantity, Sample, Statistic, summarize
from benchmarks.runner import Ran

__all__ = ["LINES", "Judged", "Line", "NotMeasured", "Verdict", "cost", "group_of_size", "judge"]

MAIN, FILE, MANY, EIGHT, START = "2 x 1 GB", "1 x 2 GB", "40 x 50 MB", "8 x 256 MB", "start"
MIB = float(1 << 20)

Results = Mapping[str, Ran]
Figure = Callable[[Results, Statistic], float]
Verdict = Literal["met", "missed", "skipped", "not judged"]


class NotMeasured(Exception):
    """A contestant has no samples; the message says why."""


def samples_of(results: Results, group: str, contestant: str) -> Sequence[Sample]:
    """The samples; NotMeasured if there are none."""
    ran = results.get(group)
    if ran is None:
        raise NotMeasured("not in this run")
    if contestant not in ran.samples:
        raise NotMeasured(ran.skipped.get(contestant, "not in this run"))
    return ran.samples[contestant]


def cost(
    results: Results, group: str, contestant: str, quantity: Quantity, statistic: Statistic
) -> float:
    """One quantity of one contestant."""
    return summarize(samples_of(results, group, contestant), quantity, statistic)


def ratio(group: str, one: str, other: str, quantity: Quantity = "wall") -> Figure:
    """What ``one`` costs in terms of ``other``."""

    def figure(results: Results, statistic: Statistic) -> float:
        own = cost(results, group, one, quantity, statistic)
        return own / cost(results, group, other, quantity, statistic)

    return figure


def user_seconds(group: str, contestant: str) -> Figure:
    """User CPU of a command."""
    return lambda results, statistic: cost(results, group, contestant, "user", statistic)


def peak(group: str, contestant: str) -> Figure:
    """Peak memory of a contestant in MiB: the worst run, because a peak has no luck to remove."""

    def figure(results: Results, statistic: Statistic) -> float:
        return max(s.memory for s in samples_of(results, group, contestant)) / MIB

    return figure


def highest_peak(results: Results, statistic: Statistic) -> float:
    """Peak memory in MiB of the build that needs most, whatever its output but GGUF."""
    peaks = [
        sample.memory
        for ran in results.values()
        for label, samples in ran.samples.items()
        if label.startswith("vbuild, ") and "GGUF" not in label
        for sample in samples
    ]
    if not peaks:
        raise NotMeasured("not in this run")
    return max(peaks) / MIB


def group_of_size(size: float) -> str:
    """The group with 2 shards of so many GB together."""
    return MAIN if size == 2 else f"{size} GB"


def peak_growth(results: Results, statistic: Statistic) -> float:
    """How far the peaks of the smallest and the largest model are apart, in MiB."""
    least, most = (
        peak(group_of_size(size), TWO)(results, statistic) for size in (GROWTH[0], GROWTH[-1])
    )
    return abs(most - least)


@dataclass(frozen=True, slots=True)
class Line:
    """A figure in words, and its limit: the most that it may be, or the least if ``at_least``.

    ``summary``: it stands in the README, too.
    """

    what: str
    figure: Figure
    limit: float | None
    unit: str = "x"
    at_least: bool = False
    summary: bool = False


LINES = (
    Line(
        "user CPU, of `openssl dgst` over base, delta and output",
        ratio(MAIN, TWO, OPENSSL, "user"),
        0.70,
        summary=True,
    ),
    Line("2 threads, of `cp` + sync of the base", ratio(MAIN, TWO, COPY), 2.2, summary=True),
    Line("1 thread, of `cp` + sync", ratio(MAIN, ONE, COPY), 3.4, summary=True),
    Line("40 shards of 50 MB, of `cp` + sync", ratio(MANY, TWO, COPY), 2.5),
    Line("a single 2 GB file, 2 threads, of `cp` + sync", ratio(FILE, TWO, COPY), 2.9),
    Line("a single 2 GB file, 2 threads, of its own 1 thread", ratio(FILE, TWO, ONE), 0.75),
    Line(
        "torch load, add, save + openssl over the three files, of 2 threads",
        ratio(MAIN, PEER, TWO),
        5.0,
        at_least=True,
        summary=True,
    ),
    Line(
        "`.bin` + `.bin` cut differently, of the aligned build",
        ratio(MAIN, "vbuild, .bin + .bin", TWO),
        1.25,
        summary=True,
    ),
    Line(
        "safetensors + `.bin`, of the aligned build",
        ratio(MAIN, "vbuild, safetensors + .bin", TWO),
        1.25,
    ),
    Line(
        "Meta's two files as base, of the aligned build",
        ratio(MAIN, "vbuild, Meta's files", TWO),
        1.35,
    ),
    Line("weights digest, of the same build without", ratio(MAIN, WEIGHTS, TWO), 1.4),
    Line("weights digest, 40 shards, of the same build without", ratio(MANY, WEIGHTS, TWO), 1.15),
    Line(
        "`vbuild verify`, 2 x 1 GB, of `openssl dgst`",
        ratio(MAIN, "vbuild verify", "openssl dgst, output"),
        0.55,
        summary=True,
    ),
    Line(
        "`vbuild verify`, 8 x 256 MB, of `openssl dgst`",
        ratio(EIGHT, "vbuild verify", OPENSSL),
        0.35,
        summary=True,
    ),
    Line("peak memory, the highest of all builds", highest_peak, 64, "MiB", summary=True),
    Line("peak memory, 4 GB against 0.2 GB", peak_growth, 8, "MiB"),
    Line("user CPU of `vbuild --help`", user_seconds(START, "vbuild --help"), 0.12, "s"),
    Line("user CPU of `vbuild verify`, tiny model", user_seconds(START, "vbuild verify"), 0.2, "s"),
    Line("LoRA of rank 64, of the dense delta", ratio(MAIN, "vbuild, LoRA", TWO), 2.0),
    Line("GGUF F16, of the safetensors build", ratio(MAIN, "vbuild, GGUF F16", TWO), 1.3),
    Line("GGUF Q8_0, of the safetensors build", ratio(MAIN, "vbuild, GGUF Q8_0", TWO), 2.0),
    Line("peak memory, GGUF F16", peak(MAIN, "vbuild, GGUF F16"), 200, "MiB"),
    Line("peak memory, GGUF Q8_0", peak(MAIN, "vbuild, GGUF Q8_0"), 200, "MiB"),
    Line("`vbuild diff`, of `cat` of both", ratio(MAIN, "vbuild diff", "cat"), None),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A line and what came out: the figure from the best runs and from the medians."""

    line: Line
    best: float | None
    median: float | None
    verdict: Verdict
    reason: str | None = None


def judge(line: Line, results: Results, *, quick: bool = False) -> Judged:
    """The figure of ``line`` against its limit; the best runs decide.

    Not judged are lines without a limit, and those of a ``quick`` run.
    """
    try:
        best, median = line.figure(results, "best"), line.figure(results, "median")
    except NotMeasured as e:
        return Judged(line, None, None, "skipped", str(e))
    if line.limit is None or quick:
        return Judged(line, best, median, "not judged")
    kept = best >= line.limit if line.at_least else best <= line.limit
    return Judged(line, best, median, "met" if kept else "missed")
