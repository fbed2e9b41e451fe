"""The stream format of PyTorch before 1.6."""

import struct

import numpy as np
import pytest

from tests.support.torch_files import (
    LEGACY_HEAD,
    PickleWriter,
    legacy_bytes,
    write_torch_legacy,
)
from tests.support.torch_reading import MemoryFile, read, refusal, values
from vbuild.errors import VbuildError
from vbuild.files import InputFile
from vbuild.formats.torch import read_tensors

EIGHT = struct.pack("<8f", *range(8))


def state_dict(*entries, storages=(("0", 8, EIGHT),)):
    """A legacy checkpoint: `entries` are (name, shape, view of the storage or None)."""
    out = PickleWriter().raw(b"}").put().raw(b"(")
    for name, shape, part in entries:
        out.text(name).tensor("FloatStorage", "0", 8, shape, legacy=True, view=viewed(part))
    return legacy_bytes(out.raw(b"u").done(), storages)


def viewed(part):
    if part is None:
        return b"N"
    key, first, numel = part
    writer = PickleWriter()
    writer.out.clear()
    key = key.encode()
    writer.raw(b"X" + struct.pack("<I", len(key)) + key).number(first).number(numel)
    return bytes(writer.out) + b"\x87"


GOOD = state_dict(("w", [2, 4], None))


def test_a_stream_is_read_in_the_order_of_its_state_dict(tmp_path):
    rng = np.random.default_rng(7)
    tensors = {f"t{i}": rng.integers(0, 99, (i, 2)).astype("i4") for i in range(1, 14)}
    tensors["half"] = np.arange(6, dtype="f2")
    tensors["scalar"] = np.array(2.5)
    write_torch_legacy(tmp_path / "m.bin", tensors)
    data = (tmp_path / "m.bin").read_bytes()
    specs = read(data)
    assert list(specs) == list(tensors)
    for name, spec in specs.items():
        assert np.array_equal(values(spec, data), tensors[name])


def test_few_bytes_beyond_the_pickles_are_read(tmp_path):
    write_torch_legacy(tmp_path / "m.bin", {f"t{i}": np.ones(200_000, "f4") for i in range(5)})
    with InputFile(tmp_path / "m.bin", "m.bin") as file:
        assert len(read_tensors(file)) == 5
        assert sum(len(data) for _, data in file.ranges) < 10_000


def test_many_small_storages_are_read_in_few_steps():
    out = PickleWriter().raw(b"}").put().raw(b"(")
    storages = []
    for i in range(2000):
        out.text(f"t{i}").tensor("ByteStorage", str(i), 1, [1], legacy=True)
        storages.append((str(i), 1, bytes([i % 256])))
    data = legacy_bytes(out.raw(b"u").done(), storages)
    file = MemoryFile(data)
    specs = read_tensors(file)
    assert [data[s.offset] for s in specs] == [i % 256 for i in range(2000)]
    assert file.reads < 50


def test_a_view_of_a_storage_is_an_offset_into_it():
    data = state_dict(("a", [2], ("v1", 3, 2)), ("b", [2], ("v1", 3, 2)), ("c", [8], None))
    specs = read(data)
    assert values(specs["a"], data).tolist() == values(specs["b"], data).tolist() == [3, 4]
    assert values(specs["c"], data).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        pytest.param([("v", 7, 2)], "torch-view-bounds", id="case_52_outside"),
        pytest.param([("v", -1, 2)], "pickle-malformed", id="case_52_negative"),
        pytest.param([("v", 0, 2), ("v", 1, 2)], "torch-storage-conflict", id="two_of_a_name"),
        pytest.param([("0", 1, 2)], "torch-storage-conflict", id="named_like_its_storage"),
        pytest.param([("v", 0, 1)], "torch-view-bounds", id="case_52_tensor_beyond_the_view"),
    ],
)
def test_a_view_that_does_not_fit_is_refused(parts, code):
    entries = [(f"w{i}", [2], part) for i, part in enumerate(parts)]
    assert refusal(state_dict(*entries)).code == code


