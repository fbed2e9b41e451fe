"""``vbuild diff``: exit statuses, and where the reports go."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import ROOT
from tests.support.differing import write_pair
from tests.support.models import SLOW, write_slow_job


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pair(tmp_path)


def test_what_is_the_same_is_a_yes_and_what_differs_a_no(pair, vb):
    same = vb("diff", "base", "base/model.safetensors")
    assert (same.status, same.out.splitlines()[-1][:6]) == (0, "SAME: ")
    differs = vb("diff", "base", "tuned")
    assert (differs.status, differs.out.splitlines()[-1][:9]) == (1, "DIFFERS: ")


def test_quiet_speaks_only_of_differences(pair, vb):
    assert vb("diff", "base", "base", "--quiet").out == ""
    assert vb("diff", "base", "tuned", "--quiet").out != ""


def test_a_malformed_or_missing_side_is_no_answer(pair, vb, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 4)
    assert vb("diff", "base", "bad.safetensors").status == 2
    assert vb("diff", "base", "nothing").status == 3


def test_all_reports_are_written_in_one_run(pair, vb, tmp_path):
    ran = vb("diff", "base", "tuned", "--json=d.json", "--markdown=d.md", "--html", "d.html")
    assert ran.status == 1
    assert "DIFFERS" in ran.out
    assert json.loads((tmp_path / "d.json").read_text())["exit_status"] == 1
    assert (tmp_path / "d.md").read_text().startswith("**The weights differ:**")
    assert (tmp_path / "d.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("options", "begin"), [(["--markdown"], "**"), (["--html", "-"], "<!"), (["--json"], "{")]
)
def test_a_report_on_standard_output_stands_alone(pair, vb, options, begin):
    ran = vb("diff", "base", "tuned", *options)
    assert ran.out.startswith(begin)
    assert "DIFFERS" not in ran.out


def test_two_reports_on_standard_output_are_refused(pair, vb):
    ran = vb("diff", "base", "tuned", "--markdown", "--html", "-")
    assert ran.status == 2
    assert "--markdown and --html would both go to standard output" in ran.err


def test_a_report_that_cannot_be_written_is_said_before_the_work(pair, vb):
    ran = vb("diff", "base", "nothing", "--html", "no/such/place.html")
    assert ran.status == 2
    assert ran.err.startswith("error: no/such/place.html: the report cannot be written there")


@pytest.mark.parametrize("option", ["--json", "--markdown", "--html"])
def test_a_report_never_replaces_weights(pair, vb, option):
    weights = next(Path("base").glob("*.safetensors"))
    before = weights.read_bytes()
    ran = vb("diff", option, str(weights), "base", "tuned")
    assert ran.status == 2
    assert "would replace weights" in ran.err
    assert weights.read_bytes() == before


def test_two_reports_have_two_files(pair, vb):
    ran = vb("diff", "base", "tuned", "--html=x", "--json=./x")
    assert ran.status == 2
    assert "--json and --html would both write x" in ran.err
    assert json.loads(Path("x").read_text())["code"] == "usage"


def test_the_weights_digests_are_those_of_inspect(pair, vb):
    found = json.loads(vb("diff", "base", "tuned", "--weights-digest", "--json").out)
    for side, path in (("a", "base"), ("b", "tuned")):
        assert found[side]["weights"] == vb("inspect", path, "--weights-digest").out.strip()


def test_an_interruption_ends_it(tmp_path):
    job = write_slow_job(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path), **SLOW}
    command = [sys.executable, "-c", INTERRUPTED, str(job.root / "base"), str(job.root / "delta")]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (128 + signal.SIGINT, "")
    assert ran.stderr.endswith("error: interrupted\n")


INTERRUPTED = """
import os, signal, sys
from vbuild.build import pool
from vbuild.cli import main

def at_once(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGINT)
    return wait(*args, **kwargs)

wait, pool.wait = pool.wait, at_once
sys.exit(main(["diff", *sys.argv[1:], "--quiet"]))
"""
