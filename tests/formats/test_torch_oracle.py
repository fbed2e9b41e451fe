"""Checkpoints that PyTorch itself writes and reads, compared with ours.

PyTorch reads with `weights_only=True`. Known strictness of ours, where it accepts: an archive
comment or data around the archive, bytes between entries, storages larger than declared, names
that occur twice, whatever is not a flat mapping of names to plain tensors.
"""

import io

import numpy as np
import pytest

from tests.support.torch_files import write_huge_zip, write_torch_legacy, write_torch_zip
from tests.support.torch_reading import MemoryFile, read, refusal, values
from vbuild.errors import VbuildError
from vbuild.formats.torch import read_tensors
from vbuild.tensors import DType

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")

CONTAINERS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
_BITS = {"bfloat16": "uint16", **{d.long_name: "uint8" for d in DType if d.code[:2] == "F8"}}


def saved(obj, legacy=False):
    out = io.BytesIO()
    torch.save(obj, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def bits(tensor):
    """The tensor's bytes in C order."""
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def bits_of(spec, data):
    kind = np.dtype(_BITS.get(spec.dtype.long_name, spec.dtype.long_name))
    strides = [s * kind.itemsize for s in spec.strides]
    return np.ndarray(spec.shape, kind, data, spec.offset, strides).tobytes()


def assert_equal(data, tensors):
    """`data` reads as `tensors`: names, order, types, shapes, strides, bits."""
    specs = read(data)
    assert list(specs) == list(tensors)
    for name, spec in specs.items():
        tensor = tensors[name]
        assert str(tensor.dtype) == f"torch.{spec.dtype.long_name}"
        assert tuple(tensor.shape) == spec.shape
        assert tuple(tensor.stride()) == spec.strides
        assert bits_of(spec, data) == bits(tensor), name


@CONTAINERS
@pytest.mark.parametrize("dtype", [d for d in DType if not d.is_block], ids=str)
def test_every_element_type_is_read_as_torch_writes_it(dtype, legacy):
    kind = getattr(torch, dtype.long_name)
    whole = torch.arange(1, 17, dtype=torch.float32).to(torch.uint8)
    tensor = whole.repeat(dtype.itemsize).view(torch.bool if dtype is DType.BOOL else torch.uint8)
    tensor = tensor.view(kind).reshape(4, 4)
    data = saved({"w": tensor, "row": tensor[2]}, legacy)
    if legacy and b"UntypedStorage" in data:
        assert refusal(data).code == "torch-unsupported-tensor"
        with pytest.raises(AttributeError):
            torch.load(io.BytesIO(data), weights_only=True)
    else:
        assert_equal(data, {"w": tensor, "row": tensor[2]})


@CONTAINERS
def test_views_of_every_kind_are_read_as_torch_writes_them(legacy):
    base = torch.arange(48, dtype=torch.float16).reshape(2, 4, 6)
    tensors = {
        "base": base,
        "tied": base,
        "slice": base[1, 1:3],
        "transposed": base.transpose(0, 2),
        "permuted": base.permute(2, 0, 1)[::2],
        "expanded": base[0, 0, :1].expand(5, 1),
        "scalar": base[1, 2, 3],
        "empty": base[:, 4:],
        "channels_last": torch.ones(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
        "own": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        "nothing": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "frozen": torch.nn.Parameter(torch.ones(3, dtype=torch.int32), requires_grad=False),
    }
    assert_equal(saved(tensors, legacy), tensors)


@CONTAINERS
def test_a_module_s_state_dict_is_read_with_its_metadata_ignored(legacy):
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Embedding(5, 6)
    ).half()
    state = model.state_dict()
    assert state._metadata
    assert_equal(saved(state, legacy), state)


@CONTAINERS
def test_thousands_of_tensors_are_read(legacy):
    tensors = {f"layer.{i}.weight": torch.full((3,), i, dtype=torch.int64) for i in range(2345)}
    assert_equal(saved(tensors, legacy), tensors)


def test_a_shared_storage_with_odd_bytes_is_read():
    tensors = {"w": torch.arange(7, dtype=torch.uint8)[:6].view(torch.float16)}
    assert_equal(saved(tensors), tensors)


@pytest.mark.parametrize("settings", ["crc32_off", "aligned_4096"])
def test_other_ways_to_save_are_read(settings):
    from torch.utils.serialization import config

    before = torch.serialization.get_crc32_options(), config.save.storage_alignment
    try:
        torch.serialization.set_crc32_options(settings != "crc32_off")
        config.save.storage_alignment = 4096 if settings == "aligned_4096" else 64
        tensors = {"a": torch.ones(3), "b": torch.zeros(1000)}
        data = saved(tensors)
    finally:
        torch.serialization.set_crc32_options(before[0])
        config.save.storage_alignment = before[1]
    assert_equal(data, tensors)


REFUSED = {
    "wrapper": lambda: {"state_dict": {"w": torch.ones(1)}, "epoch": 3},
    "single_tensor": lambda: torch.ones(2),
    "list": lambda: [torch.ones(2)],
    "sparse": lambda: {"w": torch.eye(3).to_sparse()},
    "conjugate": lambda: {"w": torch.ones(2, dtype=torch.complex64).conj()},
    "meta": lambda: {"w": torch.ones(2, device="meta")},
    "complex128": lambda: {"w": torch.ones(2, dtype=torch.complex128)},
    "numpy": lambda: {"w": np.ones(2)},
    "attributes": lambda: {"w": with_attribute(torch.ones(2))},
    "size": lambda: {"w": torch.Size([1, 2])},
    "module": lambda: torch.nn.Linear(1, 1),
    "storage": lambda: {"w": torch.ones(2).untyped_storage()},
}


def with_attribute(tensor):
    tensor.note = "x"
    return tensor


@CONTAINERS
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_state_dict_of_plain_tensors_is_refused(name, legacy):
    assert refusal(saved(REFUSED[name](), legacy)).hint or name == "complex128" or legacy


def test_torchscript_is_refused():
    out = io.BytesIO()
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), out)
    assert refusal(out.getvalue()).code == "torch-torchscript"


