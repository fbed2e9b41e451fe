"""The pickle machine: what it refuses to do, and its bounds (48-50, 52)."""

import os
import pickle
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.torch_files import PickleWriter, zip_bytes
from tests.support.torch_reading import read, refusal, values
from vbuild.errors import VbuildError
from vbuild.tensors import DType

EIGHT = struct.pack("<8f", *range(8))


def state_dict(*entries):
    """A checkpoint: `entries` are (name, function that writes the value); storage 0 is EIGHT."""
    out = PickleWriter().raw(b"}").put().raw(b"(")
    for name, write in entries:
        out.text(name)
        write(out)
    return zip_bytes(out.raw(b"u").done(), {"0": EIGHT})


def view(shape, strides, offset=0, **more):
    return lambda out: out.tensor(
        "FloatStorage", "0", 8, shape, strides=strides, offset=offset, **more
    )


def raw(opcodes):
    """A checkpoint whose pickle has these opcodes after PROTO and before STOP."""
    return zip_bytes(b"\x80\x02" + opcodes + b".")


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


# -- 48, 49: nothing is run ------------------------------------------------------------------

FORBIDDEN = {
    "case_48_global_os_system": (b"cposix\nsystem\n%s\x85R", "pickle-forbidden-global"),
    "case_48_global_eval": (b"cbuiltins\neval\n%s\x85R", "pickle-forbidden-global"),
    "case_48_name_is_only_mentioned": (b"cos\nsystem\n", "pickle-forbidden-global"),
    "case_48_a_name_with_a_dot": (b"ctorch\n_utils._rebuild_tensor\n)R", "pickle-malformed"),
    "case_48_a_backslash_in_a_name": (
        rb"ccollections" + b"\n" + rb"\x4frderedDict" + b"\n)R",
        "pickle-forbidden-global",
    ),
    "case_48_torch_but_not_listed": (b"ctorch.hub\nload\n", "pickle-forbidden-global"),
    "case_49_stack_global": (text(b"posix") + text(b"system") + b"\x93%s\x85R", None),
    "case_49_stack_global_of_nothing": (b"\x93", "pickle-forbidden-opcode"),
    "case_49_inst": (b"(%siposix\nsystem\n", "pickle-forbidden-global"),
    "case_49_obj": (b"(cposix\nsystem\n%so", "pickle-forbidden-global"),
    "case_49_obj_of_an_allowed_name": (b"(ccollections\nOrderedDict\no", "pickle-forbidden-opcode"),
    "case_49_newobj": (b"ccollections\nOrderedDict\n)\x81", "pickle-forbidden-opcode"),
    "case_49_newobj_ex": (b"ccollections\nOrderedDict\n)}\x92", "pickle-forbidden-opcode"),
    "case_49_ext1": (b"\x82\x01", "pickle-forbidden-opcode"),
    "case_49_ext2": (b"\x83\x01\x01", "pickle-forbidden-opcode"),
    "case_49_ext4": (b"\x84\x01\0\0\0", "pickle-forbidden-opcode"),
    "case_49_reduce_of_text": (b"%s)R", "pickle-forbidden-call"),
    "case_49_reduce_of_a_tuple": (b"))R", "pickle-forbidden-call"),
    "case_49_reduce_of_a_type": (b"ctorch\nFloatStorage\n)R", "pickle-forbidden-call"),
    "case_49_reduce_with_a_list": (b"ccollections\nOrderedDict\n]R", "pickle-malformed"),
    "case_49_build_of_a_dict": (b"}}b", "pickle-malformed"),
    "case_49_build_with_setstate": (
        b"ccollections\nOrderedDict\n)R" + text(b"__setstate__") + b"b",
        "pickle-malformed",
    ),
    "case_49_build_of_a_name": (b"ctorch\nSize\n}b", "pickle-malformed"),
    "case_49_persid_as_text": (b"Pos.system\n", "pickle-forbidden-opcode"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(name, tmp_path):
    opcodes, code = FORBIDDEN[name]
    marker = tmp_path / "marker"
    command = text(b"touch " + os.fsencode(marker))
    error = refusal(raw(opcodes.replace(b"%s", command)))
    assert error.code == (code or "pickle-forbidden-global")
    assert not marker.exists()
    if error.code == "pickle-forbidden-global":
        assert "nothing was run" in error.message
        assert any(name in error.message for name in ("system", "eval", "frdered", "load"))


@pytest.mark.parametrize(
    "name", ["case_48_global_os_system", "case_49_stack_global", "case_49_inst", "case_49_obj"]
)
def test_the_same_pickle_runs_code_in_an_ordinary_unpickler(name, tmp_path):
    marker = tmp_path / "marker"
    command = text(b"touch " + os.fsencode(marker))
    pickle.loads(b"\x80\x02" + FORBIDDEN[name][0].replace(b"%s", command) + b".")
    assert marker.exists()


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_another_protocol_is_refused(protocol):
    assert refusal(zip_bytes(pickle.dumps({}, protocol))).code == "pickle-malformed"


REFUSED_KINDS = {
    "torch._utils\n_rebuild_qtensor": "quantized",
    "torch._utils\n_rebuild_sparse_tensor": "sparse",
    "numpy.core.multiarray\n_reconstruct": "NumPy",
    "torch._tensor\n_rebuild_from_type_v2": "subclass",
    "torch._utils\n_rebuild_device_tensor_from_numpy": "device",
}


@pytest.mark.parametrize("name", REFUSED_KINDS)
def test_a_kind_of_tensor_that_is_not_plain_is_refused_by_name(name):
    error = refusal(raw(b"c" + name.encode() + b"\n"))
    assert error.code == "pickle-forbidden-global"
    assert REFUSED_KINDS[name] in error.hint


@pytest.mark.parametrize("name", ["QInt8Storage", "ComplexDoubleStorage", "complex32"])
def test_an_element_type_without_an_equal_is_refused(name):
    error = refusal(raw(b"ctorch\n" + name.encode() + b"\n"))
    assert error.code == "torch-unsupported-dtype"
    assert name in error.message


# -- 50: bounds ------------------------------------------------------------------------------

LIMITS = {
    "pop": (b"]0", "pickle-forbidden-opcode"),
    "case_50_a_million_opcodes": (b"(" * 1_000_001, "pickle-too-large"),
    "case_50_a_million_values": (b"N" * 1_000_001, "pickle-too-large"),
    "case_50_deep_tuples": (b")" + b"\x85" * 900_000, "torch-not-a-state-dict"),
    "case_50_deep_lists": (b"]" * 400_000 + b"a" * 399_999, "torch-not-a-state-dict"),
    "case_50_memo_slot": (b"}r\xff\xff\xff\xff", "pickle-malformed"),
    "case_50_memo_missing": (b"h\x07", "pickle-malformed"),
    "case_50_memo_of_nothing": (b"q\0", "pickle-malformed"),
    "case_50_memo_doubling": (
        b"()q\0" + b"h\0h\0\x86q\0" * 200_000 + b"t",
        "torch-not-a-state-dict",
    ),
    "case_50_long1": (b"\x8a\x11" + bytes(17), "pickle-malformed"),
    "case_50_long4": (b"\x8b\xff\xff\xff\x7f", "pickle-forbidden-opcode"),
    "case_50_decimal": (b"L" + b"9" * 100_000 + b"L\n", "pickle-forbidden-opcode"),
    "case_50_text_beyond_the_end": (b"X\xff\xff\xff\xff", "torch-truncated"),
    "case_50_endless_name": (b"c" + b"a" * 1000, "pickle-malformed"),
    "text_not_utf8": (text(b"\xff"), "pickle-malformed"),
    "text_with_a_surrogate": (text(b"\xed\xa0\x80"), "pickle-malformed"),
    "name_not_utf8": (b"c\xff\nx\n", "pickle-malformed"),
    "unknown_opcode": (b"\xff", "pickle-malformed"),
    "frame": (b"\x95" + bytes(8), "pickle-forbidden-opcode"),
    "empty": (b"", "pickle-malformed"),
    "mark_left": (b"(}", "pickle-malformed"),
    "value_left": (b"}}", "pickle-malformed"),
    "tuple_without_mark": (b"t", "pickle-malformed"),
    "short_tuple": (b"N\x87", "pickle-malformed"),
    "append_to_a_tuple": (b")Na", "pickle-malformed"),
    "append_to_nothing": (b"Na", "pickle-malformed"),
    "setitem_of_a_list": (b"]NNs", "pickle-malformed"),
    "list_as_a_key": (b"}]Ns", "pickle-malformed"),
    "odd_setitems": (b"}(Nu", "pickle-malformed"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_pickle_beyond_the_bounds_is_refused(name):
    opcodes, code = LIMITS[name]
    assert refusal(raw(opcodes)).code == code


def test_case_50_a_list_inside_itself_is_no_state_dict():
    assert refusal(raw(b"]q\0h\0a")).code == "torch-not-a-state-dict"


def test_case_50_a_dict_inside_itself_is_no_state_dict():
    assert refusal(raw(b"}q\0" + text(b"me") + b"h\0s")).code == "torch-not-a-state-dict"


def test_case_50_a_shape_shared_by_many_tensors_costs_nothing_each():
    shape = b"(" + b"K\1" * 300_000 + b"tq\1"
    opcodes = shape + b"ctorch._utils\n_rebuild_tensor\nq\2"
    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu")
    opcodes += storage + b"K\x08tQq\3" + b"h\2(h\3K\0h\1h\1tR" * 60_000
    assert refusal(raw(opcodes)).code == "torch-view-malformed"


def test_an_error_gives_the_offset_of_the_opcode_in_the_file():
    data = raw(text(b"x") + b"cos\nsystem\n")
    at = data.index(b"cos\nsystem")
    assert f"(byte {at})" in refusal(data).message


# -- state dicts -----------------------------------------------------------------------------


def test_views_are_described_and_not_copied():
    data = state_dict(
        ("whole", view([2, 4], [4, 1])),
        ("slice", view([3], [1], 5)),
        ("transposed", view([4, 2], [1, 4])),
        ("expanded", view([3, 2], [0, 1], 6)),
        ("scalar", view([], [], 7)),
        ("empty", view([0, 3], [3, 1])),
        ("empty_beyond", view([0], [1], 99)),
        ("step", view([4], [2])),
    )
    specs = read(data)
    got = {name: values(spec, data).tolist() for name, spec in specs.items()}
    assert got == {
        "whole": [[0, 1, 2, 3], [4, 5, 6, 7]],
        "slice": [5, 6, 7],
        "transposed": [[0, 4], [1, 5], [2, 6], [3, 7]],
        "expanded": [[6, 7]] * 3,
        "scalar": 7,
        "empty": [],
        "empty_beyond": [],
        "step": [0, 2, 4, 6],
    }
    assert all(spec.extent[1] <= len(data) for spec in specs.values())


def test_one_tensor_under_two_names_lies_in_one_place():
    out = PickleWriter().raw(b"}").put().raw(b"(").text("a")
    out.tensor("FloatStorage", "0", 8, [8])
    slot = out.count - 1
    out.text("b").raw(b"h" + bytes([slot]) + b"u")
    specs = read(zip_bytes(out.done(), {"0": EIGHT}))
    assert specs["a"].offset == specs["b"].offset
    assert specs["a"].shape == specs["b"].shape == (8,)


def test_parameters_and_the_metadata_of_an_ordered_dict_are_understood():
    out = PickleWriter().name("collections", "OrderedDict").raw(b")R").put().raw(b"(").text("w")
    out.name("torch._utils", "_rebuild_parameter").raw(b"(")
    out.tensor("HalfStorage", "0", 16, [4, 4]).raw(b"\x88").name("collections", "OrderedDict")
    out.raw(b")Rt").put().raw(b"R").put().raw(b"u}").put().text("_metadata").raw(b"}}sb")
    out = out.out.replace(b"}}sb", b"}sb")
    spec = read(zip_bytes(bytes(out) + b".", {"0": EIGHT}))["w"]
    assert (spec.dtype, spec.shape) == (DType.F16, (4, 4))


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64"])
def test_a_type_without_a_storage_class_is_read_from_untyped_bytes(kind):
    dtype = DType.from_long_name(kind)
    numel = 32 // dtype.itemsize
    out = PickleWriter().raw(b"}").put().text("w").tensor(kind, "0", numel, [numel]).raw(b"s")
    spec = read(zip_bytes(out.done(), {"0": EIGHT}))["w"]
    assert (spec.dtype, spec.nbytes) == (dtype, 32)


def test_an_empty_state_dict_has_no_tensors():
    assert read(raw(b"}")) == {}


OUTSIDE = {
    "case_52_too_long": view([9], [1]),
    "case_52_offset_beyond": view([1], [1], 8),
    "case_52_offset_and_length": view([4], [1], 5),
    "case_52_stride": view([2, 2], [7, 1]),
    "case_52_huge_offset": view([1], [1], (1 << 63) - 1),
    "case_52_huge_stride": view([2], [(1 << 63) - 1]),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_view_outside_its_storage_is_refused(name):
    error = refusal(state_dict(("w", OUTSIDE[name])))
    assert error.code == "torch-view-bounds"
    assert '"w"' in error.message


MALFORMED_VIEWS = {
    "case_52_negative_stride": view([2], [-1], 4),
    "case_52_negative_offset": view([2], [1], -1),
    "case_52_negative_extent": view([-2], [1]),
    "case_52_offset_of_64_bits": view([1], [1], 1 << 63),
    "case_52_product_overflow": view([1 << 40, 1 << 40], [0, 0]),
    "case_52_product_wraps_to_the_right_size": view([4194305, 4194305, 211106198978564], [0, 0, 0]),
    "case_52_product_overflow_of_nothing": view([0, 1 << 62, 1 << 62], [0, 0, 0]),
    "case_52_ranks_differ": view([2, 2], [1]),
    "case_52_rank_65": view([1] * 65, [1] * 65),
}


@pytest.mark.parametrize("name", MALFORMED_VIEWS)
def test_a_view_that_makes_no_sense_is_refused(name):
    assert refusal(state_dict(("w", MALFORMED_VIEWS[name]))).code == "torch-view-malformed"


def test_one_storage_under_two_types_is_refused():
    data = state_dict(
        ("a", view([2], [1])), ("b", lambda out: out.tensor("HalfStorage", "0", 16, [2]))
    )
    assert refusal(data).code == "torch-storage-conflict"


def test_a_gradient_for_integers_is_refused_as_torch_does():
    data = state_dict(("w", lambda o: o.tensor("IntStorage", "0", 8, [8], gradient=b"\x88")))
    assert refusal(data).code == "pickle-malformed"


def test_backward_hooks_are_refused():
    good = state_dict(("w", view([8], [1])))
    assert list(read(good)) == ["w"]
    hooks = PickleWriter().raw(b"}").put().text("w")
    hooks.name("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage("FloatStorage", "0", 8)
    hooks.number(0).numbers([8]).numbers([1]).raw(b"\x89}K\1Nst").raw(b"Rs")
    assert refusal(zip_bytes(hooks.done(), {"0": EIGHT})).code == "torch-unsupported-tensor"


def test_a_lazy_negation_is_refused():
    out = PickleWriter().raw(b"}").put().text("w")
    out.name("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage("FloatStorage", "0", 8)
    out.number(0).numbers([8]).numbers([1]).raw(b"\x89N}").text("neg").raw(b"\x88stRs")
    assert refusal(zip_bytes(out.done(), {"0": EIGHT})).code == "torch-unsupported-tensor"


NOT_STATE_DICTS = {
    "integer": (("step", lambda o: o.number(3)), '"step" holds an integer'),
    "none": (("x", lambda o: o.raw(b"N")), '"x" holds None'),
    "text": (("x", lambda o: o.text("y")), '"x" holds a string'),
    "float": (("lr", lambda o: o.raw(b"G" + bytes(8))), '"lr" holds a float'),
    "boolean": (("x", lambda o: o.raw(b"\x88")), '"x" holds a boolean'),
    "list": (("x", lambda o: o.raw(b"]")), '"x" holds a list'),
    "type": (("x", lambda o: o.name("torch", "float16")), "holds the name torch.float16"),
    "storage": (("x", lambda o: o.storage("FloatStorage", "0", 8)), "holds a bare storage"),
    "wrapper": (("state_dict", lambda o: o.raw(b"}")), '"state_dict" holds a dict'),
}


@pytest.mark.parametrize("name", NOT_STATE_DICTS)
def test_a_mapping_that_is_not_flat_is_refused_and_its_keys_shown(name):
    entry, said = NOT_STATE_DICTS[name]
    error = refusal(state_dict(("weight", view([8], [1])), entry))
    assert error.code == "torch-not-a-state-dict"
    assert said in error.message
    assert f'top-level keys "weight", "{entry[0]}"' in error.message
    assert "state_dict()" in error.hint


def test_many_keys_are_counted_and_not_listed():
    entries = [(f"key{i}", lambda out: out.raw(b"N")) for i in range(500)]
    error = refusal(state_dict(*entries))
    assert "and 492 more" in error.message


def test_a_key_that_is_not_text_is_refused():
    assert "a top-level key is an integer" in refusal(raw(b"}K\1Ns")).message


def test_an_object_that_is_no_mapping_is_refused():
    for opcodes in (b"N", b"K\1", b")", b"]", text(b"x"), b"\x88"):
        assert refusal(raw(opcodes)).code == "torch-not-a-state-dict"


def test_a_name_that_occurs_twice_is_refused():
    data = state_dict(("w", view([8], [1])), ("w", view([4], [1])))
    assert refusal(data).code == "torch-duplicate-name"


@pytest.mark.parametrize("name", ["", "a\nb", "\x00", "x\x7f", "\x9bm"])
def test_a_name_with_control_characters_is_refused(name):
    assert refusal(state_dict((name, view([8], [1])))).code == "torch-bad-name"


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_storage_key_that_torch_never_writes_is_refused(key):
    data = state_dict(("w", lambda o: o.tensor("FloatStorage", key, 8, [8])))
    assert refusal(data).code == "pickle-malformed"


OPCODES = [bytes([i]) for i in range(256)]
PIECES = [
    b")", b"(", b"}", b"]", b"N", b"K\1", b"q\0", b"h\0", b"R", b"t", b"u", b"s", b"e", b"a", b"Q",
    b"b", b"\x85", b"\x86", b"\x87", text(b"storage"), text(b"0"), b"ccollections\nOrderedDict\n",
    b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nSize\n",
    b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x08tQ",
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from(OPCODES)), max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_sequence_of_opcodes_gives_tensors_or_an_error(pieces):
    data = zip_bytes(b"\x80\x02" + b"".join(pieces) + b".", {"0": EIGHT})
    try:
        specs = read(data)
    except VbuildError as error:
        assert error.exit_status == 2
    else:
        assert all(spec.extent[1] <= len(data) for spec in specs.values())


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_a_pickle_give_tensors_or_an_error(junk):
    try:
        assert read(zip_bytes(b"\x80\x02" + junk)) == {}
    except VbuildError as error:
        assert error.exit_status == 2


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_another_protocol_is_refused_and_says_what_to_do(protocol):
    error = refusal(zip_bytes(pickle.dumps({}, protocol)))
    assert error.code == "pickle-malformed"
    assert "protocol 2" in error.message
    assert (error.hint is None) == (protocol < 2)  # these do not say that they are pickles
