"""Case 28 of bad-inputs.md: whatever stops a build, what has the output's name is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.builds import Job, read_safetensors, sha256
from vbuild.build import Sealed, build, prepare
from vbuild.build.staging import open_staging
from vbuild.errors import InvalidInput
from vbuild.manifest import load_manifest

ROOT = Path(__file__).parents[2]

CHILD = """
import os, signal, sys
from pathlib import Path
from vbuild.build import Sealed, build, prepare, staging
from vbuild.manifest import load_manifest

stop_after, how = int(sys.argv[3]), sys.argv[4]
kept = []
keep = staging.Staging.keep

def keep_and_stop(self, name, receipt):
    keep(self, name, receipt)
    kept.append(name)
    if len(kept) == stop_after:
        os.kill(os.getpid(), getattr(signal, how))

staging.Staging.keep = keep_and_stop
prepared = prepare(load_manifest(Path(sys.argv[1])))
build(prepared, Path(sys.argv[2]), seal=lambda files: Sealed(), jobs=1)
"""


@pytest.fixture
def job(tmp_path):
    base = {f"layer.{i}": np.full((64, 64), i + 1, np.float16) for i in range(5)}
    delta = {name: array / 2 for name, array in base.items()}
    return Job(tmp_path, base=base, delta=delta, output='max_shard_size = "8192"').write()


def start(job: Job, stop_after: int, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, job.manifest, job.out, str(stop_after), how],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )


def stopped_build(job: Job, stop_after: int, how: str = "SIGKILL") -> None:
    """A build that ends itself after so many kept shards."""
    with start(job, stop_after, how) as running:
        assert running.wait(60) != 0
    assert not job.out.exists() and not job.out.with_name("out.attest").exists()


def finish(job: Job):
    prepared = prepare(load_manifest(job.manifest))
    return build(prepared, job.out, seal=lambda files: Sealed())


def assert_whole(job: Job) -> None:
    got = {}
    for path in job.out.glob("*.safetensors"):
        got |= read_safetensors(path)
    assert {n: a.tobytes() for n, a in got.items()} == {
        n: a.tobytes() for n, a in job.expected().items()
    }
    assert sorted(p.name for p in job.root.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("stop_after", [1, 3])
def test_case_28_the_next_run_goes_on_where_the_last_one_was_stopped(job, stop_after, how):
    stopped_build(job, stop_after, how)
    assert len(finish(job).resumed) == stop_after
    assert_whole(job)


def test_case_28_a_kept_shard_that_is_damaged_is_made_again(job):
    stopped_build(job, 3)
    part = sorted((job.root / ".out.vbuild/weights").iterdir())[0]
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    assert len(finish(job).resumed) == 2
    assert_whole(job)


def test_case_28_shards_of_another_manifest_are_not_kept(job):
    stopped_build(job, 3)
    with job.manifest.open("a") as f:
        f.write("# a comment\n")
    assert finish(job).resumed == ()
    assert_whole(job)


@pytest.mark.parametrize("junk", [b"", b"{", b"[1]", b'{"manifest": 1}', b"\xff"])
def test_a_receipt_that_is_junk_is_no_receipt(job, junk):
    stopped_build(job, 2)
    for receipt in (job.root / ".out.vbuild/receipts").iterdir():
        receipt.write_bytes(junk)
    assert finish(job).resumed == ()
    assert_whole(job)


def test_an_input_that_only_kept_shards_have_hashed_is_hashed_again_if_others_read_it(job):
    """One base file feeds all shards; the shard that walked it is kept, the rest still need it."""
    stopped_build(job, 1)
    path = job.root / "base/part-1.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the last tensor, which no kept shard has read
    path.write_bytes(data)
    with pytest.raises(Exception, match="not the one that the manifest pins"):
        finish(job)
    assert not job.out.exists()


def test_case_28_a_kill_at_any_moment_never_leaves_something_that_looks_complete(tmp_path):
    base = {f"layer.{i}": np.full((512, 1024), i + 1, np.float16) for i in range(12)}
    job = Job(tmp_path, base=base, delta=dict(base), output='max_shard_size = "3MB"').write()
    moments = random.Random(28)
    for _ in range(6):
        with start(job, 0, "SIGKILL") as running:
            time.sleep(moments.uniform(0.05, 0.5))
            running.send_signal(signal.SIGKILL)
        if job.out.exists():
            break
    if not job.out.exists():
        finish(job)
    got = {}
    for path in job.out.glob("*.safetensors"):
        got |= read_safetensors(path)
    assert {n: a.tobytes() for n, a in got.items()} == {
        n: a.tobytes() for n, a in job.expected().items()
    }


def test_two_builds_of_one_output_do_not_meet(job):
    with open_staging(job.out), pytest.raises(InvalidInput) as caught:
        finish(job)
    assert caught.value.code == "build-running"
    finish(job)
    assert_whole(job)


def test_a_staging_directory_that_is_a_link_is_refused(job, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".out.vbuild").symlink_to("elsewhere")
    with pytest.raises(InvalidInput) as caught:
        finish(job)
    assert caught.value.code == "staging-not-ours"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_staging_directory_is_private(job):
    stopped_build(job, 1)
    staging = job.root / ".out.vbuild"
    assert staging.stat().st_mode & 0o777 == 0o700
    assert all(os.access(p, os.R_OK) for p in staging.iterdir())


def test_an_orphaned_attest_directory_is_replaced(job):
    orphan = job.out.with_name("out.attest")
    orphan.mkdir()
    (orphan / "SHA256SUMS").write_text("old")
    prepared = prepare(load_manifest(job.manifest))
    built = build(prepared, job.out, seal=lambda files: Sealed({}, {"SHA256SUMS": b"new"}), jobs=1)
    assert (orphan / "SHA256SUMS").read_text() == "new"
    assert {n: sha256(job.out / n) for n in built.files} == dict(built.files)
