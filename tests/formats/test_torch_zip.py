"""The zip container: what is read, and every way in which an archive can lie (51, 53-56)."""

import io
import struct
import zipfile

import numpy as np
import pytest

from tests.support.torch_files import (
    PickleWriter,
    ZipWriter,
    write_huge_zip,
    write_torch_zip,
    zip_bytes,
)
from tests.support.torch_reading import NAME, MemoryFile, read, refusal, values
from vbuild.errors import InvalidInput, VbuildError
from vbuild.files import InputFile
from vbuild.formats.torch import read_tensors, sniff
from vbuild.formats.torch_zip import read_directory
from vbuild.tensors import DType

BASIC = ("data.pkl", "byteorder", "version")


def one_tensor() -> bytes:
    """The pickle {"w": float32[2]} over storage 0."""
    out = PickleWriter().raw(b"}").put().text("w")
    return out.tensor("FloatStorage", "0", 2, [2]).raw(b"s").done()


VALUES = np.array([1.5, -2.0], "<f4").tobytes()
GOOD = zip_bytes(one_tensor(), {"0": VALUES})


def archive(*entries, prefix=b"", finish=None, root="archive"):
    """An archive of `(name, data, options)`; the usual records come first unless overridden.

    A name with a leading slash is outside the archive's folder; data of None leaves it out.
    """
    named = {name for name, *_ in entries}
    usual = {"data.pkl": one_tensor(), "byteorder": b"little", "version": b"3\n"}
    out = io.BytesIO()
    out.write(prefix)
    writer = ZipWriter(out)
    for name in BASIC:
        if name not in named:
            writer.add(f"{root}/{name}", usual[name])
    for name, data, *options in entries:
        if data is not None:
            full = name.removeprefix("/") if name.startswith("/") else f"{root}/{name}"
            writer.add(full, data, **dict(*options))
    if "data/0" not in named:
        writer.add(f"{root}/data/0", VALUES)
    writer.finish(**(finish or {}))
    return out.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def directory_record(data: bytes, name: str) -> int:
    """Where the central directory's record of the entry `name` is."""
    at = data.rindex(name.encode()) - 46
    assert data[at : at + 4] == b"PK\1\2"
    return at


def test_a_state_dict_is_read_in_its_own_order(tmp_path):
    tensors = {f"layer.{i}": np.arange(i, dtype="f4") for i in (11, 2, 0, 7)}
    write_torch_zip(tmp_path / "m.bin", tensors)
    data = (tmp_path / "m.bin").read_bytes()
    specs = read(data)
    assert list(specs) == list(tensors)
    for name, spec in specs.items():
        assert np.array_equal(values(spec, data), tensors[name])
        assert spec.file == NAME


def test_storages_in_string_order_are_found(tmp_path):
    tensors = {f"t{i}": np.full((3,), i, "i8") for i in range(23)}
    write_torch_zip(tmp_path / "m.bin", tensors, root="m")
    data = (tmp_path / "m.bin").read_bytes()
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert names.index("m/data/10") < names.index("m/data/2")
    for name, spec in read(data).items():
        assert np.array_equal(values(spec, data), tensors[name])


def test_an_archive_that_another_program_packed_is_read():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for name, data in (("data.pkl", one_tensor()), ("data/0", VALUES), ("version", b"3\n")):
            z.writestr(f"any/{name}", data)
    data = out.getvalue()
    assert values(read(data)["w"], data).tolist() == [1.5, -2.0]


def test_an_archive_without_zip64_end_records_is_read():
    data = archive(finish={"zip64": False})
    assert values(read(data)["w"], data).tolist() == [1.5, -2.0]


