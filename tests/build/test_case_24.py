"""Case 24 of bad-inputs.md: where a file is read twice, the bytes used are the bytes hashed.

A file is changed in place between the two readings, its size and times are put back, and the guard
of the file's identity is blinded: what is left are the tags of what was hashed and what was used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

from tests.support.builds import Job, random_tensors, read_safetensors
from tests.support.torch_files import PickleWriter, write_torch_zip, zip_bytes
from tests.support.meta_files import hugging_face, make_meta, write_meta
from vbuild import _core
from vbuild.build import Prepared, Sealed, build, pool, prepare, staging
from vbuild.build import run as run_room
from vbuild.build.run import Task
from vbuild.errors import Interrupted, Mismatch
from vbuild.manifest import load_manifest
from vbuild.plan.order import Range
from vbuild.table import Mode, RegionKind


class Blind:
    """In the place of Identity: every file is what it was."""

    @staticmethod
    def of(fd: int) -> object:
        return ANY


@pytest.fixture(autouse=True)
def blinded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "Identity", Blind)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Four shards from one base and one delta, each of which one shard walks for all."""
    return Job(tmp_path, output='max_shard_size = "1500"').write()


@contextmanager
def changed(path: Path, offset: int) -> Iterator[None]:
    """One bit of the file is another one for a while; size and times are as before throughout."""
    before = path.stat()

    def flip() -> None:
        fd = os.open(path, os.O_RDWR)
        try:
            (byte,) = os.pread(fd, 1, offset)
            os.pwrite(fd, bytes([byte ^ 0x80]), offset)
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(fd)

    flip()
    try:
        yield
    finally:
        flip()
        after = path.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def prepared_of(job: Job) -> Prepared:
    return prepare(load_manifest(job.manifest))


def made(job: Job, prepared: Prepared, jobs: int = 1) -> dict[str, np.ndarray]:
    build(prepared, job.out, seal=lambda files: Sealed(), jobs=jobs)
    found: dict[str, np.ndarray] = {}
    for path in sorted(job.out.glob("*.safetensors")):
        found |= read_safetensors(path)
    return found


def assert_caught(job: Job, prepared: Prepared, label: str) -> None:
    before = sorted(p for p in job.root.iterdir() if not p.name.startswith("."))
    with pytest.raises(Mismatch) as caught:
        made(job, prepared)
    assert (caught.value.code, caught.value.exit_status) == ("file-changed", 1)
    assert caught.value.message.startswith(f"{label}: ")
    assert sorted(job.root.iterdir()) == before, "the failed build left something"


def uses_of_others(prepared: Prepared) -> list[Range]:
    """What programs read of files that another program hashes."""
    return [
        region
        for program in prepared.plan.programs
        for kind, region in program.regions
        if kind is RegionKind.USE
        and program.table.sources[program.files.index(region.ref)][0] is Mode.PLAIN
    ]


def change_for_users(monkeypatch: pytest.MonkeyPatch, path: Path, at: Range, offset: int) -> None:
    """The program that uses ``at`` reads the changed file, all others the one that is pinned."""
    run_one = run_room._run_one

    def run(prepared: Prepared, task: Task, *rest: object) -> _core.Result:
        if (RegionKind.USE, at) not in task.program.regions:
            return run_one(prepared, task, *rest)
        with changed(path, offset):
            return run_one(prepared, task, *rest)

    monkeypatch.setattr(run_room, "_run_one", run)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_build_that_nobody_disturbs_is_the_sum(job: Job, jobs: int) -> None:
    got, expected = made(job, prepared_of(job), jobs), job.expected()
    assert {n: a.tobytes() for n, a in got.items()} == {n: a.tobytes() for n, a in expected.items()}


