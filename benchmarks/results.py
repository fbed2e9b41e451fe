"""The results of a run, and their JSON: every sample, and the lines computed from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from benchmarks.lines import LINES, Judged, judge
from benchmarks.measure import Sample
from benchmarks.runner import Ran

__all__ = ["Report", "dumps", "loads"]

SCHEMA = "vbuild.benchmark/1"


@dataclass(frozen=True, slots=True)
class Report:
    """A run: where, how often, and what it gave by group; ``kernels`` are bytes per second.

    With ``quick`` the data were small, and no line is judged.
    """

    machine: Mapping[str, str]
    repetitions: int
    quick: bool
    kernels: Mapping[str, float]
    results: Mapping[str, Ran]

    def judged(self) -> list[Judged]:
        """Every line."""
        return [judge(line, self.results, quick=self.quick) for line in LINES]


def dumps(report: Report) -> str:
    """The JSON document."""
    groups = {
        name: {
            "bytes": ran.bytes,
            "others": round(ran.others, 3),
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
        "kernels": dict(report.kernels),
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
            group["others"],
            {label: [Sample(**s) for s in runs] for label, runs in group["samples"].items()},
            group["skipped"],
        )
        for name, group in document["groups"].items()
    }
    return Report(
        document["machine"],
        document["repetitions"],
        document["quick"],
        document["kernels"],
        results,
    )
