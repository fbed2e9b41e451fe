"""Publishing: what is under the output's name is whole, and nothing of anybody's is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.builds import Job, random_tensors, read_safetensors, sha256
from vbuild.build import Sealed, build, prepare
from vbuild.build.staging import Staging, open_staging
from vbuild.errors import Interrupted, InvalidInput, Unavailable, VbuildError
from vbuild.manifest import load_manifest

ROOT = Path(__file__).parents[2]

CHILD = """
import os, signal, sys
from pathlib import Path
from tests.build.test_publication import seal
from vbuild.build import build, prepare, staging
from vbuild.manifest import load_manifest

moment = int(sys.argv[3])
renames = 0
rename = Path.rename

def rename_and_die(self, target):
    global renames
    if renames == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    renames += 1
    return rename(self, target)

publish = staging.Staging.publish

def publish_and_die(self, *args, **kwargs):
    Path.rename = rename_and_die
    publish(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

staging.Staging.publish = publish_and_die
prepared = prepare(load_manifest(Path(sys.argv[1])))
build(prepared, Path(sys.argv[2]), seal=lambda files: seal(files, b"new"), force=True)
"""

RENAMES = 6
"""In a forced publication of two shards: the shards, two things away, two in their places."""


def seal(files: dict[str, str], mark: bytes) -> Sealed:
    """Something like a signature and something like sums, both with ``mark``."""
    sums = "".join(f"{digest}  {name}\n" for name, digest in files.items()).encode()
    return Sealed({"model.sig": mark}, {"SHA256SUMS": sums, "mark": mark})


def make(job: Job, mark: bytes = b"new", **options):
    prepared = prepare(load_manifest(job.manifest))
    options.setdefault("seal", lambda files: seal(files, mark))
    return build(prepared, job.out, **options)


def killed_at(job: Job, moment: int) -> None:
    command = [sys.executable, "-c", CHILD, job.manifest, job.out, str(moment)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as running:
        assert running.wait(60) == -9


def assert_whole(job: Job) -> None:
    got = {}
    for path in job.out.glob("*.safetensors"):
        got |= read_safetensors(path)
    assert {n: a.tobytes() for n, a in got.items()} == {
        n: a.tobytes() for n, a in job.expected().items()
    }


def left(job: Job) -> list[str]:
    return sorted(p.name for p in job.root.iterdir())


CLEAN = ["base", "delta", "manifest.toml", "out", "out.attest"]


@pytest.fixture
def job(tmp_path):
    base = {f"layer.{i}": np.full((64, 64), i + 1, np.float16) for i in range(2)}
    return Job(tmp_path, base=base, delta=dict(base), output='max_shard_size = "8192"').write()


def published(job: Job) -> tuple[bytes, bytes]:
    """The marks in the model and beside it."""
    attest = job.out.with_name("out.attest")
    return (job.out / "model.sig").read_bytes(), (attest / "mark").read_bytes()


@pytest.mark.parametrize("moment", range(RENAMES + 1))
def test_case_28_a_replacement_that_is_killed_is_finished_by_the_next_run(job, moment):
    make(job, b"old")
    killed_at(job, moment)
    if job.out.exists():
        assert_whole(job)
    built = make(job, force=True)
    assert_whole(job)
    assert published(job) == (b"new", b"new")
    assert left(job) == CLEAN
    if moment < RENAMES:
        assert len(built.resumed) == 2, "the shards of a publication are kept"


@pytest.mark.parametrize("moment", range(RENAMES))
def test_case_28_the_old_output_survives_a_killed_replacement_and_a_failed_run(job, moment):
    make(job, b"old")
    killed_at(job, moment)

    def refuse(files):
        raise InvalidInput("refused", "no")

    with pytest.raises(InvalidInput):
        make(job, seal=refuse, force=True)
    assert published(job) == (b"old", b"old")
    assert_whole(job)
    assert left(job) == CLEAN


@pytest.mark.parametrize("moment", range(RENAMES))
@pytest.mark.parametrize("fault", [OSError(5, "EIO"), KeyboardInterrupt()])
def test_a_replacement_that_fails_puts_the_old_output_back(job, moment, fault, monkeypatch):
    make(job, b"old")
    renames = 0
    rename = Path.rename

    def fail_once(self, target):
        nonlocal renames
        renames += 1
        if renames == moment + 1:
            raise fault
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises((Unavailable, Interrupted)):
        make(job, force=True)
    if isinstance(fault, OSError):
        assert published(job) == (b"old", b"old")
        assert left(job) == CLEAN
    monkeypatch.undo()
    make(job, force=True)
    assert published(job) == (b"new", b"new")
    assert left(job) == CLEAN


def test_what_cannot_be_put_back_is_kept_for_the_next_run(job, monkeypatch):
    make(job, b"old")
    rename = Path.rename

    def never_to_the_output(self, target):
        if target == job.out:
            raise OSError(5, "EIO")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", never_to_the_output)
    with pytest.raises(Unavailable):
        make(job, force=True)
    monkeypatch.undo()
    assert not job.out.exists()
    with pytest.raises(InvalidInput):
        make(job)
    assert published(job) == (b"old", b"old")
    assert left(job) == CLEAN


@pytest.mark.parametrize("force", [False, True])
def test_what_somebody_puts_there_during_the_build_is_not_touched(job, force):
    def seal(files):
        job.out.mkdir()
        (job.out / "precious").write_text("data")
        return Sealed()

    with pytest.raises(InvalidInput) as caught:
        make(job, seal=seal, force=force)
    assert caught.value.code == ("output-not-ours" if force else "output-exists")
    assert (job.out / "precious").read_text() == "data"
    assert left(job) == ["base", "delta", "manifest.toml", "out"]


def test_without_force_publishing_never_moves_a_directory_away(job, monkeypatch):
    """Even one that appears after the last look."""
    publish = Staging.publish

    def late(self, *args, **kwargs):
        job.out.mkdir()
        (job.out / "precious").write_text("data")
        publish(self, *args, **kwargs)

    monkeypatch.setattr(Staging, "publish", late)
    with pytest.raises(Unavailable):
        make(job)
    assert (job.out / "precious").read_text() == "data"


def test_an_old_output_that_cannot_be_deleted_is_no_failure(job, monkeypatch):
    make(job, b"old")
    real = os.rmdir

    def refuse(path, **options):
        raise PermissionError(13, "no", str(path))

    remove = Staging.remove

    def remove_without_permission(self):
        with monkeypatch.context() as patch:
            patch.setattr(os, "rmdir", refuse)
            remove(self)

    monkeypatch.setattr(Staging, "remove", remove_without_permission)
    make(job, force=True)
    assert published(job) == (b"new", b"new")
    monkeypatch.undo()
    assert os.rmdir is real
    make(job, force=True)
    assert left(job) == CLEAN


def test_parts_that_another_plan_has_left_are_removed_before_the_room_is_counted(job):
    with open_staging(job.out) as staging:
        stale = staging.part("model-00007-of-00009.safetensors")
        stale.write_bytes(b"x" * 1000)
        stale.with_name("odd").mkdir()

    def seal(files):
        assert sorted(p.name for p in stale.parent.iterdir()) == [
            "model-00001-of-00002.safetensors.part",
            "model-00002-of-00002.safetensors.part",
        ]
        return Sealed()

    make(job, seal=seal)
    assert_whole(job)


@pytest.mark.parametrize("change", ["version", "tensors", "table"])
def test_a_receipt_of_another_build_is_none(job, change):
    job.output = f'max_shard_size = "8192"\nweights = "{"0" * 64}"'
    job.pin()
    with pytest.raises(VbuildError) as caught:
        make(job)
    job.output = f'max_shard_size = "8192"\nweights = "{caught.value.got}"'
    job.pin()

    def interrupt(files):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        make(job, seal=interrupt)
    receipts = sorted((job.root / ".out.vbuild/receipts").iterdir())
    assert len(receipts) == 2
    first = receipts[0].read_text()
    replaced = {
        "version": first.replace('"version": "', '"version": "x'),
        "tensors": first.replace('"tensors": ["', '"tensors": ["' + "0" * 64 + '", "'),
        "table": first.replace('"table": "', '"table": "x'),
    }[change]
    assert replaced != first
    receipts[0].write_text(replaced)
    assert make(job).resumed == ("model-00002-of-00002.safetensors",)
    assert_whole(job)


@pytest.mark.parametrize("moment", range(5))
@pytest.mark.parametrize("beside", [True, False])
def test_case_28_a_killed_replacement_by_files_of_other_names_is_finished(job, moment, beside):
    make(job, b"old")
    if not beside:
        shutil.rmtree(job.out.with_name("out.attest"))
    job.output = ""  # one file instead of two
    job.pin()
    killed_at(job, moment)
    make(job, force=True)
    assert published(job) == (b"new", b"new")
    assert left(job) == CLEAN
    assert sorted(p.name for p in job.out.iterdir()) == ["model.safetensors", "model.sig"]


@pytest.mark.parametrize("name", ["notes.txt", "adapter/weights.bin", ".git/config"])
def test_force_does_not_delete_what_somebody_has_put_into_the_output(job, name):
    make(job)
    path = job.out / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("data")
    with pytest.raises(InvalidInput) as caught:
        make(job, force=True)
    assert caught.value.code == "output-not-ours" and name in caught.value.message
    assert path.read_text() == "data"
    path.unlink()
    make(job, force=True)


def test_force_does_not_delete_the_manifest(job):
    make(job)
    shutil.rmtree(job.out.with_name("out.attest"))
    text = job.manifest.read_text().replace("file:", "file:../")
    job.manifest.unlink()
    (job.out / "manifest.toml").write_text(text)
    prepared = prepare(load_manifest(job.out / "manifest.toml"))
    with pytest.raises(InvalidInput) as caught:
        build(prepared, job.out, seal=lambda files: Sealed(), force=True)
    assert caught.value.code == "output-not-ours" and "manifest.toml" in caught.value.message
    assert (job.out / "manifest.toml").read_text() == text


def test_the_root_directory_is_no_output(job):
    prepared = prepare(load_manifest(job.manifest))
    with pytest.raises(InvalidInput) as caught:
        build(prepared, Path("/"), seal=lambda files: Sealed(), force=True)
    assert caught.value.code == "output-exists"


@pytest.mark.parametrize("place", ["file/out", "file/deep/out"])
def test_an_output_below_a_file_is_refused_by_the_files_name(job, place):
    (job.root / "file").write_text("data")
    job.place = place
    with pytest.raises(InvalidInput) as caught:
        make(job)
    assert caught.value.code == "not-a-directory" and "/file" in str(caught.value.where)


def test_case_23_force_leaves_other_links_to_the_old_files_alone(tmp_path):
    job = Job(tmp_path).write()
    make(job, b"old")
    other = tmp_path / "other"
    os.link(job.out / "model.safetensors", other)
    before = sha256(other)
    job.delta = random_tensors(9, 31, 0.02)
    job.write()
    make(job, force=True)
    assert sha256(other) == before != sha256(job.out / "model.safetensors")
