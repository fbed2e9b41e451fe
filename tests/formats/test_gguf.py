"""vbuild.formats.gguf: what gguf itself writes is read, and nothing that it would not write."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.formats import open_checkpoint
from vbuild.formats.gguf import GGML_TYPES, MAX_COUNT, read_tensors, sniff
from vbuild.formats.registry import READABLE
from vbuild.tensors import BLOCK_ELEMENTS, DType, TensorSpec

Tensors = Mapping[str, tuple[DType, tuple[int, ...]]]


def written(path: Path, tensors: Tensors, alignment: int | None = None) -> bytes:
    """A file of ``tensors`` with some metadata, as the package writes it; the data are random."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_name("n")
    writer.add_array("a.strings", ["", "é", "x" * 300])
    writer.add_array("a.numbers", [1.5, 2.5])
    writer.add_array("a.flags", [True, False])
    writer.add_uint64("a.large", 2**63)
    rng = np.random.default_rng(0)
    for name, (dtype, shape) in tensors.items():
        bytes_of_row = dtype.size_of(shape[-1])
        data = rng.integers(0, 255, (*shape[:-1], bytes_of_row), np.uint8)
        writer.add_tensor(
            name, data, raw_shape=data.shape, raw_dtype=gguf.GGMLQuantizationType(GGML_TYPES[dtype])
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def read(tmp_path: Path, data: bytes) -> list[TensorSpec]:
    path = tmp_path / "read.gguf"
    path.write_bytes(data)
    with InputFile(path, "f") as file:
        return read_tensors(file)


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(
    lambda shape: (*shape[:-1], shape[-1] * BLOCK_ELEMENTS)
)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) < 64
)


@given(
    st.dictionaries(NAMES, st.tuples(st.sampled_from(list(GGML_TYPES)), SHAPES), max_size=6),
    st.sampled_from([None, 8, 32, 256]),
)
@settings(deadline=None, max_examples=60)
def test_what_the_package_writes_is_read_as_the_package_reads_it(
    tmp_path_factory: pytest.TempPathFactory, tensors: Tensors, alignment: int | None
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "written.gguf"
    data = written(path, tensors, alignment)
    theirs = gguf.GGUFReader(path)
    ours = read(path.parent, data)
    assert [t.name for t in ours] == [t.name for t in theirs.tensors] == list(tensors)
    for spec, tensor in zip(ours, theirs.tensors, strict=True):
        assert (spec.dtype, spec.shape) == tensors[spec.name]
        assert spec.shape == tuple(reversed(tensor.shape.tolist()))
        assert GGML_TYPES[spec.dtype] == tensor.tensor_type
        assert (spec.offset, spec.nbytes) == (tensor.data_offset, tensor.n_bytes)
        assert spec.is_contiguous
        assert spec.extent == (spec.offset, spec.offset + spec.nbytes)
        assert data[slice(*spec.extent)] == tensor.data.tobytes()


def test_the_types_are_the_package_s_with_its_sizes() -> None:
    for dtype, number in GGML_TYPES.items():
        elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)]
        assert gguf.GGMLQuantizationType(number).name == dtype.code
        assert dtype.size_of(elements) == size
        assert elements == (BLOCK_ELEMENTS if dtype.is_block else 1)


@pytest.fixture
def sound(tmp_path: Path) -> bytes:
    """A file of two tensors."""
    tensors = {"a": (DType.Q8_0, (2, 64)), "b": (DType.F16, (3,))}
    return written(tmp_path / "sound.gguf", tensors)


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, sound: bytes) -> None:
    end = len(sound) - 32 + 6  # the padding behind the last tensor says nothing
    for size in (*range(end), end - 1):
        with pytest.raises(InvalidInput) as caught:
            read(tmp_path, sound[:size])
        assert caught.value.code in ("gguf-truncated", "gguf-offsets")
        assert "download or copy it again" in str(caught.value.hint)
    assert len(read(tmp_path, sound[:end])) == 2


def test_bytes_behind_the_last_tensor_are_refused(tmp_path: Path, sound: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, sound + b"\0")
    assert caught.value.code == "gguf-offsets"


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_any_changed_byte_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("changed")
    tensors = {"a": (DType.Q8_0, (2, 64)), "b": (DType.F16, (3,))}
    changed = bytearray(written(directory / "w.gguf", tensors))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 420))
        changed[at] = data.draw(st.integers(0, 255))
    try:
        read(directory, bytes(changed))
    except InvalidInput as problem:
        assert problem.code.startswith("gguf-")


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def made(*, values: bytes = b"", nvalues: int = 0, infos: bytes = b"", ninfos: int = 0) -> bytes:
    """A header of given records, padded."""
    head = b"GGUF" + struct.pack("<IQQ", 3, ninfos, nvalues) + values + infos
    return head + bytes(-len(head) % 32)