@pytest.mark.parametrize("side", [0, 1], ids=["base", "delta"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_case_24_a_change_between_hash_and_use_is_caught_every_time(
    job: Job, monkeypatch: pytest.MonkeyPatch, side: int, place: str
) -> None:
    """Every tensor that another program hashes: some before, some after their use."""
    prepared = prepared_of(job)
    uses = [region for region in uses_of_others(prepared) if region.ref.group == side]
    assert len(uses) >= 4
    for region in uses:
        material = prepared.materials[region.ref]
        middle = (region.begin + region.end) // 2
        offset = {"first": region.begin, "middle": middle, "last": region.end - 1}[place]
        with monkeypatch.context() as patch:
            change_for_users(patch, material.path, region, offset)
            assert_caught(job, prepared, material.label)


def test_case_24_without_the_tags_the_changed_bytes_would_be_published(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepared_of(job)
    region = uses_of_others(prepared)[0]
    change_for_users(monkeypatch, prepared.materials[region.ref].path, region, region.end - 1)
    monkeypatch.setattr(import_module("vbuild.build.build"), "_check_uses", lambda *_: None)
    got, expected = made(job, prepared), job.expected()
    assert [n for n in expected if got[n].tobytes() != expected[n].tobytes()] != []


def test_case_24_a_change_inside_one_program_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ``.bin`` in another order, in one shard: the cursor has read it all before it is used."""
    job = Job(tmp_path, container="torch").write()
    tensors = random_tensors(1, 30, 1.0)
    path = tmp_path / "base/part-1.bin"
    write_torch_zip(path, {name: tensors[name] for name in sorted(tensors, reverse=True)})
    job.pin()
    prepared = prepared_of(job)
    (program,) = prepared.plan.programs
    assert {mode for mode, _ in program.table.sources} == {Mode.ORDERED, Mode.WALKED}
    uses = [region for kind, region in program.regions if kind is RegionKind.USE]
    assert len(uses) == len(tensors)
    for region in uses:
        with monkeypatch.context() as patch:
            patch.setattr(run_room, "_core", cursor_first(path, region.begin))
            assert_caught(job, prepared, "base/part-1.bin")


def test_case_24_a_change_in_a_tensor_that_lies_transposed_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path, container="torch").write()
    shape, stored = (30, 50), np.arange(1500, dtype="<f2") / 64
    name, path = "model.turned.weight", tmp_path / "base/turned.bin"
    pickle = PickleWriter().raw(b"}").put().raw(b"(").text(name)
    pickle.tensor("HalfStorage", "0", 1500, shape, strides=(1, 30)).raw(b"u")
    path.write_bytes(zip_bytes(pickle.done(), {"0": stored.tobytes()}))
    write_torch_zip(tmp_path / "delta/turned.bin", {name: np.ones(shape, "<f2")})
    job.pin()
    prepared = prepared_of(job)
    assert made(job, prepared)[name].tobytes() == (stored.reshape(50, 30).T + 1).tobytes()
    shutil.rmtree(job.out)
    begin, end = next(
        (r.begin, r.end)
        for program in prepared.plan.programs
        for kind, r in program.regions
        if kind is RegionKind.USE and (r.ref.group, r.ref.file) == (0, "turned.bin")
    )
    assert end - begin == stored.nbytes
    for offset in (begin, (begin + end) // 2, end - 1):
        with monkeypatch.context() as patch:
            patch.setattr(run_room, "_core", cursor_first(path, offset))
            assert_caught(job, prepared_of(job), "base/turned.bin")


@pytest.mark.parametrize("files", [1, 2])
def test_case_24_a_change_of_metas_files_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """Joined parts and permuted rows, too: every tensor that another program hashes."""
    model = make_meta(layers=1, dim=16, heads=2, wide=32, vocab=20)
    delta = {name: values * 0 for name, values in hugging_face(model).items()}
    rules = '[apply]\npreset = "fastchat-v1.1"\n[config]\nsource = "delta"\n'
    job = Job(tmp_path, hugging_face(model), delta, rules=rules, output='max_shard_size = "1KB"')
    job.write()
    (tmp_path / "base/part-1.safetensors").unlink()
    write_meta(tmp_path / "base", model, files)
    job.pin()
    prepared = prepared_of(job)
    uses = [region for region in uses_of_others(prepared) if region.ref.group == 0]
    assert len(uses) >= 8 * files
    for region in uses:
        material = prepared.materials[region.ref]
        with monkeypatch.context() as patch:
            change_for_users(patch, material.path, region, (region.begin + region.end) // 2)
            assert_caught(job, prepared, material.label)
    assert {n: v.tobytes() for n, v in made(job, prepared).items()} == {
        n: v.tobytes() for n, v in job.expected().items()
    }


def cursor_first(path: Path, offset: int) -> object:
    """A core whose cursors read ``path`` as it is and whose operands read it changed."""

    def run(table: bytes, fds: list[int], out_fd: int, *rest: object, **more: object) -> object:
        hashed = _core.run(table, fds, -1, *rest, **more)
        with changed(path, offset):
            used = _core.run(table, fds, out_fd, *rest, **more)
        half = len(hashed.regions) // 2  # walk regions come first, and each is used once
        regions = (*hashed.regions[:half], *used.regions[half:])
        return _core.Result(used.output, hashed.sources, used.tensors, regions, ())

    class Core:
        Kernels, Control, Fault, Result = _core.Kernels, _core.Control, _core.Fault, _core.Result

    Core.run = staticmethod(run)
    return Core


def test_case_24_a_resumed_build_compares_what_is_left_to_do(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards that have walked the inputs are kept, so others walk them again."""
    for disturbed in (True, False):
        stop_after(job, monkeypatch, kept=2)
        prepared = prepared_of(job)
        if not disturbed:
            assert made(job, prepared).keys() == job.expected().keys()
            break
        region = uses_of_others(prepared)[-1]
        material = prepared.materials[region.ref]
        with monkeypatch.context() as patch:
            change_for_users(patch, material.path, region, region.begin)
            assert_caught(job, prepared, material.label)


def stop_after(job: Job, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """A build that is interrupted when so many shards are kept."""
    keep, names = staging.Staging.keep, []

    def keep_and_stop(self: staging.Staging, name: str, receipt: object) -> None:
        keep(self, name, receipt)
        names.append(name)
        if len(names) == kept:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(staging.Staging, "keep", keep_and_stop)
        with pytest.raises(Interrupted):
            made(job, prepared_of(job))
