"""vbuild.digest: files hashed side by side, and the digest of a model's weights."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from vbuild import _core, digest
from vbuild.digest import core_error, hash_files, kernels, sha256_hex, weights_digest
from vbuild.errors import Interrupted, InvalidInput, Mismatch, Unavailable, VbuildError


def files(folder: Path, *sizes: int) -> list[Path]:
    rng = np.random.default_rng(1)
    paths = [folder / f"f{i}" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(rng.bytes(size))
    return paths


def expected(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


@pytest.mark.parametrize("jobs", [None, 1, 2, 5])
@pytest.mark.parametrize("level", ["portable", "native"])
def test_digests_are_hashlibs_in_the_order_asked_for(
    tmp_path: Path, jobs: int | None, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VBUILD_ISA", level)
    paths = files(tmp_path, 0, 1, 64, 300_000, 55, 56, 262_144, 5, 1_000_003, 0)
    assert hash_files(paths, jobs=jobs) == expected(paths)


def test_more_files_than_are_opened_at_a_time(tmp_path: Path) -> None:
    paths = files(tmp_path, *range(70))
    assert hash_files(paths, jobs=2) == expected(paths)


def test_case_88_no_more_than_sixteen_files_are_open_per_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, *range(50))
    most = 0

    def counting(table: bytes, fds: list[int], *rest: object, **more: object) -> object:
        nonlocal most
        most = max(most, len(fds))
        return _core.run(table, fds, *rest, **more)

    class Counting:
        Kernels, Control, Fault, run = _core.Kernels, _core.Control, _core.Fault, counting

    monkeypatch.setattr(digest, "_core", Counting)
    assert hash_files(paths, jobs=1) == expected(paths)
    assert most == 16


def test_no_files_have_no_digests() -> None:
    assert hash_files([]) == []


def test_the_same_file_may_be_asked_for_twice(tmp_path: Path) -> None:
    (path,) = files(tmp_path, 1000)
    assert hash_files([path, path], jobs=1) == expected([path, path])


@pytest.mark.parametrize("jobs", [1, 2])
def test_case_16_a_missing_file_is_named(tmp_path: Path, jobs: int) -> None:
    paths = [*files(tmp_path, 10, 20), tmp_path / "gone"]
    with pytest.raises(Unavailable) as caught:
        hash_files(paths, ["a", "b", "the third"], jobs=jobs)
    assert caught.value.code == "file-missing"
    assert caught.value.message == "the third: no such file"
    assert caught.value.exit_status == 3


def test_case_20_a_directory_or_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(InvalidInput) as caught:
            hash_files([path], ["it"])
        assert (caught.value.code, caught.value.where) == ("not-a-file", "it")


def test_a_control_that_was_stopped_stops_the_hashing(tmp_path: Path) -> None:
    control = _core.Control()
    control.stop()
    with pytest.raises(Interrupted):
        hash_files(files(tmp_path, 100), control=control)


def test_a_control_counts_the_bytes(tmp_path: Path) -> None:
    control = _core.Control()
    hash_files(files(tmp_path, 100, 5000), control=control)
    assert control.done == 5100


def test_case_24_a_file_that_changes_while_it_is_hashed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(tmp_path, 100)

    def run_and_touch(*args: object, **more: object) -> object:
        result = _core.run(*args, **more)
        path.write_bytes(b"x" * 100)
        return result

    class Touching:
        Kernels, Control, Fault = _core.Kernels, _core.Control, _core.Fault
        run = staticmethod(run_and_touch)

    monkeypatch.setattr(digest, "_core", Touching)
    with pytest.raises(Mismatch) as caught:
        hash_files([path], ["the file"])
    assert (caught.value.code, caught.value.where) == ("file-changed", "the file")


def test_an_instruction_set_that_is_not_here_is_an_error_that_lists_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VBUILD_ISA", "mmx")
    with pytest.raises(InvalidInput) as caught:
        kernels()
    assert (caught.value.code, caught.value.got) == ("isa-unavailable", "mmx")
    assert "portable" in str(caught.value.expected)


def fault(status: str, error: int = 0) -> _core.Fault:
    return _core.Fault(status, error, 1, 0, 0, (0, 0, 0))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("status", "error", "kind", "code", "where"),
    [
        ("stopped", 0, Interrupted, "interrupted", None),
        ("read-short", 0, Mismatch, "file-changed", "second"),
        ("read-failed", errno.EIO, Unavailable, "io-error", "second"),
        ("write-failed", errno.ENOSPC, Unavailable, "disk-full", "out"),
        ("no-memory", 0, Unavailable, "no-memory", "out"),
    ],
)
def test_a_fault_of_the_core_names_the_file(
    status: str, error: int, kind: type[VbuildError], code: str, where: str | None
) -> None:
    found = core_error(fault(status, error), ["first", "second"], "out")
    assert (type(found), found.code, found.where) == (kind, code, where)


def test_the_weights_digest_is_the_documented_one() -> None:
    tensors = {"b": hashlib.sha256(b"2").digest(), "Z": hashlib.sha256(b"1").digest()}
    text = "vbuild-weights-v1\n"
    text += "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b  Z\n"
    text += "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35  b\n"
    assert weights_digest(tensors) == hashlib.sha256(text.encode()).hexdigest()
    assert weights_digest({}) == sha256_hex(b"vbuild-weights-v1\n")