def info(name: bytes = b"t", dims: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    rank = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return string(name) + rank + struct.pack("<IQ", kind, offset)


def one(**changes: object) -> bytes:
    """A file with one tensor info."""
    return made(infos=info(**changes), ninfos=1) + bytes(32)  # type: ignore[arg-type]


def value(key: bytes, kind: int, data: bytes) -> bytes:
    return made(values=string(key) + struct.pack("<I", kind) + data, nvalues=1)


ARRAY, STRING, UINT32 = 9, 8, 4


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version", id="version-1"),
        pytest.param(b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version", id="big-endian"),
        pytest.param(made(ninfos=MAX_COUNT + 1), "metadata", id="too-many-tensors"),
        pytest.param(made(nvalues=2**64 - 1), "metadata", id="too-many-values"),
        pytest.param(made(nvalues=5), "name", id="fewer-values"),
        pytest.param(value(b"", UINT32, b"1234"), "name", id="empty-key"),
        pytest.param(value(b"\xff", UINT32, b"1234"), "name", id="key-not-utf-8"),
        pytest.param(value(b"a\n", UINT32, b"1234"), "name", id="control-in-key"),
        pytest.param(value(b"k", 13, b""), "metadata", id="unknown-type"),
        pytest.param(value(b"k", STRING, struct.pack("<Q", 2**63)), "truncated", id="long-string"),
        pytest.param(
            value(b"k", ARRAY, struct.pack("<IQ", STRING, 2**40)), "metadata", id="many-strings"
        ),
        pytest.param(
            value(b"k", ARRAY, struct.pack("<IQ", UINT32, 2**62)), "truncated", id="long-array"
        ),
        pytest.param(
            value(b"k", ARRAY, struct.pack("<IQ", ARRAY, 1)), "metadata", id="nested-array"
        ),
        pytest.param(
            value(b"general.alignment", UINT32, struct.pack("<I", 24)), "metadata", id="align-24"
        ),
        pytest.param(
            value(b"general.alignment", UINT32, struct.pack("<I", 0)), "metadata", id="align-0"
        ),
        pytest.param(
            made(values=2 * (string(b"k") + struct.pack("<II", UINT32, 0)), nvalues=2),
            "name",
            id="key-twice",
        ),
        pytest.param(one(name=b""), "name", id="no-name"),
        pytest.param(one(name=b"x" * 64), "name", id="long-name"),
        pytest.param(one(name=b"\xc3("), "name", id="name-not-utf-8"),
        pytest.param(made(infos=2 * info(dims=(0,)), ninfos=2), "name", id="name-twice"),
        pytest.param(one(dims=(1, 1, 1, 1, 1)), "shape", id="five-dimensions"),
        pytest.param(one(dims=(2**32, 2**32)), "shape", id="overflow"),
        pytest.param(one(dims=(2**62, 0)), "shape", id="overflow-but-for-a-zero"),
        pytest.param(one(dims=(8,), kind=8), "shape", id="part-of-a-block"),
        pytest.param(one(dims=(), kind=8), "shape", id="scalar-block"),
        pytest.param(one(dims=(256,), kind=12), "dtype", id="k-quant"),
        pytest.param(one(kind=4000), "dtype", id="no-type"),
        pytest.param(one(offset=32), "offsets", id="hole"),
        pytest.param(one(dims=(9,)), "offsets", id="beyond-the-end"),
    ],
)
def test_what_no_writer_writes_is_refused(tmp_path: Path, data: bytes, kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, data)
    assert (caught.value.code, caught.value.exit_status) == (f"gguf-{kind}", 2)


def test_a_file_of_these_records_would_be_sound(tmp_path: Path) -> None:
    (spec,) = read(tmp_path, one())
    assert (spec.name, spec.dtype, spec.shape) == ("t", DType.F32, (8,))


def test_a_k_quant_is_refused_with_the_types_that_are_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Q8_0"):
        read(tmp_path, one(dims=(256,), kind=12))


def checkpoint(directory: Path, files: Mapping[str, bytes], **known: object) -> Callable[[], str]:
    paths = {}
    for name, data in files.items():
        paths[name] = directory / name
        paths[name].write_bytes(data)
    return lambda: open_checkpoint(paths, "label", **known).format  # type: ignore[arg-type]


def test_a_gguf_file_is_looked_at_but_nothing_is_built_from_it(
    tmp_path: Path, sound: bytes
) -> None:
    assert sniff(sound[:4])
    assert checkpoint(tmp_path, {"m.gguf": sound}, known=READABLE)() == "gguf"
    assert checkpoint(tmp_path, {"m.bin": sound}, known=READABLE)() == "gguf"
    with pytest.raises(InvalidInput) as caught:
        checkpoint(tmp_path, {"m.bin": sound})()
    assert caught.value.code == "gguf-input"
    with pytest.raises(InvalidInput) as caught:
        checkpoint(tmp_path, {"m.gguf": sound})()
    assert caught.value.code == "gguf-input"


def test_beside_safetensors_a_gguf_file_is_left_aside(tmp_path: Path, sound: bytes) -> None:
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    other = struct.pack("<Q", len(text)) + text + b"x"
    files = {"m.gguf": sound, "model.safetensors": other}
    assert checkpoint(tmp_path, files, known=READABLE)() == "safetensors"