def test_values_are_never_read_and_what_is_read_is_remembered(tmp_path):
    write_torch_zip(tmp_path / "m.bin", {"a": np.ones(100_000, "f4"), "b": np.ones(50, "f4")})
    with InputFile(tmp_path / "m.bin", "m.bin") as file:
        specs = read_tensors(file)
        seen = file.ranges
    for spec in specs:
        begin, end = spec.extent
        assert all(at + len(data) <= begin or end <= at for at, data in seen)
    assert sum(len(data) for _, data in seen) < 4000


def test_a_file_beyond_4_gib_is_read_through_zip64(tmp_path):
    path = tmp_path / "big.bin"
    count = write_huge_zip(path, VALUES)
    with InputFile(path, "big.bin") as file:
        big, last = read_tensors(file)
        assert file.pread(last.offset, len(VALUES)) == VALUES
        entries = {e.name: e for e in read_directory(file).entries()}
    assert big.shape == (count,)
    assert last.offset > 1 << 32 and last.offset % 64 == 0
    with zipfile.ZipFile(path) as z:
        assert {i.filename: i.file_size for i in z.infolist()} == {
            name: entry.size for name, entry in entries.items()
        }
        assert z.getinfo("archive/version").header_offset < entries["archive/version"].start


def test_the_python_zip_library_agrees_on_where_entries_lie(tmp_path):
    write_torch_zip(tmp_path / "m.bin", {f"t{i}": np.full(i, i, "f2") for i in range(30)})
    with InputFile(tmp_path / "m.bin", "m.bin") as file:
        entries = read_directory(file).entries()
    data = (tmp_path / "m.bin").read_bytes()
    with zipfile.ZipFile(tmp_path / "m.bin") as z:
        assert [e.name for e in entries] == z.namelist()
        assert all(z.read(e.name) == data[e.start : e.start + e.size] for e in entries)


def test_padding_bytes_behind_the_last_whole_element_are_accepted():
    pickle = PickleWriter().raw(b"}").put().text("w")
    pickle.tensor("HalfStorage", "0", 1, [1]).raw(b"s")
    assert read(zip_bytes(pickle.done(), {"0": b"\0<\0"}))["w"].shape == (1,)


