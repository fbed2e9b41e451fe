"""Building: what is published, what is refused, and what is left behind."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from tests.support.builds import (
    RULES,
    Job,
    pins,
    random_tensors,
    read_safetensors,
    sha256,
    write_safetensors,
)
from tests.support.torch_files import PickleWriter, zip_bytes
from vbuild import _core
from vbuild.build import Built, Sealed, build, prepare
from vbuild.build import run as run_module
from vbuild.errors import InvalidInput, Mismatch, Unavailable, VbuildError
from vbuild.manifest import load_manifest


def no_seal(files):
    return Sealed()


def make(job: Job, **options) -> Built:
    prepared = prepare(load_manifest(job.manifest))
    return build(prepared, job.out, seal=options.pop("seal", no_seal), **options)


def outcome(job: Job, **options) -> VbuildError:
    """The error of a build that has to fail, and nothing of it must be left."""
    before = sorted(job.root.iterdir())
    with pytest.raises(VbuildError) as caught:
        make(job, **options)
    assert sorted(job.root.iterdir()) == before, "the failed build left something"
    return caught.value


def tensors_of(directory: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for path in sorted(directory.glob("*.safetensors")):
        found |= read_safetensors(path)
    return found


def assert_sum(job: Job) -> None:
    expected, got = job.expected(), tensors_of(job.out)
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("container", ["safetensors", "torch"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("limit", [None, "1KB", "10KB"])
def test_every_tensor_is_numpys_sum(tmp_path, container, shards, limit):
    output = f'max_shard_size = "{limit}"' if limit else ""
    job = Job(tmp_path, container=container, shards=shards, output=output).write()
    built = make(job)
    assert_sum(job)
    for name, digest in built.files.items():
        assert sha256(job.out / name) == digest


def test_the_same_tensors_from_any_container_give_the_same_files(tmp_path):
    found = set()
    for container in ("safetensors", "torch"):
        for shards in (1, 2):
            job = Job(
                tmp_path / f"{container}{shards}",
                container=container,
                shards=shards,
                output='max_shard_size = "2KB"',
            ).write()
            found.add(tuple(make(job).files.items()))
    assert len(found) == 1


def test_a_chain_of_deltas_is_applied_in_order(tmp_path):
    job = Job(tmp_path, base=random_tensors(1, 31, 1.0)).write()
    second = random_tensors(3, 31, 0.5)
    (tmp_path / "second").mkdir()
    write_safetensors(tmp_path / "second/more.safetensors", second)
    text = job.manifest.read_text()
    extra = f'[[delta]]\nuri = "file:second"\n[delta.files]\n{pins(tmp_path / "second")}'
    job.manifest.write_text(text.replace("\n[apply]", f"\n{extra}\n[apply]"))
    make(job)
    got = tensors_of(job.out)
    for name, first in job.expected().items():
        assert got[name].tobytes() == (first + second[name]).tobytes(), name


def test_a_tensor_read_through_a_view_is_the_views(tmp_path):
    stored = np.arange(700 * 300, dtype=np.uint16).view(np.float16)
    stored = np.nan_to_num(stored, nan=1, posinf=2, neginf=3).reshape(300, 700)
    pickle = PickleWriter().raw(b"}").put().raw(b"(").text("a")
    pickle.tensor("HalfStorage", "0", stored.size, (700, 300), strides=(1, 700)).raw(b"u")
    delta = {"a": np.full((700, 300), 0.5, np.float16)}
    job = Job(tmp_path, base={"a": stored.T}, delta=delta, container="torch").write()
    (tmp_path / "base/part-1.bin").write_bytes(zip_bytes(pickle.done(), {"0": stored.tobytes()}))
    job.pin()
    make(job)
    assert_sum(job)


def remove(job: Job) -> None:
    shutil.rmtree(job.out)
    shutil.rmtree(job.out.with_name("out.attest"))


def test_case_63_output_pins_are_enforced(tmp_path):
    job = Job(tmp_path).write()
    digest = make(job).files["model.safetensors"]
    remove(job)
    job.tail = f'[output.files]\n"model.safetensors" = {{ sha256 = "{digest}" }}'
    job.pin()
    make(job)
    remove(job)
    job.tail = job.tail.replace(digest, "0" * 64)
    job.pin()
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("output-mismatch", 1)
    assert problem.expected == "0" * 64 and problem.got == digest


def test_a_pin_for_a_file_that_the_build_does_not_make_is_malformed(tmp_path):
    job = Job(tmp_path, tail=f'[output.files]\n"other.bin" = {{ sha256 = "{"0" * 64}" }}').write()
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("unknown-output", 2)
    assert "manifest.toml:" in str(problem.where)


def test_case_63_the_wrong_weights_digest_fails_the_build(tmp_path):
    job = Job(tmp_path, output=f'weights = "{"0" * 64}"').write()
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("weights-mismatch", 1)
    job.output = f'weights = "{problem.got}"'
    job.pin()
    assert make(job).weights == problem.got


@pytest.mark.parametrize("where", ["base", "delta"])
def test_case_19_a_changed_input_is_named_with_both_digests(tmp_path, where):
    job = Job(tmp_path).write()
    path = tmp_path / where / "part-1.safetensors"
    data = bytearray(path.read_bytes())
    pinned = sha256(path)
    data[-3] ^= 1
    path.write_bytes(data)
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("digest-mismatch", 1)
    assert f"{where}/part-1.safetensors" in problem.message
    assert problem.expected == pinned and problem.got == sha256(path)


def test_the_digest_is_judged_before_a_malformed_header(tmp_path):
    job = Job(tmp_path).write()
    path = tmp_path / "base/part-1.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert outcome(job).code == "digest-mismatch"
    job.pin()
    problem = outcome(job)
    assert problem.exit_status == 2 and problem.code.startswith("safetensors-")


def test_case_57_a_wrong_base_is_a_digest_mismatch_whatever_else_is_wrong_with_it(tmp_path):
    job = Job(tmp_path).write()
    text = job.manifest.read_text()
    job.base = {"other": np.full((3, 3), 6e4, np.float16)}
    job.write()
    job.manifest.write_text(re.sub(r"size = \d+, ", "", text))
    assert outcome(job).code == "digest-mismatch"


def test_case_16_a_missing_input_is_could_not_find_out(tmp_path):
    job = Job(tmp_path).write()
    (tmp_path / "delta/part-1.safetensors").unlink()
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("file-missing", 3)
    assert "delta/part-1.safetensors" in problem.message


def test_case_18_a_wrong_size_is_said_before_anything_is_hashed(tmp_path, monkeypatch):
    job = Job(tmp_path).write()
    with (tmp_path / "base/part-1.safetensors").open("ab") as f:
        f.write(b"x")
    monkeypatch.setattr("vbuild.build.materials.hash_files", None)
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("size-mismatch", 1)


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
def test_case_20_what_is_not_a_regular_file_is_refused_without_hanging(tmp_path, kind, monkeypatch):
    job = Job(tmp_path).write()
    path = tmp_path / "base/part-1.safetensors"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        monkeypatch.chdir(path.parent)  # a socket's path has to be short
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path.name)
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("not-a-file", 2)


def test_case_21_an_input_may_be_a_symbolic_link(tmp_path):
    job = Job(tmp_path).write()
    path = tmp_path / "base/part-1.safetensors"
    path.rename(tmp_path / "blob")
    path.symlink_to("../blob")
    make(job)
    assert_sum(job)


def test_case_11_an_existing_output_is_refused_without_force(tmp_path):
    job = Job(tmp_path).write()
    job.out.mkdir()
    (job.out / "precious").write_text("data")
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("output-exists", 2)
    assert "--force" in str(problem.hint)
    problem = outcome(job, force=True)
    assert problem.code == "output-not-ours"
    assert (job.out / "precious").read_text() == "data"


def test_case_11_force_replaces_what_vbuild_has_made(tmp_path):
    job = Job(tmp_path).write()

    def seal(files):
        sums = "".join(f"{digest}  {name}\n" for name, digest in files.items())
        return Sealed({"model.sig": b"signature"}, {"SHA256SUMS": sums.encode()})

    make(job, seal=seal)
    job.delta = random_tensors(9, 31, 0.02)
    job.write()
    make(job, seal=seal, force=True)
    assert_sum(job)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "base",
        "delta",
        "manifest.toml",
        "out",
        "out.attest",
    ]


@pytest.mark.parametrize("out", ["base", "base/deep/er", "."])
def test_case_11_an_output_in_or_around_an_input_is_refused(tmp_path, out):
    job = Job(tmp_path).write()
    prepared = prepare(load_manifest(job.manifest))
    with pytest.raises(InvalidInput) as caught:
        build(prepared, Path(os.path.normpath(tmp_path / out)), seal=no_seal, force=True)
    assert caught.value.code == "output-in-input"
    assert sorted(p.name for p in (tmp_path / "base").iterdir()) == ["part-1.safetensors"]


def test_case_11_a_directory_where_the_attest_directory_goes_is_not_touched(tmp_path):
    job = Job(tmp_path).write()
    attest = tmp_path / "out.attest"
    attest.mkdir()
    (attest / "precious").write_text("data")
    assert outcome(job, force=True).code == "output-not-ours"
    (tmp_path / "base").rename(tmp_path / "moved")
    (tmp_path / "moved").rename(attest / "base")
    job.manifest.write_text(job.manifest.read_text().replace("file:base", "file:out.attest/base"))
    assert outcome(job).code == "output-in-input"
    assert (attest / "precious").read_text() == "data"


def test_case_23_an_output_never_writes_through_a_hard_link(tmp_path):
    job = Job(tmp_path).write()
    before = sha256(tmp_path / "base/part-1.safetensors")
    job.out.mkdir()
    os.link(tmp_path / "base/part-1.safetensors", job.out / "model.safetensors")
    (job.out / "model.sig").write_bytes(b"")
    make(job, force=True)
    assert sha256(tmp_path / "base/part-1.safetensors") == before
    assert_sum(job)


def test_case_24_a_file_that_changes_after_planning_is_refused(tmp_path):
    job = Job(tmp_path).write()
    prepared = prepare(load_manifest(job.manifest))
    path = tmp_path / "delta/part-1.safetensors"
    known = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))  # size and times put back
    with pytest.raises(Mismatch) as caught:
        build(prepared, job.out, seal=no_seal)
    assert caught.value.code == "file-changed"
    assert not job.out.exists()


def test_case_24_a_header_that_changes_after_planning_does_not_reach_the_result(tmp_path):
    """The bytes that planning has read are what is hashed: a header that is put back in time for
    the hash is not what was planned with, and the digest tells."""
    job = Job(tmp_path).write()
    path = tmp_path / "base/part-1.safetensors"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"layers.0", b"layers.9"))
    job.delta = {k.replace("layers.0", "layers.9"): v for k, v in job.delta.items()}
    write_safetensors(tmp_path / "delta/part-1.safetensors", job.delta)
    text = job.manifest.read_text()
    job.pin()
    pinned = sha256(path)
    with path.open("r+b") as f:  # same inode, planned with the evil header
        loaded = load_manifest(job.manifest)
        job.manifest.write_text(text)
        prepared = prepare(loaded)
        f.write(good)
    assert sha256(path) != pinned
    object.__setattr__(prepared, "identities", {})  # blind the other guard
    with pytest.raises(Mismatch) as caught:
        make_with_pin(prepared, job, sha256(path))
    assert caught.value.code == "digest-mismatch"


def make_with_pin(prepared, job: Job, digest: str) -> None:
    """Build with the base's pin set to what is on disk now."""
    from dataclasses import replace

    materials = {
        ref: replace(m, sha256=digest) if ref.group == 0 else m
        for ref, m in prepared.materials.items()
    }
    object.__setattr__(prepared, "materials", materials)
    build(prepared, job.out, seal=no_seal)


