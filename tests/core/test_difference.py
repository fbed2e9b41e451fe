"""How two streams of elements differ, at every ISA level that this CPU has.

The oracle is numpy: a model of all fields (tests/support/kernel_models.py), and ``nextafter`` for
what a step from a value to the next is.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.environments import Environment, every_environment
from tests.support.exact_arith import FORMATS, pack, specials
from tests.support.kernel_models import Differing, expected_difference
from vbuild._core import BF16, F16, F32, F64, Kernels, cpu_features

LEVELS = ["portable", *(f for f in cpu_features() if f in ("avx2", "avx512", "neon"))]
TYPES = {F16: "f16", BF16: "bf16", F32: "f32", F64: "f64"}
LENGTHS = [*range(70), 1023, 1024, 1025, 2047, 2100, 5000]

every_level = pytest.mark.parametrize("level", LEVELS)
every_type = pytest.mark.parametrize("type_", TYPES, ids=TYPES.values())
every_size = pytest.mark.parametrize("size", [1, 2, 4, 8])


def itemsize(type_: int) -> int:
    return FORMATS[type_].bits // 8


def difference(level: str, type_: int, a: bytes, b: bytes, piece: int = 0) -> Differing:
    found = Kernels(level).difference(type_, a, b, piece)
    return Differing(**{name: getattr(found, name) for name in Differing.__slots__})


def raw_difference(level: str, size: int, a: bytes, b: bytes, piece: int = 0) -> Differing:
    found = Kernels(level).difference_raw(size, a, b, piece)
    return Differing(**{name: getattr(found, name) for name in Differing.__slots__})


def close_streams(type_: int, count: int, seed: int) -> tuple[bytes, bytes]:
    """Weights, and the same with every third a few steps away."""
    rng = np.random.default_rng(seed)
    dtype = FORMATS[type_].dtype
    one = FORMATS[type_].encode(1 << 1074)
    a = (one + rng.integers(-50, 50, count)).astype(dtype)
    steps = np.where(rng.random(count) < 1 / 3, rng.integers(-40, 40, count), 0)
    return a.tobytes(), (a.astype(np.int64) + steps).astype(dtype).tobytes()


@every_level
@every_type
def test_special_values_differ_as_the_model_says(level: str, type_: int) -> None:
    values = specials(type_)
    for shift in range(len(values)):
        a, b = pack(type_, values), pack(type_, values[shift:] + values[:shift])
        assert difference(level, type_, a, b) == expected_difference(type_, itemsize(type_), a, b)


@every_level
@every_type
def test_each_pair_of_special_values_differs_as_the_model_says(level: str, type_: int) -> None:
    values = specials(type_)[::3]
    for a in values:
        for b in values:
            p, q = pack(type_, [0, a]), pack(type_, [0, b])
            expected = expected_difference(type_, itemsize(type_), p, q)
            assert difference(level, type_, p, q) == expected


@every_level
@every_type
@pytest.mark.parametrize("kind", ["random", "close"])
def test_streams_of_every_length_differ_as_the_model_says(
    level: str, type_: int, kind: str
) -> None:
    size = itemsize(type_)
    for n in LENGTHS:
        rng = np.random.default_rng(n)
        a, b = rng.bytes(n * size), rng.bytes(n * size)
        if kind == "close":
            a, b = close_streams(type_, n, n)
        assert difference(level, type_, a, b) == expected_difference(type_, size, a, b)


@every_level
@every_size
def test_opaque_items_of_every_length_differ_as_the_model_says(level: str, size: int) -> None:
    for n in LENGTHS:
        rng = np.random.default_rng(n)
        a, mask = rng.bytes(n * size), rng.integers(0, 256, n * size, "u1")
        mask[rng.random(n * size) < 0.8] = 0
        b = (np.frombuffer(a, "u1") ^ mask).tobytes()
        assert raw_difference(level, size, a, b) == expected_difference(None, size, a, b)


@every_level
@given(data=st.data())
def test_any_patterns_cut_anywhere_differ_as_the_model_says(
    level: str, data: st.DataObject
) -> None:
    type_ = data.draw(st.sampled_from(list(TYPES)))
    random = st.integers(0, (1 << FORMATS[type_].bits) - 1)
    pattern = random | st.sampled_from(specials(type_))
    pair = st.tuples(pattern, pattern) | pattern.map(lambda p: (p, p))
    both = data.draw(st.lists(pair, max_size=100))
    a, b = pack(type_, [x for x, _ in both]), pack(type_, [y for _, y in both])
    piece = data.draw(st.integers(0, 60))
    expected = expected_difference(type_, itemsize(type_), a, b)
    assert difference(level, type_, a, b, piece) == expected


@every_level
@every_type
def test_a_step_is_one_to_the_next_value(level: str, type_: int) -> None:
    if type_ == BF16:
        start, after = np.float32(1).view("<u4") >> 16, lambda v, _: v + 1
        values = [np.uint16(start)]
    else:
        start, after = np.dtype(f"<f{itemsize(type_)}").type(-4e-8), np.nextafter
        values = [start]
    for _ in range(40):
        values.append(after(values[-1], values[-1].dtype.type(4)))
    for steps, value in enumerate(values):
        found = difference(level, type_, values[0].tobytes(), value.tobytes())
        assert found.max_ulp == steps


@every_level
@every_type
@pytest.mark.parametrize("at", [0, 1, 500, 1023, 1024, 3000])
def test_of_equal_maxima_the_first_is_named(level: str, type_: int, at: int) -> None:
    f, n = FORMATS[type_], 4000
    one = f.encode(1 << 1074)
    a = np.full(n, one, f.dtype)
    b = a.copy()
    b[at:] = one + 7
    b[n - 1] = one - 7
    found = difference(level, type_, a.tobytes(), b.tobytes(), 1300)
    assert found == expected_difference(type_, itemsize(type_), a.tobytes(), b.tobytes())
    assert (found.first, found.max_ulp_at, found.max_abs_at) == (at, at, at)


@every_level
@every_type
def test_zeros_of_both_signs_differ_and_are_not_apart(level: str, type_: int) -> None:
    a = pack(type_, [0] * 5)
    b = pack(type_, [0, 0, FORMATS[type_].sign, 0, FORMATS[type_].sign])
    assert difference(level, type_, a, b) == Differing(
        count=2, first=2, first_bits=(0, FORMATS[type_].sign)
    )


@every_level
@every_type
def test_a_nan_is_unordered_only_where_bits_differ(level: str, type_: int) -> None:
    nan = FORMATS[type_].infinity | 1
    a, b = pack(type_, [nan, nan, 0, 5]), pack(type_, [nan, nan + 1, nan, 5])
    assert difference(level, type_, a, b) == Differing(
        count=2, first=1, first_bits=(nan, nan + 1), unordered=2
    )


@every_level
@every_type
def test_infinity_is_infinitely_far_and_one_step_beyond_the_largest(level: str, type_: int) -> None:
    infinity = FORMATS[type_].infinity
    found = difference(level, type_, pack(type_, [infinity - 1]), pack(type_, [infinity]))
    assert (found.max_ulp, found.max_abs) == (1, float("inf"))


@every_level
@every_type
@pytest.mark.parametrize("offset", [1, 2, 3, 5])
def test_misaligned_streams_differ_alike(level: str, type_: int, offset: int) -> None:
    a, b = close_streams(type_, 1500, 9)
    moved = memoryview(bytes(offset) + a)[offset:]
    other = memoryview(bytes(offset + 8) + b)[offset + 8 :]
    assert difference(level, type_, moved, other) == difference(level, type_, a, b)


@every_level
@every_type
@every_environment
def test_the_callers_environment_does_not_reach_the_result(
    level: str, type_: int, environment: Environment
) -> None:
    kernels = Kernels(level)
    a, b = pack(type_, range(1, 200)), pack(type_, range(3, 202))
    expected = expected_difference(type_, itemsize(type_), a, b)
    with environment():
        found = kernels.difference(type_, a, b)
    assert Differing(**{name: getattr(found, name) for name in Differing.__slots__}) == expected


def test_streams_of_another_length_and_unknown_types_are_refused() -> None:
    kernels = Kernels("portable")
    with pytest.raises(ValueError, match="differ in length"):
        kernels.difference(F32, bytes(8), bytes(4))
    with pytest.raises(ValueError, match="differ in length"):
        kernels.difference_raw(8, bytes(12), bytes(12))
    with pytest.raises(ValueError, match="no such arithmetic type"):
        kernels.difference(7, b"", b"")
    for size in (0, 3, 16):
        with pytest.raises(ValueError, match="no items of"):
            kernels.difference_raw(size, b"", b"")