def test_containers_are_recognised_by_their_first_bytes():
    assert sniff(GOOD[:512])
    assert sniff(b"PK\5\6" + bytes(18))
    assert sniff(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    assert sniff(bytes(257) + b"ustar\0")
    assert not sniff(b"")
    assert not sniff(b'\x10\0\0\0\0\0\0\0{"a":')


CASE_51 = {
    "storage_missing": (archive(("data/0", None)), "torch-storage-missing"),
    "storage_too_short": (archive(("data/0", VALUES[:4])), "torch-storage-size"),
    "storage_too_long": (archive(("data/0", VALUES * 2)), "torch-storage-size"),
    "compressed_entry": (archive(("data/0", VALUES, {"method": 8})), "zip-compressed"),
    "encrypted_entry": (archive(("data/0", VALUES, {"flags": 0x809})), "zip-encrypted"),
    "two_data_pkl": (archive(("data.pkl", one_tensor()), ("/sub/data.pkl", b".")), None),
    "no_data_pkl": (archive(("data.pkl", None)), None),
    "another_folder": (archive(("/other/x", b"")), None),
    "same_name_twice": (archive(("data/0", VALUES), ("data/0", VALUES)), "zip-duplicate-entry"),
    "same_but_for_case": (archive(("data/A", b"x"), ("data/a", b"y")), "zip-duplicate-entry"),
    "no_version": (archive(("version", None)), "torch-not-a-checkpoint"),
    "unknown_version": (archive(("version", b"11\n")), "torch-bad-record"),
    "unreadable_alignment": (archive((".storage_alignment", b"x")), "torch-bad-record"),
    "unknown_byte_order": (archive(("byteorder", b"middle")), "torch-bad-record"),
    "huge_record": (archive(("byteorder", b"l" * 65)), "torch-bad-record"),
    "unknown_flags": (archive(("data/0", VALUES, {"flags": 0x4008})), "zip-malformed"),
    "file_that_claims_to_be_a_folder": (
        archive(("data/0", VALUES, {"attributes": 0x10})),
        "zip-malformed",
    ),
    "name_not_text": (archive(("data/\x07", b"")), "zip-malformed"),
    "bytes_after_pickle": (archive(("data.pkl", one_tensor() + b".")), "pickle-trailing-data"),
}


@pytest.mark.parametrize("name", CASE_51, ids=lambda name: f"case_51_{name}")
def test_an_unusual_entry_is_refused(name):
    data, code = CASE_51[name]
    assert refusal(data).code == (code or "torch-not-a-checkpoint")


def test_case_51_overlapping_entries_are_refused():
    other = directory_record(GOOD, "archive/version")
    first = directory_record(GOOD, "archive/data/0")
    data = patched(GOOD, other + 42, GOOD[first + 42 : first + 46])
    assert refusal(data).code == "zip-overlap"


def test_case_51_an_entry_that_runs_past_the_central_directory_is_refused():
    record = directory_record(GOOD, "archive/.data/serialization_id")
    size = struct.pack("<II", 1 << 20, 1 << 20)
    assert refusal(patched(GOOD, record + 20, size)).code == "zip-overlap"


def test_case_51_an_entry_that_ends_inside_the_next_one_is_refused():
    record = directory_record(GOOD, "archive/data/0")
    assert refusal(patched(GOOD, record + 20, struct.pack("<II", 80, 80))).code == "zip-overlap"


def test_case_51_bytes_between_entries_are_refused():
    record = directory_record(GOOD, "archive/data/0")
    assert refusal(patched(GOOD, record + 20, struct.pack("<II", 7, 7))).code == "zip-malformed"


def test_case_51_a_local_header_with_another_name_is_refused():
    at = GOOD.index(b"archive/data/0")
    assert refusal(patched(GOOD, at, b"archive/data/1")).code == "zip-malformed"


def test_case_51_a_local_header_with_a_longer_name_is_refused():
    at = GOOD.index(b"archive/data/0") - 30
    assert refusal(patched(GOOD, at + 26, struct.pack("<H", 15))).code == "zip-malformed"


def test_case_51_a_local_header_with_another_size_is_refused():
    at = GOOD.index(b"archive/data/0") - 30
    assert refusal(patched(GOOD, at + 18, struct.pack("<II", 4, 4))).code == "zip-malformed"


def test_case_51_a_huge_pickle_is_refused_unread():
    with io.BytesIO() as out:
        writer = ZipWriter(out)
        writer.add("archive/version", b"3\n")
        writer.add("archive/data.pkl", bytes(64 * 1024 * 1024 + 1))
        writer.finish()
        file = MemoryFile(out.getvalue())
    with pytest.raises(InvalidInput) as caught:
        read_tensors(file)
    assert caught.value.code == "pickle-too-large"
    assert sum(file.seen) < 1000


END = len(GOOD) - 22
LOCATOR = END - 20
END64 = LOCATOR - 56
CASE_53 = {
    "comment": archive(finish={"comment": b"hello"}),
    "comment_with_an_end_record": archive(finish={"comment": GOOD[END:]}),
    "entry_comment": archive(("data/0", VALUES, {"comment": b"x"})),
    "prefix_data": archive(prefix=b"#!/bin/sh\n"),
    "prefix_that_looks_like_an_archive": archive(prefix=b"PK\3\4" + bytes(60)),
    "directory_cut_off": GOOD[: END64 - 50] + GOOD[END64:],
    "trailing_data": GOOD + b"\0",
    "two_archives": GOOD + GOOD,
    "zip64_record_missing": patched(GOOD, LOCATOR, bytes(4))[:END]
    + b"PK\5\6"
    + b"\xff" * 16
    + bytes(2),
    "zip64_locator_elsewhere": patched(GOOD, LOCATOR + 8, struct.pack("<Q", 0)),
    "zip64_locator_past_the_end": patched(GOOD, LOCATOR + 8, struct.pack("<Q", 1 << 63)),
    "zip64_two_disks": patched(GOOD, LOCATOR + 16, struct.pack("<I", 2)),
    "zip64_record_longer": patched(GOOD, END64 + 4, struct.pack("<Q", 45)),
    "zip64_count_lies": patched(GOOD, END64 + 24, struct.pack("<QQ", 2, 2)),
    "zip64_size_lies": patched(GOOD, END64 + 40, struct.pack("<Q", 1 << 40)),
    "zip64_offset_lies": patched(GOOD, END64 + 48, struct.pack("<Q", 1)),
    "count_lies": patched(GOOD, END + 8, struct.pack("<HH", 1, 1)),
    "parts": patched(GOOD, END + 4, struct.pack("<HH", 1, 1)),
    "size_in_zip64_without_zip64": patched(
        GOOD, directory_record(GOOD, "archive/data/0") + 20, b"\xff" * 8
    ),
    "only_an_end_record": b"PK\5\6" + bytes(18),
}


@pytest.mark.parametrize("name", CASE_53, ids=lambda name: f"case_53_{name}")
def test_an_archive_with_lies_about_its_parts_is_refused(name):
    code = refusal(CASE_53[name]).code
    assert code in ("zip-malformed", "zip-truncated", "torch-not-a-checkpoint")


def test_case_53_a_huge_directory_is_refused_unread():
    size = 17 * 1024 * 1024
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, size, 4, 0)
    assert refusal(b"PK\3\4" + bytes(size) + end).code == "zip-too-large"