def test_case_25_a_file_that_gets_shorter_while_it_is_read_is_an_error(tmp_path, monkeypatch):
    job = Job(tmp_path).write()
    path = tmp_path / "base/part-1.safetensors"
    real = _core.run

    def shorten(*args, **kwargs):
        os.truncate(path, path.stat().st_size - 100)
        return real(*args, **kwargs)

    monkeypatch.setattr(run_module._core, "run", shorten)
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("file-changed", 1)


def test_case_27_a_file_size_limit_fails_cleanly(tmp_path):
    job = Job(tmp_path).write()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        problem = outcome(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert problem.exit_status == 3


def test_case_27_a_disk_that_is_too_small_is_said_first(tmp_path, monkeypatch):
    job = Job(tmp_path).write()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("U", (), {"free": 10})())
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("disk-full", 3)


def test_case_27_enospc_in_the_middle_removes_everything(tmp_path, monkeypatch):
    job = Job(tmp_path).write()

    def full(*args, **kwargs):
        raise _core.Fault("write-failed", errno.ENOSPC, 0, 0, 0, (0, 0, 0))

    monkeypatch.setattr(run_module._core, "run", full)
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("disk-full", 3)


def test_case_27_a_directory_without_permission_is_unavailable(tmp_path):
    job = Job(tmp_path).write()
    prepared = prepare(load_manifest(job.manifest))
    with pytest.raises(Unavailable):
        build(prepared, Path("/proc/nowhere/out"), seal=no_seal)


