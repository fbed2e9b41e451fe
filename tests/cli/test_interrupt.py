"""SIGINT and SIGTERM in the middle of a build, and the second run."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.commands import ROOT, digests, run_vbuild
from tests.support.models import SLOW, SLOW_SHARDS, write_slow_job
from vbuild.cli import _interruptible

VBUILD = (sys.executable, "-m", "vbuild")
ERROR = """error: interrupted; finished shards are kept

hint: run the same command again to go on
"""


@pytest.fixture
def slow(tmp_path):
    return write_slow_job(tmp_path)


def receipts(job):
    return list(job.root.glob(".out.vbuild/receipts/*.json"))


def start(job, config, *options):
    """A build of ``job`` that has finished at least one shard."""
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(config), **SLOW}
    process = subprocess.Popen(
        [*VBUILD, "apply", job.manifest, "--out", job.out, "--jobs", "1", *options],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not receipts(job):
        time.sleep(0.002)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_case_28_an_interrupted_build_leaves_no_output_and_is_resumed(slow, tmp_path, number):
    process = start(slow, tmp_path / "config")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith(ERROR)
    assert not slow.out.exists()
    kept = len(receipts(slow))
    assert 0 < kept < SLOW_SHARDS

    config = tmp_path / "config"
    again = run_vbuild("apply", slow.manifest, "--out", slow.out, config=config)
    assert again.returncode == 0
    assert f"resumed   {kept} shard" in again.stdout
    clean = run_vbuild("apply", slow.manifest, "--out", tmp_path / "clean", config=config)
    assert clean.returncode == 0
    assert digests(slow.out, ()) == digests(tmp_path / "clean", ())
    assert run_vbuild("verify", slow.out, config=config).returncode == 0


def test_an_interruption_is_json_too(slow, tmp_path):
    process = start(slow, tmp_path / "config", "--json")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert '"code": "interrupted"' in out


def test_case_28_a_killed_build_leaves_no_output_and_is_resumed(slow, tmp_path):
    process = start(slow, tmp_path / "config")
    process.kill()
    process.communicate(timeout=60)
    assert not slow.out.exists()
    again = run_vbuild("apply", slow.manifest, "--out", slow.out, config=tmp_path / "config")
    assert again.returncode == 0
    assert "resumed   " in again.stdout


def test_the_second_signal_ends_the_process_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with _interruptible():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_the_parent_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _interruptible():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
