"""Running a group of contestants over a tiny model."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from benchmarks.cases import COPY, TWO, Group, Job, Model, groups, quick
from benchmarks.commands import Contestant, Place, apply, copy, vbuild
from benchmarks.measure import Failed, busy, measure
from benchmarks.runner import run_group

TINY = Model(1e6, ("base=safetensors:2", "delta=safetensors:2"), width=128, vocabulary=400)


@pytest.fixture
def place(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Place(tmp_path / "data", (sys.executable, "-m", "vbuild"))


def group(contestants, **jobs):
    return Group(TINY, contestants, {"aligned": Job(), **jobs})


def test_contestants_are_measured_and_the_data_are_gone(place):
    contestants = {
        COPY: Contestant(copy("base"), writes=True),
        TWO: Contestant(apply(), writes=True, same=True),
        "later": Contestant(apply("later"), writes=True, optional=True),
        "needs": Contestant(vbuild("--help"), needs="no_such_package"),
    }
    later = Job(delta_keys='kind = "no such kind"\n')
    ran = run_group(group(contestants, later=later), place, 2)
    assert {label: len(samples) for label, samples in ran.samples.items()} == {COPY: 2, TWO: 2}
    assert set(ran.skipped) == {"later", "needs"}
    assert "no such kind" in ran.skipped["later"]
    assert ran.skipped["needs"] == "no_such_package is not installed"
    assert ran.samples[TWO][0].user > 0
    assert not place.data.exists()


def test_another_model_than_the_references_ends_the_run(place):
    with pytest.raises(SystemExit, match="not the reference"):
        run_group(group({COPY: Contestant(copy("base"), writes=True, same=True)}), place, 1)
    assert not place.data.exists()


def test_a_contestant_that_fails_ends_the_run(place):
    with pytest.raises(SystemExit, match="no such command"):
        wrong = {"wrong": Contestant(vbuild("frobnicate"))}
        run_group(Group(TINY, wrong, {}, reference=False), place, 1)


def test_a_failure_says_what_was_printed(tmp_path):
    with pytest.raises(Failed, match="ended with 3:\nhello"):
        measure(["sh", "-c", "echo hello; exit 3"], tmp_path / "log", os.environ)


def test_a_process_is_charged_for_what_it_does(tmp_path):
    spin = [sys.executable, "-c", "x = bytes(50 << 20); sum(range(10**6))"]
    sample = measure(spin, tmp_path / "log", os.environ)
    assert sample.user > 0
    assert sample.memory > 50 << 20
    assert sample.wall >= sample.user / 4


def test_the_busy_part_of_the_machine_is_a_part():
    assert 0 <= busy(0.05) <= 1


def test_a_quick_group_has_the_same_contestants():
    for name, each in groups().items():
        small = quick(each)
        assert small.contestants == each.contestants, name
        assert small.model.size <= each.model.size