def test_case_30_an_absurd_sparse_input_is_refused_by_its_size(tmp_path):
    job = Job(tmp_path).write()
    os.truncate(tmp_path / "base/part-1.safetensors", 1 << 42)
    assert outcome(job).code == "size-mismatch"


def test_case_30_an_output_larger_than_any_disk_is_refused_before_writing(tmp_path):
    """An expanded view makes terabytes of two bytes; planning it takes no memory."""
    job = Job(tmp_path, base={"a": np.zeros(1, np.float16)}, container="torch")
    job.delta = dict(job.base)
    job.write()
    pickle = PickleWriter().raw(b"}").put().raw(b"(").text("a")
    pickle.tensor("HalfStorage", "0", 1, (1 << 20, 1 << 22), strides=(0, 0)).raw(b"u")
    for side in ("base", "delta"):
        (tmp_path / side / "part-1.bin").write_bytes(zip_bytes(pickle.done(), {"0": b"\0<"}))
    job.pin()
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("disk-full", 3)


def test_case_60_a_non_finite_result_names_tensor_element_and_operands(tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    job = Job(tmp_path)
    job.base[name][5, 7] = 60000
    job.delta[name][5, 7] = 60000
    job.write()
    problem = outcome(job)
    assert (problem.code, problem.exit_status) == ("nonfinite-result", 2)
    assert problem.where == name
    assert "[5, 7]" in problem.message and "60000 + 60000 = inf" in problem.message
    job.output = 'nonfinite = "allow"'
    job.pin()
    make(job)
    assert np.isposinf(tensors_of(job.out)[name][5, 7])


def test_case_60_a_non_finite_padded_row_counts_from_the_tensors_start(tmp_path):
    job = Job(tmp_path)
    job.delta["lm_head.weight"][30, 3] = np.float16("nan")
    job.write()
    problem = outcome(job)
    assert problem.where == "lm_head.weight" and "[30, 3]" in problem.message


def test_case_60_with_a_wrong_base_the_base_is_the_error(tmp_path):
    job = Job(tmp_path).write()
    path = tmp_path / "base/part-1.safetensors"
    data = bytearray(path.read_bytes())
    data[-2:] = np.float16("inf").tobytes()
    path.write_bytes(data)
    assert outcome(job).code == "digest-mismatch"


def test_case_60_signed_zeros_subnormals_and_ties_keep_their_bits(tmp_path):
    a = np.array([0x8000, 0x8000, 0x0001, 0x8001, 0x3C00, 0x3C01], np.uint16).view(np.float16)
    b = np.array([0x8000, 0x0000, 0x0001, 0x0001, 0x1000, 0x1000], np.uint16).view(np.float16)
    job = Job(tmp_path, base={"t": a}, delta={"t": b}).write()
    make(job)
    got = tensors_of(job.out)["t"].view(np.uint16)
    assert got.tolist() == [0x8000, 0x0000, 0x0002, 0x0000, 0x3C00, 0x3C02]


def test_xor_gives_any_bit_pattern_back(tmp_path):
    rng = np.random.default_rng(5)
    bits = {"t": rng.integers(0, 65536, 5000).astype(np.uint16).view(np.float16)}
    target = rng.integers(0, 65536, 5000).astype(np.uint16)
    delta = {"t": (bits["t"].view(np.uint16) ^ target).view(np.float16)}
    rules = '[apply]\n[[apply.rule]]\nmatch = "*"\nop = "xor"\n'
    job = Job(tmp_path, base=bits, delta=delta, rules=rules).write()
    make(job)
    assert tensors_of(job.out)["t"].view(np.uint16).tolist() == target.tolist()


def test_an_output_type_converts_and_an_overflow_in_it_fails(tmp_path):
    base = {"t": np.array([1.5, 70000.0], np.float32)}
    delta = {"t": np.array([0.25, 0.0], np.float32)}
    job = Job(tmp_path, base=base, delta=delta, output='dtype = "bfloat16"').write()
    make(job)
    assert tensors_of(job.out)["t"].tolist() == [0x3FE0, 0x4789]
    job = Job(tmp_path / "b", base=base, delta=delta, output='dtype = "float16"').write()
    problem = outcome(job)
    assert problem.code == "nonfinite-result" and "[1]" in problem.message


def test_mixed_types_need_a_word_and_as_stored_rounds_once(tmp_path):
    rng = np.random.default_rng(3)
    base = {"t": rng.standard_normal(4000).astype(np.float16)}
    delta = {"t": (rng.standard_normal(4000) * 1e-3).astype(np.float32)}
    job = Job(tmp_path, base=base, delta=delta).write()
    problem = outcome(job)
    assert problem.code == "tensors-disagree" and "compute" in str(problem.hint)
    job.rules = RULES.replace('match = "*"\n', 'match = "*"\ncompute = "as-stored"\n')
    job.pin()
    make(job)
    once = (base["t"].astype(np.float32) + delta["t"]).astype(np.float16)
    assert tensors_of(job.out)["t"].tobytes() == once.tobytes()
    assert once.tobytes() != (base["t"] + delta["t"].astype(np.float16)).tobytes()


def test_case_87_modes_do_not_depend_on_the_umask(tmp_path):
    job = Job(tmp_path, extra={"base": {"config.json": b'{"vocab_size": 1}\n'}}).write()
    job.place = "new/out"
    old = os.umask(0o777)
    try:
        make(job)
    finally:
        os.umask(old)
    assert job.out.stat().st_mode & 0o777 == 0o755
    assert job.out.parent.stat().st_mode & 0o777 == 0o755
    assert {p.name: p.stat().st_mode & 0o777 for p in job.out.iterdir()} == {
        "config.json": 0o644,
        "model.safetensors": 0o644,
    }


@pytest.mark.parametrize("isa", ["portable", "native"])
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_jobs_and_kernels_never_change_a_bit(tmp_path, isa, jobs, monkeypatch):
    monkeypatch.setenv("VBUILD_ISA", isa)
    job = Job(tmp_path, shards=2, output='max_shard_size = "1KB"').write()
    built = make(job, jobs=jobs)
    assert_sum(job)
    assert set(built.files) == {p.name for p in job.out.iterdir()}


def test_case_88_many_shards_do_not_need_many_descriptors(tmp_path):
    base = {f"layer.{i:04}": np.full(8, i, np.float16) for i in range(300)}
    job = Job(tmp_path, base=base, delta=dict(base), shards=100, output='max_shard_size = "16"')
    job.write()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        make(job)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_sum(job)