KINDS = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
KINDS += ["complex64", "uint16", "uint32", "uint64"]
ARRAYS = {
    f"{kind}.{i}": np.arange(i * 6, dtype="f8").astype(kind).reshape(i, 2, 3)
    for i in range(1, 4)
    for kind in KINDS
}


def as_tensors(arrays, bf16_names=()):
    tensors = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}
    return {n: t.view(torch.bfloat16) if n in bf16_names else t for n, t in tensors.items()}


def test_our_zip_writer_writes_what_torch_save_writes(tmp_path):
    arrays = {**ARRAYS, "scalar": np.array(7, "f4"), "half": np.arange(9, dtype="u2")}
    write_torch_zip(tmp_path / "m.bin", arrays, bf16_names={"half"}, string_order=False)
    ours = bytearray((tmp_path / "m.bin").read_bytes())
    theirs = bytearray(saved(as_tensors(arrays, {"half"})))
    assert len(ours) == len(theirs)
    # The identity of the archive is a hash of its own: its digits, CRC and descriptor differ.
    first = theirs.index(b"/.data/serialization_id")
    second = theirs.rindex(b"/.data/serialization_id")
    digits = theirs.index(b"PK\7\10", first) - 40
    for begin, size in ((digits, 40 + 8), (second - 7 - 46 + 16, 4)):
        ours[begin : begin + size] = theirs[begin : begin + size] = bytes(size)
    assert ours == theirs


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2500])
def test_torch_loads_what_our_writers_write(count, tmp_path):
    arrays = {f"t{i}": np.arange(i % 5, dtype="f4") for i in range(count)}
    write_torch_zip(tmp_path / "m.bin", arrays)
    write_torch_legacy(tmp_path / "m.pt", arrays)
    for name in ("m.bin", "m.pt"):
        loaded = torch.load(tmp_path / name, weights_only=True)
        assert list(loaded) == list(arrays)
        assert all(np.array_equal(loaded[n].numpy(), a) for n, a in arrays.items())
        data = (tmp_path / name).read_bytes()
        assert all(np.array_equal(values(s, data), arrays[n]) for n, s in read(data).items())


def test_torch_loads_our_file_beyond_4_gib(tmp_path):
    count = write_huge_zip(tmp_path / "big.bin", b"last")
    loaded = torch.load(tmp_path / "big.bin", weights_only=True, mmap=True)
    assert loaded["big"].shape == (count,)
    assert bytes(loaded["last"].numpy()) == b"last"


@CONTAINERS
def test_case_56_what_we_accept_after_a_flipped_bit_torch_accepts_and_reads_alike(legacy):
    pair = torch.arange(4, dtype=torch.float32)
    good = saved({"a": pair[1:], "b": torch.ones(2, 2, dtype=torch.float16)}, legacy)
    file = MemoryFile(good)
    read_tensors(file)
    looked_at = len(good) if legacy else 1 << 30
    accepted = 0
    for at in (i for i, seen in enumerate(file.seen[:looked_at]) if seen):
        for bit in range(8):
            data = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
            try:
                specs = read(data)
            except VbuildError:
                continue
            accepted += 1
            assert_equal_to_torch(data, specs, (at, bit))
    assert accepted > 0


def assert_equal_to_torch(data, specs, where):
    loaded = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    assert list(loaded) == list(specs), where
    for name, spec in specs.items():
        assert tuple(loaded[name].shape) == spec.shape, where
        assert bits_of(spec, data) == bits(loaded[name]), where
