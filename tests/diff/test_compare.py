"""What differs between two checkpoints, against numpy and against the model of the kernels."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.checkpoints import Array, bf16, f16, f32, f64, write_model, write_shards
from tests.support.machine_kernels import differences
from tests.support.torch_files import write_torch_zip
from vbuild.diff import Comparison, compare, measure, open_side
from vbuild.errors import InvalidInput, Mismatch, Unavailable
from vbuild.tensors import DType

CODES = {DType.F16: 0, DType.BF16: 1, DType.F32: 2, DType.F64: 3}
CODES_OF_SIZE = {1: 16, 2: 17, 4: 18, 8: 19}


def comparison(tmp_path, a, b, **options) -> Comparison:
    write_model(tmp_path / "a", a)
    write_model(tmp_path / "b", b)
    return compare(open_side(tmp_path / "a", "a"), open_side(tmp_path / "b", "b"), **options)


def only_pair(tmp_path, a: Array, b: Array):
    (pair,) = comparison(tmp_path, {"x": a}, {"x": b}).pairs
    return pair


def assert_as_the_model(found, dtype: DType, a: np.ndarray, b: np.ndarray) -> None:
    expected = differences([(CODES.get(dtype, CODES_OF_SIZE[dtype.itemsize]), a, b)])
    assert (found.differing, found.unordered) == (expected.count, expected.unordered)
    assert (found.first, found.bits) == (expected.first, expected.first_bits)
    assert (found.max_ulp, found.max_ulp_at) == (expected.max_ulp, expected.max_ulp_at)
    assert (found.max_abs, found.max_abs_at) == (expected.max_abs, expected.max_abs_at)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F32, DType.F64])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_measured_of_any_bits_is_what_the_model_says(tmp_path_factory, dtype, data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    shape = data.draw(st.sampled_from([(), (1,), (17,), (3, 5), (2, 3, 4), (2, 2, 2, 2, 3)]))
    rng = np.random.default_rng(seed)
    a = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), f"<u{dtype.itemsize}").copy()
    b = a.copy()
    for i in range(len(b)):
        if rng.random() < 0.3:
            b[i] = rng.integers(0, 1 << (8 * dtype.itemsize), dtype=np.uint64)
    root = tmp_path_factory.mktemp("any")
    pair = only_pair(root, Array(dtype, a.reshape(shape)), Array(dtype, b.reshape(shape)))
    assert pair.compared_as is dtype
    assert_as_the_model(pair.measured, dtype, a, b)
    assert pair.status == ("changed" if (a != b).any() else "same")


def test_counts_and_distances_are_numpys(tmp_path):
    rng = np.random.default_rng(7)
    a = (rng.standard_normal((300, 70)) * 0.02).astype(np.float16)
    b = (a + rng.standard_normal(a.shape) * 1e-4).astype(np.float16)
    found = only_pair(tmp_path, f16(a), f16(b)).measured
    apart = np.abs(a.astype(float) - b.astype(float))
    assert found.differing == np.count_nonzero(a != b)
    assert found.first == np.flatnonzero(a != b)[0]
    assert found.max_abs == apart.max()
    assert found.max_abs_at == apart.argmax()
    steps = np.where(a.view("<i2") < 0, -0x8000 - a.view("<i2").astype(int), a.view("<i2"))
    other = np.where(b.view("<i2") < 0, -0x8000 - b.view("<i2").astype(int), b.view("<i2"))
    assert found.max_ulp == np.abs(steps - other).max()
    assert found.max_ulp_at == np.abs(steps - other).argmax()


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        (f16, bf16, DType.F32),
        (bf16, f16, DType.F32),
        (f16, f32, DType.F32),
        (f32, f16, DType.F32),
        (bf16, f64, DType.F64),
        (f64, f32, DType.F64),
    ],
)
def test_other_types_are_widened_exactly_and_compared(tmp_path, a, b, common):
    values = [0.0, -1.0, 0.5, 3.0, -0.25]
    same = only_pair(tmp_path, a(values), b(values))
    assert (same.status, same.compared_as, same.measured.differing) == ("type", common, 0)
    changed = [0.0, -1.0, 0.5, 3.5, -0.25]
    pair = only_pair(tmp_path, a(values), b(changed))
    assert (pair.measured.differing, pair.measured.first, pair.measured.max_abs) == (1, 3, 0.5)
    wide = {DType.F32: "<f4", DType.F64: "<f8"}[common]
    expected = [int(np.array(v, wide).view(wide.replace("f", "u"))) for v in (3.0, 3.5)]
    assert list(pair.measured.bits) == expected


def test_a_value_that_the_narrower_type_lacks_differs(tmp_path):
    pair = only_pair(tmp_path, f16([1 + 2**-10]), bf16([1.0]))
    assert (pair.measured.differing, pair.measured.max_abs) == (1, 2**-10)


def test_types_without_arithmetic_are_compared_bit_by_bit(tmp_path):
    a = Array(DType.I64, np.array([1, 2, 3], "<i8"))
    b = Array(DType.I64, np.array([1, 5, 3], "<i8"))
    found = only_pair(tmp_path, a, b).measured
    assert (found.differing, found.first, found.bits) == (1, 1, (2, 5))
    assert (found.max_ulp, found.max_abs) == (0, 0.0)


def test_types_without_a_common_one_are_not_compared(tmp_path):
    pair = only_pair(tmp_path, f32([1.0]), Array(DType.I32, np.array([1], "<i4")))
    assert (pair.status, pair.compared_as, pair.measured) == ("type", None, None)


def test_another_shape_is_a_difference_that_is_not_measured(tmp_path):
    pair = only_pair(tmp_path, f16(np.zeros((2, 3))), f16(np.zeros((3, 2))))
    assert (pair.status, pair.measured) == ("shape", None)


def test_the_two_zeros_differ_and_are_no_step_apart(tmp_path):
    found = only_pair(tmp_path, f16([0.0]), f16([-0.0])).measured
    assert (found.differing, found.max_ulp, found.max_abs) == (1, 0, 0.0)


def test_the_same_nan_is_the_same_and_another_one_has_no_distance(tmp_path):
    nan = np.array([0x7E00, 0x7E00, 0x3C00], "<u2").view("<f2")
    other = np.array([0x7E00, 0x7E01, 0x3C00], "<u2").view("<f2")
    found = only_pair(tmp_path, f16(nan), f16(other)).measured
    assert (found.differing, found.unordered, found.max_ulp) == (1, 1, 0)


def test_infinity_is_infinitely_far_away(tmp_path):
    found = only_pair(tmp_path, f16([1.0]), f16([np.inf])).measured
    assert (found.differing, found.max_abs) == (1, np.inf)


def test_tensors_without_elements_are_the_same(tmp_path):
    pair = only_pair(tmp_path, f16(np.zeros((0, 3))), f16(np.zeros((0, 3))))
    assert (pair.status, pair.share) == ("same", 0.0)


def test_names_on_one_side_only_are_listed_in_order(tmp_path):
    found = comparison(
        tmp_path, {"b": f16([1]), "a": f16([1])}, {"b": f16([1]), "d": f16([1]), "c": f32([1])}
    )
    assert [t.name for t in found.only_a] == ["a"]
    assert [t.name for t in found.only_b] == ["c", "d"]
    assert not found.same


def random_model(seed=0):
    rng = np.random.default_rng(seed)
    return {f"layers.{i}.w{j}": f16(rng.standard_normal((9, 7))) for i in range(6) for j in "ab"}


def test_container_and_sharding_are_no_difference(tmp_path):
    tensors = random_model()
    one = write_model(tmp_path / "one", tensors)
    seven = write_shards(tmp_path / "seven", tensors, 7)
    (tmp_path / "torch").mkdir()
    arrays = {name: array.data for name, array in tensors.items()}
    write_torch_zip(tmp_path / "torch" / "pytorch_model.bin", arrays)
    for other in (seven, tmp_path / "torch", tmp_path / "torch" / "pytorch_model.bin"):
        found = compare(open_side(one, "a"), open_side(other, "b"))
        assert found.same
        assert found.summary.elements == 12 * 63
    assert compare(open_side(seven, "a"), open_side(tmp_path / "torch", "b")).same


def test_a_directory_with_two_formats_is_compared_by_its_safetensors(tmp_path):
    tensors = random_model()
    both = write_model(tmp_path / "both", tensors)
    write_torch_zip(both / "pytorch_model.bin", {n: a.data + 1 for n, a in tensors.items()})
    plain = write_model(tmp_path / "plain", tensors)
    assert compare(open_side(plain, "a"), open_side(both, "b")).same


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_tasks_and_threads_change_nothing(tmp_path, monkeypatch, jobs):
    a, b = random_model(), random_model(1)
    whole = comparison(tmp_path, a, b)
    monkeypatch.setattr(measure, "BATCH", 200)
    assert comparison(tmp_path, a, b, jobs=jobs) == whole


def test_a_file_that_changes_after_its_header_was_read_is_caught(tmp_path):
    a = open_side(write_model(tmp_path / "a", random_model()), "a")
    b = open_side(write_model(tmp_path / "b", random_model()), "b")
    path = tmp_path / "b" / "model.safetensors"
    os.utime(path, (1, 1))
    with pytest.raises(Mismatch) as caught:
        compare(a, b)
    assert (caught.value.code, caught.value.where) == ("file-changed", "b/model.safetensors")


def test_progress_reaches_its_total(tmp_path):
    heard = []

    class Ear:
        def begin(self, total):
            heard.append(total)

        def at(self, done):
            heard.append(done)

        def end(self):
            heard.append("end")

    comparison(tmp_path, random_model(), random_model(1), progress=Ear())
    assert heard[0] == 12 * 63 * 2
    assert heard[-1] == "end"
    assert max(n for n in heard if n != "end") == heard[0]


def test_what_is_not_there_or_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(Unavailable) as missing:
        open_side(tmp_path / "nothing", "a")
    assert missing.value.code == "file-missing"
    (tmp_path / "text.safetensors").write_text("hello, I am no model\n")
    with pytest.raises(InvalidInput):
        open_side(tmp_path / "text.safetensors", "a")


def test_a_damaged_file_is_named_with_the_side_it_belongs_to(tmp_path):
    a, b = (write_model(tmp_path / side, {"w": f16([1.0, 2.0])}) for side in "ab")
    whole = (b / "model.safetensors").read_bytes()
    (b / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(InvalidInput) as caught:
        open_side(a, "a"), open_side(b, "b")
    assert caught.value.where == str(b / "model.safetensors")


def test_files_that_could_each_be_the_weights_have_to_be_named(tmp_path):
    model = write_model(tmp_path / "a", {"w": f16([1.0, 2.0])})
    (model / "model.safetensors").rename(model / "one.safetensors")
    (model / "two.safetensors").write_bytes((model / "one.safetensors").read_bytes())
    with pytest.raises(InvalidInput) as caught:
        open_side(model, "a")
    assert caught.value.code == "weights-unclear"
    assert caught.value.hint.startswith("name the file itself")
    assert open_side(model / "one.safetensors", "a").files.keys() == {"one.safetensors"}
