"""vbuild.formats.safetensors: the strict reader and the canonical writer."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.formats.safetensors import (
    MAX_RANK,
    canonical_order,
    header,
    read_tensors,
    shard_name,
)
from vbuild.tensors import DType, TensorSpec

Entry = tuple[str, DType, tuple[int, ...]]

U8 = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
SMALL = (
    b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},'
    b'"b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]}} '
)


def container(text: bytes | str, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with the header ``text`` and, if given, another length before it."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def read(tmp_path: Path, content: bytes) -> list[TensorSpec]:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with InputFile(path, "m.safetensors") as file:
        return read_tensors(file)


def one(dtype: object = "U8", shape: object = "[1]", offsets: object = "[0,1]") -> bytes:
    """A file of one tensor ``a`` of one byte, its fields as JSON text."""
    fields = f'"dtype":{json.dumps(dtype)},"shape":{shape},"data_offsets":{offsets}'
    return container(f'{{"a":{{{fields}}}}}', b"x")


def two(first: str, second: str, size: int) -> bytes:
    """A file of two U8 tensors of two elements at the given offsets, and ``size`` bytes."""
    entry = '"{}":{{"dtype":"U8","shape":[2],"data_offsets":{}}}'
    text = "{" + entry.format("a", first) + "," + entry.format("b", second) + "}"
    return container(text, b"x" * size)


HUGE = (
    f'{{"a":{{"dtype":"U8","shape":[{"9223372036854775807," * 300_000}1],"data_offsets":[0,1]}}}}'
)

BAD = [
    pytest.param(b"", "truncated", "at least 8 bytes", id="case_34_empty"),
    pytest.param(b"\0" * 7, "truncated", "got 7 bytes", id="case_34_seven_bytes"),
    pytest.param(b"\0" * 8, "header-size", "got 0", id="case_35_n_is_zero"),
    pytest.param(container("{}", b"", 100_000_001), "header-size", "100000001", id="case_35_100mb"),
    pytest.param(container("{}", b"", 3), "header-size", "ends inside", id="case_35_past_the_end"),
    pytest.param(
        container("{}", b"", (1 << 64) - 1),
        "header-size",
        "18446744073709551615",
        id="case_35_2^64",
    ),
    pytest.param(
        container("{}", b"", (1 << 64) - 8),
        "header-size",
        "out of range",
        id="case_35_2^64_minus_8",
    ),
    pytest.param(
        container(f'{{"a\xff":{U8}}}'.encode("latin-1"), b"x"),
        "header",
        "not UTF-8 at byte 3",
        id="case_36_not_utf_8",
    ),
    pytest.param(container(b"\xef\xbb\xbf{}"), "header", "does not start", id="case_36_bom"),
    pytest.param(container(" {}"), "header", "got byte 0x20", id="case_36_leading_space"),
    pytest.param(container("{}\0"), "header", "does not end", id="case_36_trailing_nul"),
    pytest.param(container("{}\n"), "header", "does not end", id="case_36_trailing_newline"),
    pytest.param(container("{}x"), "header", "does not end", id="case_36_trailing_garbage"),
    pytest.param(container("{} {}"), "header", "extra data", id="case_36_second_document"),
    pytest.param(container("[]"), "header", "does not start", id="case_36_not_an_object"),
    pytest.param(
        container('{"a":' * 100_000 + "}" * 100_000), "header", "deeper", id="case_37_deep_nesting"
    ),
    pytest.param(
        container("{" + '"":0,' * 4_500_000 + '"":0}'),
        "header",
        "more than 4000000 elements",
        id="case_37_millions_of_entries",
    ),
    pytest.param(container(HUGE, b"x"), "shape", "300001", id="case_37_vast_shape"),
    pytest.param(
        container(f'{{"a":{U8},"a":{U8}}}', b"x"),
        "header",
        'duplicate key "a"',
        id="case_38_duplicate_names",
    ),
    pytest.param(
        container(f'{{"a":{U8},"\\u0061":{U8}}}', b"x"),
        "header",
        'duplicate key "a"',
        id="case_38_duplicate_names_by_escape",
    ),
    pytest.param(
        container('{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        "header",
        'duplicate key "dtype"',
        id="case_38_duplicate_inner_keys",
    ),
    pytest.param(
        container('{"__metadata__":{},"__metadata__":{}}'),
        "header",
        "duplicate key",
        id="case_38_duplicate_metadata",
    ),
    pytest.param(
        container('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}', b"x"),
        "header",
        'tensor "a": key "x" is not known',
        id="case_39_unknown_inner_key",
    ),
    pytest.param(
        container('{"a":{"dtype":"U8","shape":[1]}}', b"x"),
        "header",
        'key "data_offsets" is missing',
        id="case_39_missing_inner_key",
    ),
    pytest.param(container('{"a":1}'), "header", "entry is not", id="case_39_entry_is_a_number"),
    pytest.param(
        one("XX"), "dtype", "bad dtype, expected BOOL, U8, I8", id="case_40_unknown_dtype"
    ),
    pytest.param(one("u8"), "dtype", 'got "u8"', id="case_40_lower_case_dtype"),
    pytest.param(one(1), "dtype", "not a string", id="case_40_dtype_is_a_number"),
    pytest.param(one("F4", "[2]"), "dtype", "less than a byte", id="case_40_sub_byte_f4"),
    pytest.param(one("F6_E2M3", "[4]"), "dtype", "less than a byte", id="case_40_sub_byte_f6"),
    *(
        pytest.param(one("U8", shape), "shape", "non-negative integers", id=f"case_41_{name}")
        for name, shape in {
            "negative": "[-1]",
            "float": "[1.0]",
            "exponent": "[1e0]",
            "minus_zero": "[-0]",
            "boolean": "[true]",
            "string": '["1"]',
            "null": "[null]",
            "not_a_list": "1",
            "object": '{"0":1}',
        }.items()
    ),
    pytest.param(one("U8", "[01]"), "header", "not valid JSON", id="case_41_leading_zero"),
    pytest.param(one("U8", "[[1]]"), "header", "deeper", id="case_41_nested_list"),
    pytest.param(
        one("U8", "[4194305,4194305,211106198978564]"),
        "shape",
        "overflows",
        id="case_42_product_wraps_to_the_right_size",
    ),
    pytest.param(
        one("F32", "[4611686018427387904]"), "shape", "overflows", id="case_42_byte_size_wraps"
    ),
    pytest.param(one("U8", "[18446744073709551616]"), "header", "64 bits", id="case_42_65_bits"),
    pytest.param(
        one("U8", "[9223372036854775807,9223372036854775807,0]", "[0,0]"),
        "shape",
        "overflows",
        id="case_42_overflow_before_a_zero",
    ),
    pytest.param(one("U8", "[2]"), "offsets", "expected 2 bytes", id="case_42_not_the_size"),
    *(
        pytest.param(one("U8", "[1]", offsets), "offsets", message, id=f"case_43_{name}")
        for name, (offsets, message) in {
            "one_offset": ("[0]", "not two integers"),
            "three_offsets": ("[0,1,1]", "not two integers"),
            "begin_after_end": ("[1,0]", "0 <= begin <= end, got [1, 0]"),
            "negative": ("[-1,0]", "not two integers"),
            "float": ("[0,1.0]", "not two integers"),
            "boolean": ("[false,true]", "not two integers"),
            "not_a_list": ("1", "not two integers"),
            "first_is_not_0": ("[1,2]", "leaves a hole before it, expected begin 0, got 1"),
            "near_2^64": ("[18446744073709551614,18446744073709551615]", "hole"),
        }.items()
    ),
    pytest.param(
        one("U8", "[1]", "[0,18446744073709551616]"), "header", "64 bits", id="case_43_2^64"
    ),
    pytest.param(two("[0,2]", "[1,3]", 3), "offsets", '"b" overlaps', id="case_43_overlap"),
    pytest.param(two("[0,2]", "[0,2]", 2), "offsets", '"b" overlaps', id="case_43_same_bytes"),
    pytest.param(two("[0,2]", "[3,5]", 5), "offsets", '"b" leaves a hole', id="case_43_hole"),
    pytest.param(two("[0,2]", "[2,4]", 3), "offsets", "ends inside", id="case_43_data_cut_off"),
    pytest.param(two("[0,2]", "[2,4]", 5), "offsets", "bytes follow", id="case_43_data_follows"),
    pytest.param(container("{}", b"x"), "offsets", "bytes follow", id="case_43_data_of_no_tensor"),
    *(
        pytest.param(
            container(f'{{"{name}":{U8}}}', b"x"), "name", "tensor name", id=f"case_45_{what}"
        )
        for what, name in {
            "empty": "",
            "nul": "a\\u0000",
            "control": "a\\u001b[2J",
            "newline": "a\\n",
            "delete": "\x7f",
            "c1_control": "\\u0085",
        }.items()
    ),
    pytest.param(container('{"__metadata__":{"a":1}}'), "metadata", '"a"', id="case_46_number"),
    pytest.param(container('{"__metadata__":{"a":null}}'), "metadata", '"a"', id="case_46_null"),
    pytest.param(container('{"__metadata__":{"a":{}}}'), "metadata", '"a"', id="case_46_object"),
    pytest.param(container('{"__metadata__":null}'), "metadata", "not a JSON", id="case_46_none"),
    pytest.param(container('{"__metadata__":[]}'), "metadata", "not a JSON", id="case_46_list"),
]


@pytest.mark.parametrize(("content", "kind", "message"), BAD)
def test_a_malformed_file_is_refused(
    tmp_path: Path, content: bytes, kind: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path, content)
    assert caught.value.code == f"safetensors-{kind}"
    assert caught.value.exit_status == 2
    assert caught.value.message.startswith("m.safetensors: ")
    assert message in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_case_35_a_sparse_file_with_a_vast_header_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40))
    with path.open("r+b") as f:
        f.truncate((1 << 40) + 8)
    with InputFile(path, "m.safetensors") as file:
        with pytest.raises(InvalidInput, match="out of range"):
            read_tensors(file)
        assert file.ranges == ((0, struct.pack("<Q", 1 << 40)),)


def test_only_the_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(container(SMALL, b"abcdefg"))
    with InputFile(path, "shard.safetensors") as file:
        tensors = read_tensors(file)
        assert b"".join(data for _, data in file.ranges) == container(SMALL)
    start = 8 + len(SMALL)
    assert tensors == [
        TensorSpec("a", DType.F16, (2, 1), "shard.safetensors", start, (1, 1)),
        TensorSpec("b", DType.U8, (3,), "shard.safetensors", start + 4, (1,)),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("{}", [], id="no_tensors"),
        pytest.param("{}     ", [], id="padded"),
        pytest.param('{"__metadata__":{}}', [], id="metadata_only"),
        pytest.param(
            '{ "a" :\n{"shape":[0],"data_offsets":[0,0],"dtype":"F8_E4M3"}\t}', ["a"], id="spaced"
        ),
        pytest.param(
            '{"é😀\\"\\\\":{"dtype":"F64","shape":[0],"data_offsets":[0,0]}}', ['é😀"\\'], id="name"
        ),
        pytest.param(
            '{"b":{"dtype":"F64","shape":[0],"data_offsets":[0,0]},'
            '"a":{"dtype":"U8","shape":[7,0,4],"data_offsets":[0,0]}}',
            ["a", "b"],
            id="case_44_zero_size_tensors_share_an_offset",
        ),
    ],
)
def test_an_unusual_but_valid_file_is_read(tmp_path: Path, text: str, names: list[str]) -> None:
    assert [t.name for t in read(tmp_path, container(text))] == names


def test_case_44_a_zero_size_tensor_stands_before_the_next(tmp_path: Path) -> None:
    text = (
        '{"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
        '"a":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},'
        '"z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},'
        '"y":{"dtype":"U8","shape":[0],"data_offsets":[3,3]}}'
    )
    assert [t.name for t in read(tmp_path, container(text, b"xxx"))] == ["b", "z", "a", "y"]


def test_a_scalar_has_the_empty_shape(tmp_path: Path) -> None:
    (scalar,) = read(tmp_path, one("U8", "[]"))
    assert (scalar.shape, scalar.strides, scalar.nbytes) == ((), (), 1)


def test_the_largest_rank_is_read(tmp_path: Path) -> None:
    ones = ",".join(["1"] * MAX_RANK)
    assert len(read(tmp_path, one("U8", f"[{ones}]"))[0].shape) == MAX_RANK
    with pytest.raises(InvalidInput, match="too many dimensions"):
        read(tmp_path, one("U8", f"[{ones},1]"))


DTYPES = [dtype for dtype in DType if not dtype.is_block]
NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('"\\/\u2028é😀'), min_size=1
)
TENSORS = st.dictionaries(
    NAMES.filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=4).map(tuple)),
    max_size=8,
)


def in_order(tensors: Mapping[str, tuple[DType, tuple[int, ...]]]) -> list[Entry]:
    """``tensors`` as :func:`header` takes them, in canonical order."""
    order = canonical_order((name, dtype) for name, (dtype, _) in tensors.items())
    return [(name, *tensors[name]) for name in order]


def nbytes(entry: Entry) -> int:
    _, dtype, shape = entry
    return math.prod(shape) * dtype.itemsize


@given(TENSORS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(
    tmp_path: Path, tensors: dict[str, tuple[DType, tuple[int, ...]]]
) -> None:
    entries = in_order(tensors)
    front = header(entries)
    back = read(tmp_path, front + bytes(sum(map(nbytes, entries))))
    assert len(front) % 8 == 0
    assert {t.name: (t.dtype, t.shape) for t in back} == tensors
    at = {t.name: t.offset for t in back}
    for before, after in itertools.pairwise(entries):
        assert at[after[0]] == at[before[0]] + nbytes(before)


def test_a_header_that_no_reader_would_take_is_not_written() -> None:
    with pytest.raises(InvalidInput) as caught:
        header([("a" * 1_000_000 + str(i), DType.U8, (1,)) for i in range(101)])
    assert caught.value.code == "safetensors-header-size"
    assert "max_shard_size" in str(caught.value.hint)


def test_shards_are_named_as_the_hub_names_them() -> None:
    assert shard_name(1, 1) == "model.safetensors"
    assert shard_name(3, 12) == "model-00003-of-00012.safetensors"


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = container(SMALL, b"abcdefg")
    assert len(read(tmp_path, content)) == 2
    for size in range(len(content)):
        with pytest.raises(InvalidInput):
            read(tmp_path, content[:size])


# Against the reference implementation.


def reference(content: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    """The tensors that the reference reads; SafetensorError where it refuses."""
    safetensors = pytest.importorskip("safetensors")
    return {
        name: (t["dtype"], list(t["shape"]), bytes(t["data"]))
        for name, t in safetensors.deserialize(content)
    }


def assert_agrees(tmp_path: Path, content: bytes) -> bool:
    """What we accept, the reference accepts as the same tensors; whether we accept it."""
    try:
        tensors = read(tmp_path, content)
    except InvalidInput:
        return False
    ours = {
        t.name: (t.dtype.code, list(t.shape), content[t.offset : t.offset + t.nbytes])
        for t in tensors
    }
    assert ours == reference(content)
    return True


@pytest.mark.oracle
def test_every_bit_flip_is_refused_or_read_as_the_reference_reads_it(tmp_path: Path) -> None:
    content = container(SMALL, b"abcdefg")
    assert assert_agrees(tmp_path, content)
    accepted = 0
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        accepted += assert_agrees(tmp_path, bytes(flipped))
    assert accepted >= 7 * 8  # any data is good data


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("content", "kind", "message"), [p for p in BAD if len(p.values[0]) < 9999]
)
def test_the_reference_may_accept_what_we_refuse_but_not_the_reverse(
    tmp_path: Path, content: bytes, kind: str, message: str
) -> None:
    assert not assert_agrees(tmp_path, content), (kind, message)


@pytest.mark.oracle
@given(st.data())
@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_mutated_headers_are_read_as_the_reference_reads_them(
    tmp_path: Path, data: st.DataObject
) -> None:
    punctuation = [*'{}[],:"', "", " ", "\0", "\n", "é", "\\u0061", "\\ud800"]
    values = ["0", "1", "2", "7", "-", "1e0", "true", "null", '"a"', '"b"', '"U8"', '"I8"', '"F4"']
    pieces = st.sampled_from([*punctuation, *values, '"shape"'])
    text = SMALL.decode()
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(begin + 3, len(text))))
        text = text[:begin] + data.draw(pieces) + text[end:]
    assert_agrees(tmp_path, container(text, b"abcdefg"))


FIELD = st.sampled_from(["[]", "[0]", "[1]", "[2,2]", "[0,4]", "[4,4]", "[0,0]", "[4,5]", "[-0]"])
ENTRY = st.builds(
    '{{"dtype":"{}","shape":{},"data_offsets":{}}}'.format,
    st.sampled_from(["U8", "F16", "F32", "C64", "BOOL", "F4", "X"]),
    FIELD,
    FIELD,
)


@pytest.mark.oracle
@given(st.lists(ENTRY, max_size=3), st.sampled_from([0, 1, 4, 5]))
@settings(
    max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_generated_headers_are_read_as_the_reference_reads_them(
    tmp_path: Path, entries: list[str], size: int
) -> None:
    text = ",".join(f'"t{i}":{entry}' for i, entry in enumerate(entries))
    assert_agrees(tmp_path, container("{" + text + "}", bytes(size)))


def serialized(tensors: dict[str, tuple[DType, tuple[int, ...]]]) -> bytes:
    """What the reference writes for ``tensors`` full of zeros."""
    safetensors = pytest.importorskip("safetensors")
    sizes = [math.prod(shape) * dtype.itemsize for dtype, shape in tensors.values()]
    zeros = ctypes.create_string_buffer(max([1, *sizes]))
    specs: dict[str, Any] = {
        name: safetensors.TensorSpec(
            dtype=dtype.long_name, shape=shape, data_ptr=ctypes.addressof(zeros), data_len=size
        )
        for (name, (dtype, shape)), size in zip(tensors.items(), sizes, strict=True)
    }
    return bytes(safetensors.serialize(specs, metadata={"format": "pt"}))


@pytest.mark.oracle
@given(TENSORS)
@settings(deadline=None)
def test_the_writer_equals_the_reference(tensors: dict[str, tuple[DType, tuple[int, ...]]]) -> None:
    entries = in_order(tensors)
    assert header(entries) + bytes(sum(map(nbytes, entries))) == serialized(tensors)


@pytest.mark.oracle
def test_the_order_of_types_is_the_references(tmp_path: Path) -> None:
    written = serialized({dtype.long_name: (dtype, (1,)) for dtype in DTYPES})
    order = [t.dtype for t in read(tmp_path, written)]
    assert order == sorted(DTYPES, key=lambda dtype: -dtype.rank)


@pytest.mark.oracle
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(deadline=None)
def test_names_are_escaped_as_the_reference_escapes_them(name: str) -> None:
    assume(name != "__metadata__")
    assert header([(name, DType.U8, (1,))]) + b"\0" == serialized({name: (DType.U8, (1,))})


@pytest.mark.oracle
def test_every_control_character_is_escaped_as_the_reference_escapes_it() -> None:
    name = "".join(map(chr, range(0xA0))) + "\u2028\u2029\ufeff\ud7ff😀"
    assert header([(name, DType.U8, (1,))]) + b"\0" == serialized({name: (DType.U8, (1,))})


@pytest.mark.oracle
def test_the_file_equals_what_torch_users_save(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    dtypes = [d for d in DTYPES if d is not DType.F8_E8M0]
    tensors = {
        f"layer.{i}.{odd}": torch.arange(6).reshape(2, 3).to(getattr(torch, dtype.long_name))
        for i, dtype in enumerate(dtypes)
        for odd in ("weight", 'ä"\\\n')
    }
    tensors["scalar"] = torch.tensor(1.5)
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    content = (tmp_path / "m.safetensors").read_bytes()
    entries = in_order(
        {
            name: (DType.from_long_name(str(t.dtype).removeprefix("torch.")), tuple(t.shape))
            for name, t in tensors.items()
        }
    )
    data = b"".join(
        tensors[name].flatten().view(torch.uint8).numpy().tobytes() for name, _, _ in entries
    )
    assert header(entries) + data == content
