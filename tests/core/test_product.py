"""Low-rank products of the core, at every ISA level that this CPU has.

- Exact arithmetic on integers says what a product is (tests/support/kernel_models.py).
- The C library's ``fmaf`` is the second oracle for a single step.
- Where shapes matter and not values, levels are compared with portable C.
"""

import ctypes
import ctypes.util
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.environments import Environment, every_environment
from tests.support.exact_arith import FORMATS, specials
from tests.support.kernel_models import NAN, expected_product, multiply_add
from vbuild._core import F32, Kernels, cpu_features

FAST = [f for f in cpu_features() if f in ("avx2", "avx512", "neon")]
every_level = pytest.mark.parametrize("level", ["portable", *FAST])
every_fast_level = pytest.mark.parametrize("level", FAST)


def f32(patterns: list[int]) -> np.ndarray:
    return np.array(patterns, "<u4").view("<f4")


def random_matrix(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """Numbers of magnitude about 1, and some of every magnitude."""
    matrix = rng.standard_normal((rows, cols))
    far = np.exp2(rng.integers(-149, 125, (rows, cols)))
    return np.where(rng.random((rows, cols)) < 0.1, matrix * far, matrix).astype("<f4")


def product(level: str, left: np.ndarray, right: np.ndarray, scale: float = 1.0) -> bytes:
    return Kernels(level).product(left, right, *left.shape, right.shape[1], scale)


def steps(level: str, a: list[int], b: list[int], c: list[int]) -> list[list[int]]:
    """``a[i] * b[j] + c[i]``: two terms, of which the first is ``c[i] * 1``."""
    one = FORMATS[F32].encode(1 << 1074)
    left = f32([x for pair in zip(c, a, strict=True) for x in pair]).reshape(-1, 2)
    right = f32([one] * len(b) + b).reshape(2, -1)
    patterns = np.frombuffer(product(level, left, right), "<u4")
    return patterns.reshape(len(a), len(b)).tolist()


@every_level
def test_a_step_with_special_values_is_rounded_once(level: str) -> None:
    rng = np.random.default_rng(1)
    values = specials(F32)
    a, b, c = (rng.permutation(values).tolist() for _ in range(3))
    c = [x for x in c if x != FORMATS[F32].sign]  # +0 + -0 * 1 would be +0
    a = a[: len(c)]
    assert steps(level, a, b, c) == [
        [multiply_add(x, y, z) for y in b] for x, z in zip(a, c, strict=True)
    ]


@every_level
def test_a_step_that_two_roundings_get_wrong_is_rounded_once(level: str) -> None:
    """Products just beside half a unit in the last place of what they are added to."""
    f = FORMATS[F32]
    a, b, c = [], [], []
    for exponent, odd, up in itertools.product((127, 200, 40, 25), (0, 1), (-1, 1)):
        for distance in range(1, 12):
            # (1 + d)(1 - d) = 1 - d^2 is below 1 by less than double sees beside the addend.
            a.append((127 << 23) + distance)
            below = f.encode(f.decode(127 << 23) - (distance << 1074 - 23))
            b.append((below if up < 0 else (127 << 23) + distance) + (exponent - 127 - 24 << 23))
            c.append((exponent << 23) + odd | (f.sign if distance % 2 else 0))
    got = steps(level, a, b, c)
    expected = [[multiply_add(x, y, z) for y in b] for x, z in zip(a, c, strict=True)]
    assert got == expected
    twice = (f32(a).astype(float) * f32(b) + f32(c)).astype("<f4").view("<u4").tolist()
    assert any(twice[i] != expected[i][i] for i in range(len(a)))


@every_level
def test_random_steps_are_those_of_the_c_library(level: str) -> None:
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    libm.fmaf.restype, libm.fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    rng = np.random.default_rng(2)
    a, b, c = (random_matrix(rng, 1, 150)[0] for _ in range(3))
    expected = [[libm.fmaf(x, y, z) for y in b.tolist()] for x, z in zip(a, c, strict=True)]
    got = steps(level, *(x.view("<u4").tolist() for x in (a, b, c)))
    assert got == np.array(expected, "<f4").view("<u4").tolist()


@every_level
@given(data=st.data())
def test_any_product_of_any_patterns_follows_exact_arithmetic(
    level: str, data: st.DataObject
) -> None:
    rows, rank, cols = (data.draw(st.integers(0, n)) for n in (4, 4, 20))
    patterns = st.integers(0, (1 << 32) - 1) | st.sampled_from(specials(F32))

    def matrix(rows: int, cols: int) -> np.ndarray:
        size = rows * cols
        return f32(data.draw(st.lists(patterns, min_size=size, max_size=size))).reshape(rows, cols)

    left, right = matrix(rows, rank), matrix(rank, cols)
    scale = float(f32([data.draw(patterns)])[0])
    expected = expected_product(left, right, scale)
    assert product(level, left, right, scale) == expected


@every_level
def test_terms_are_added_in_ascending_order(level: str) -> None:
    rng = np.random.default_rng(3)
    left, right = random_matrix(rng, 2, 300), random_matrix(rng, 300, 35)
    assert product(level, left, right, 0.75) == expected_product(left, right, 0.75)


@every_fast_level
def test_every_shape_gives_the_bits_of_portable_c(level: str) -> None:
    rng = np.random.default_rng(4)
    shapes = [
        *itertools.product(range(15), (0, 1, 2, 5), (0, 1, 3, 4, 15, 16, 17, 31, 33, 64, 65, 127)),
        *itertools.product((1, 2, 6, 7, 13), (127, 128, 129, 256, 257, 385), (16, 47, 64, 80)),
    ]
    for rows, rank, cols in shapes:
        left, right = random_matrix(rng, rows, rank), random_matrix(rng, rank, cols)
        expected = product("portable", left, right, -0.3)
        assert product(level, left, right, -0.3) == expected, (rows, rank, cols)


@every_level
@pytest.mark.parametrize("offset", [1, 2, 3, 13])
def test_misaligned_operands_give_the_same_bytes(level: str, offset: int) -> None:
    rng = np.random.default_rng(5)
    left, right = random_matrix(rng, 9, 20), random_matrix(rng, 20, 150)
    moved = [memoryview(bytes(offset) + m.tobytes())[offset:] for m in (left, right)]
    assert Kernels(level).product(*moved, 9, 20, 150, 2.0) == product(level, left, right, 2.0)


@every_level
@pytest.mark.parametrize("pattern", [0x7F800001, 0xFFC12345, 0x7FC00000, 0xFFFFFFFF])
def test_every_nan_result_is_the_one_nan(level: str, pattern: int) -> None:
    nan = f32([pattern])
    one, many = np.ones((1, 1), "<f4"), np.ones((1, 37), "<f4")
    expected = np.full(37, NAN, "<u4").tobytes()
    assert product(level, nan.reshape(1, 1), many) == expected
    assert product(level, one, np.repeat(nan, 37).reshape(1, 37)) == expected
    assert product(level, one, many, float(nan[0])) == expected
    assert product(level, one, many * np.inf, 0.0) == expected
    assert product(level, one * np.inf, many * 0, 1.0) == expected


@every_level
def test_a_product_of_no_terms_is_zero_with_the_sign_of_the_scale(level: str) -> None:
    for scale, pattern in ((2.0, 0), (-2.0, 0x80000000), (math.inf, NAN)):
        result = Kernels(level).product(b"", b"", 7, 0, 67, scale)
        assert result == np.full(7 * 67, pattern, "<u4").tobytes()


@every_level
@every_environment
def test_the_callers_environment_does_not_reach_the_bits(
    level: str, environment: Environment
) -> None:
    kernels, rng = Kernels(level), np.random.default_rng(6)
    left = (random_matrix(rng, 7, 5) * np.float32(2**-120)).astype("<f4")
    right = random_matrix(rng, 5, 70)
    expected = expected_product(left, right, 2**-20)
    with environment():
        found = kernels.product(left, right, 7, 5, 70, 2**-20)
    assert found == expected


def test_operands_of_another_size_are_refused() -> None:
    kernels = Kernels("portable")
    for left, right in ((bytes(20), bytes(24)), (bytes(24), bytes(28))):
        with pytest.raises(ValueError, match="an operand is not"):
            kernels.product(left, right, 2, 3, 2, 1.0)