def test_case_54_a_big_endian_archive_is_refused():
    assert refusal(archive(("byteorder", b"big"))).code == "torch-big-endian"


@pytest.mark.parametrize("name", ["constants.pkl", "code/__torch__.py"])
def test_case_55_a_torchscript_archive_is_refused(name):
    error = refusal(archive((name, b"x", {"method": 8})))
    assert error.code == "torch-torchscript"
    assert "TorchScript" in error.message


def test_case_56_truncation_at_every_byte_is_refused():
    for length in range(len(GOOD)):
        assert refusal(GOOD[:length]).exit_status == 2


def test_case_56_a_flipped_bit_is_refused_or_changes_nothing_unforeseen():
    file = MemoryFile(GOOD)
    (good,) = read_tensors(file)
    accepted = 0
    for at in (i for i, seen in enumerate(file.seen) if seen):
        for bit in range(8):
            flipped = patched(GOOD, at, bytes([GOOD[at] ^ 1 << bit]))
            try:
                (spec,) = read(flipped).values()
            except VbuildError as error:
                assert error.exit_status == 2
                continue
            accepted += 1
            assert spec.offset + spec.nbytes <= len(GOOD)
            assert spec.extent[1] <= good.extent[1]
    assert accepted > 0


NOT_WEIGHTS = {
    "case_32_pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs-pointer"),
    "case_33_page": (b"<!DOCTYPE html><html>", "html-page"),
    "case_56_empty": (b"", "torch-truncated"),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(300), "torch-tar"),
    "bare_pickle": (b"\x80\x04\x95\0\0", "torch-bare-pickle"),
    "anything": (bytes(range(200)), "torch-not-a-checkpoint"),
}


@pytest.mark.parametrize("name", NOT_WEIGHTS)
def test_a_file_that_is_no_checkpoint_is_called_what_it_is(name):
    data, code = NOT_WEIGHTS[name]
    error = refusal(data)
    assert error.code == code
    assert error.hint


def test_a_16_bit_type_is_spelt_as_the_storage_says():
    pickle = PickleWriter().raw(b"}").put().text("w")
    pickle.tensor("BFloat16Storage", "0", 4, [2, 2]).raw(b"s")
    assert read(zip_bytes(pickle.done(), {"0": VALUES}))["w"].dtype is DType.BF16