def test_a_root_storage_named_like_an_earlier_view_is_refused():
    out = PickleWriter().raw(b"}").put().raw(b"(").text("a")
    out.tensor("FloatStorage", "0", 8, [2], legacy=True, view=viewed(("1", 0, 2)))
    out.text("b").tensor("FloatStorage", "1", 8, [2], legacy=True).raw(b"u")
    data = legacy_bytes(out.done(), [("0", 8, EIGHT), ("1", 8, EIGHT)])
    assert refusal(data).code == "torch-storage-conflict"


BAD_STREAMS = {
    "case_51_storage_missing": (state_dict(("w", [8], None), storages=()), "torch-storage-missing"),
    "case_51_storage_unused": (
        state_dict(("w", [8], None), storages=[("0", 8, EIGHT), ("1", 8, EIGHT)]),
        "pickle-malformed",
    ),
    "case_51_storage_twice": (
        state_dict(("w", [8], None), storages=[("0", 8, EIGHT), ("0", 8, EIGHT)]),
        "pickle-malformed",
    ),
    "case_51_count_lies": (
        state_dict(("w", [8], None), storages=[("0", 9, EIGHT)]),
        "torch-storage-size",
    ),
    "case_51_count_negative": (
        state_dict(("w", [8], None), storages=[("0", -8, EIGHT)]),
        "torch-storage-size",
    ),
    "trailing_data": (GOOD + b"\0", "torch-trailing-data"),
    "case_54_big_endian": (
        GOOD.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        "torch-big-endian",
    ),
    "byte_order_not_said": (GOOD.replace(b"little_endian", b"middle_endian"), "pickle-malformed"),
    "other_protocol": (GOOD.replace(b"M\xe9\x03.", b"M\xe8\x03.", 1), "torch-not-a-checkpoint"),
    "no_key_list": (
        GOOD.replace(b"\x80\x02]q\0X\1\0\0\x000q\1a.", b"\x80\x02N."),
        "pickle-malformed",
    ),
    "case_48_code": (LEGACY_HEAD + b"\x80\x02cos\nsystem\n)R.", "pickle-forbidden-global"),
    "case_48_code_in_the_facts": (
        LEGACY_HEAD[:21] + b"\x80\x02cos\nsystem\n)R.",
        "pickle-forbidden-global",
    ),
    "case_48_code_in_the_key_list": (
        LEGACY_HEAD + b"\x80\x02}.\x80\x02cos\nsystem\n)R.",
        "pickle-forbidden-global",
    ),
    "case_50_endless_pickle": (LEGACY_HEAD + b"\x80\x02" + b"N" * 1_100_000, "pickle-too-large"),
    "case_50_huge_text": (
        LEGACY_HEAD + b"\x80\x02X\0\0\0\5" + bytes(0x5000000),
        "pickle-too-large",
    ),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_stream_that_lies_is_refused(name):
    data, code = BAD_STREAMS[name]
    assert refusal(data).code == code


def test_a_whole_module_is_refused():
    pid = PickleWriter().raw(b"(").text("module").raw(b"NNNtQ")
    assert refusal(legacy_bytes(pid.done(), ())).code == "torch-whole-module"


def test_an_untyped_storage_is_refused_as_torch_cannot_load_it():
    out = PickleWriter().raw(b"}").put().text("w").tensor("uint16", "0", 16, [16], legacy=True)
    data = legacy_bytes(out.raw(b"s").done(), [("0", 32, EIGHT)])
    assert refusal(data).code == "torch-unsupported-tensor"


def test_case_56_truncation_at_every_byte_is_refused():
    for length in range(len(GOOD)):
        assert refusal(GOOD[:length]).exit_status == 2


def test_case_56_a_flipped_bit_is_refused_or_stays_inside_the_file():
    accepted = 0
    for at in range(len(GOOD)):
        for bit in range(8):
            flipped = GOOD[:at] + bytes([GOOD[at] ^ 1 << bit]) + GOOD[at + 1 :]
            try:
                (spec,) = read(flipped).values()
            except VbuildError as error:
                assert error.exit_status == 2
                continue
            accepted += 1
            assert spec.extent[1] <= len(GOOD)
    assert accepted >= 8 * len(EIGHT)
