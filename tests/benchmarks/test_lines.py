"""Figures, limits and verdicts of the benchmark's lines."""

from __future__ import annotations

import pytest

from benchmarks.cases import COPY, OPENSSL, TWO
from benchmarks.lines import LINES, MAIN, judge
from tests.benchmarks.made_up import results, sample


def line(what):
    [found] = [line for line in LINES if line.what.startswith(what)]
    return found


def test_every_line_has_its_contestants():
    assert {judge(each, results()).verdict for each in LINES} <= {"met", "missed", "not judged"}


def test_the_best_runs_decide_and_the_medians_stand_beside():
    found = results()
    found[MAIN].samples[TWO] = [sample(5.0), sample(2.0), sample(3.0)]
    found[MAIN].samples[COPY] = [sample(1.0), sample(2.0), sample(4.0)]
    judged = judge(line("2 threads"), found)
    assert (judged.best, judged.median, judged.verdict) == (2.0, 1.5, "met")


@pytest.mark.parametrize(("user", "verdict"), [(0.70, "met"), (0.71, "missed")])
def test_a_figure_may_be_as_large_as_its_limit(user, verdict):
    found = results()
    found[MAIN].samples[TWO] = [sample(user=user)]
    found[MAIN].samples[OPENSSL] = [sample(user=1.0)]
    assert judge(line("user CPU, of `openssl"), found).verdict == verdict


@pytest.mark.parametrize(("wall", "verdict"), [(5.0, "met"), (4.9, "missed")])
def test_where_more_is_better_the_limit_is_the_least(wall, verdict):
    found = results()
    found[MAIN].samples["torch + openssl"] = [sample(wall)]
    assert judge(line("torch"), found).verdict == verdict


def test_a_line_is_skipped_for_the_reason_of_its_contestant():
    found = results()
    del found[MAIN].samples["vbuild, LoRA"]
    found[MAIN].skipped["vbuild, LoRA"] = "refused"
    judged = judge(line("LoRA"), found)
    assert (judged.best, judged.verdict, judged.reason) == (None, "skipped", "refused")


def test_a_line_of_a_group_that_did_not_run_is_skipped():
    assert {judge(each, {}).reason for each in LINES} == {"not in this run"}


def test_the_worst_peak_of_all_builds_counts_but_not_that_of_gguf():
    found = results()
    found["20 shards"].samples[TWO] = [sample(), sample(memory=70 << 20)]
    found[MAIN].samples["vbuild, GGUF F16"] = [sample(memory=150 << 20)]
    judged = judge(line("peak memory, the highest"), found)
    assert (judged.best, judged.verdict) == (70.0, "missed")


def test_memory_may_grow_by_a_little_with_the_model():
    found = results()
    found["4 GB"].samples[TWO] = [sample(memory=39 << 20)]
    judged = judge(line("peak memory, 4 GB"), found)
    assert (judged.best, judged.verdict) == (9.0, "missed")


def test_a_quick_run_is_not_judged():
    assert {judge(each, results(), quick=True).verdict for each in LINES} == {"not judged"}
