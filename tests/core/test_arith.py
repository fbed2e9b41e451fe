"""Addition, subtraction, conversion and XOR of the core, at every ISA level that this CPU has.

- The first oracle is exact arithmetic on integers (tests/support/exact_arith.py).
- numpy is the second oracle, for the types that it has; its NaN results are not used, because
  which NaN an addition returns depends on how numpy was compiled.
"""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.environments import Environment, every_environment
from tests.support.exact_arith import (
    FORMATS,
    Format,
    expected_arithmetic,
    expected_conversion,
    pack,
    specials,
    ties,
)
from vbuild._core import BF16, F16, F32, F64, Kernels, cpu_features

LEVELS = ["portable", *(f for f in cpu_features() if f in ("avx2", "avx512", "neon")), "native"]
TYPES = {F16: "f16", BF16: "bf16", F32: "f32", F64: "f64"}
PAIRS = list(itertools.product(TYPES, TYPES))

every_level = pytest.mark.parametrize("level", LEVELS)
every_operation = pytest.mark.parametrize("operation", ["add", "sub"])
every_pair = pytest.mark.parametrize(
    "pair", PAIRS, ids=[f"{TYPES[a]}-{TYPES[b]}" for a, b in PAIRS]
)


def arithmetic(
    level: str, operation: str, a_type: int, a: bytes, b_type: int, b: bytes
) -> tuple[bytes, int | None]:
    kernels = Kernels(level)
    kernel = kernels.add if operation == "add" else kernels.sub
    return kernel(a_type, a, b_type, b)


@functools.cache
def special_sums(
    operation: str, a_type: int, b_type: int
) -> tuple[bytes, bytes, tuple[bytes, int | None]]:
    crossed = list(itertools.product(specials(a_type), specials(b_type)))
    a, b = [x for x, _ in crossed], [y for _, y in crossed]
    return pack(a_type, a), pack(b_type, b), expected_arithmetic(operation, a_type, a, b_type, b)


@every_level
@every_operation
@every_pair
def test_special_values_add_and_subtract_as_exact_arithmetic_says(
    level: str, operation: str, pair: tuple[int, int]
) -> None:
    a, b, expected = special_sums(operation, *pair)
    result, index = arithmetic(level, operation, pair[0], a, pair[1], b)
    dtype = FORMATS[pair[0]].dtype
    wrong = np.flatnonzero(np.frombuffer(result, dtype) != np.frombuffer(expected[0], dtype))
    assert wrong.tolist() == []
    assert index == expected[1]


@every_level
@every_pair
def test_special_values_convert_as_exact_arithmetic_says(level: str, pair: tuple[int, int]) -> None:
    values = specials(pair[0])
    result = Kernels(level).convert(pair[0], pack(pair[0], values), pair[1])
    assert result == expected_conversion(pair[0], values, pair[1])


@every_level
@pytest.mark.parametrize("to_type", TYPES, ids=TYPES.values())
@pytest.mark.parametrize("from_type", [F16, BF16], ids=["f16", "bf16"])
def test_every_16_bit_pattern_converts_as_exact_arithmetic_says(
    level: str, from_type: int, to_type: int
) -> None:
    values = list(range(65536))
    result = Kernels(level).convert(from_type, pack(from_type, values), to_type)
    assert result == expected_conversion(from_type, values, to_type)


def operands(a_type: int, b_type: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    def patterns(type_: int) -> st.SearchStrategy[int]:
        random = st.integers(0, (1 << FORMATS[type_].bits) - 1)
        return random | st.sampled_from(specials(type_))

    return st.lists(st.tuples(patterns(a_type), patterns(b_type)), max_size=200)


@every_level
@every_operation
@given(data=st.data())
def test_any_patterns_of_any_length_follow_exact_arithmetic(
    level: str, operation: str, data: st.DataObject
) -> None:
    a_type, b_type = data.draw(st.sampled_from(PAIRS))
    both = data.draw(operands(a_type, b_type))
    a, b = [x for x, _ in both], [y for _, y in both]
    result = arithmetic(level, operation, a_type, pack(a_type, a), b_type, pack(b_type, b))
    assert result == expected_arithmetic(operation, a_type, a, b_type, b)


@every_level
@given(data=st.data())
def test_any_patterns_of_any_length_convert_exactly(level: str, data: st.DataObject) -> None:
    from_type, to_type = data.draw(st.sampled_from(PAIRS))
    values = [x for x, _ in data.draw(operands(from_type, from_type))]
    result = Kernels(level).convert(from_type, pack(from_type, values), to_type)
    assert result == expected_conversion(from_type, values, to_type)


# ---- numpy as the oracle ----


def random_bytes(nbytes: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(nbytes)


def rule_b(a: np.ndarray, b: np.ndarray, total: np.ndarray, f: Format) -> np.ndarray:
    """The patterns of a sum, given those of its operands in the same format."""
    unsigned = a.dtype.type
    magnitude, infinity = unsigned(f.sign - 1), unsigned(f.infinity)
    result = np.where(
        (total & magnitude) > infinity, unsigned(f.sign | f.infinity | f.quiet), total
    )
    result = np.where((a & magnitude) > infinity, a | unsigned(f.quiet), result)
    return np.where((b & magnitude) > infinity, b | unsigned(f.quiet), result)


def round_to_bf16(wide: np.ndarray) -> np.ndarray:
    """bf16 patterns of f32 values, to nearest even."""
    u = wide.view("<u4").astype(np.uint64)
    rounded = ((u + 0x7FFF + (u >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype("<u2")
    return np.where(np.isnan(wide), np.uint16(0x7FC0), rounded)


@every_level
@every_operation
@pytest.mark.parametrize("type_", [F16, F32, F64], ids=["f16", "f32", "f64"])
def test_random_patterns_of_one_type_agree_with_numpy(
    level: str, operation: str, type_: int
) -> None:
    f = FORMATS[type_]
    size, floats = f.bits // 8, f"<f{f.bits // 8}"
    a, b = random_bytes(500_003 * size, 1), random_bytes(500_003 * size, 2)
    x, y = np.frombuffer(a, floats), np.frombuffer(b, floats)
    with np.errstate(all="ignore"):
        total = x + y if operation == "add" else x - y
    expected = rule_b(x.view(f.dtype), y.view(f.dtype), total.view(f.dtype), f)
    result, index = arithmetic(level, operation, type_, a, type_, b)
    assert result == expected.tobytes()
    assert index == int(np.flatnonzero(~np.isfinite(total))[0])


@every_level
@every_operation
def test_random_bf16_patterns_agree_with_numpy_through_f32(level: str, operation: str) -> None:
    a, b = random_bytes(1_000_006, 3), random_bytes(1_000_006, 4)
    x = (np.frombuffer(a, "<u2").astype("<u4") << 16).view("<f4")
    y = (np.frombuffer(b, "<u2").astype("<u4") << 16).view("<f4")
    with np.errstate(all="ignore"):
        total = x + y if operation == "add" else x - y
    result, _ = arithmetic(level, operation, BF16, a, BF16, b)
    assert result == round_to_bf16(total).tobytes()


@every_level
@pytest.mark.parametrize(
    ("from_type", "to_type"),
    [(F32, F16), (F64, F16), (F64, F32), (F16, F64), (F32, F64), (F16, F32)],
    ids=lambda type_: TYPES[type_],
)
def test_random_numbers_convert_as_numpy_converts(level: str, from_type: int, to_type: int) -> None:
    source, target = FORMATS[from_type], FORMATS[to_type]
    values = np.random.default_rng(5).standard_normal(200_003) * np.exp2(
        np.random.default_rng(6).integers(-30, 18, 200_003)
    )
    with np.errstate(all="ignore"):
        narrow = values.astype(f"<f{source.bits // 8}")
        expected = narrow.astype(f"<f{target.bits // 8}")
    overflows = np.flatnonzero(np.isfinite(narrow) & ~np.isfinite(expected))
    result, index = Kernels(level).convert(from_type, narrow.tobytes(), to_type)
    assert result == expected.tobytes()
    assert index == (int(overflows[0]) if overflows.size else None)


# ---- where an element lies does not matter ----


@every_level
@every_operation
@every_pair
@pytest.mark.parametrize("offset", [1, 2, 3, 5])
def test_misaligned_operands_give_the_same_bytes(
    level: str, operation: str, pair: tuple[int, int], offset: int
) -> None:
    n = 131
    a = random_bytes(n * FORMATS[pair[0]].bits // 8, 7)
    b = random_bytes(n * FORMATS[pair[1]].bits // 8, 8)
    kernels = Kernels(level)
    kernel = kernels.add if operation == "add" else kernels.sub
    moved_a = memoryview(bytes(offset) + a)[offset:]
    moved_b = memoryview(bytes(8 + offset) + b)[8 + offset :]
    assert kernel(pair[0], moved_a, pair[1], moved_b) == kernel(pair[0], a, pair[1], b)
    assert kernels.convert(pair[0], moved_a, pair[1]) == kernels.convert(pair[0], a, pair[1])


@every_level
@every_pair
@pytest.mark.parametrize("kind", ["overflow", "infinity", "nan"])
def test_the_first_nonfinite_result_is_found_at_every_position(
    level: str, pair: tuple[int, int], kind: str
) -> None:
    a_format, b_format = FORMATS[pair[0]], FORMATS[pair[1]]
    n = 67
    kernels = Kernels(level)
    zeros = pack(pair[1], [0] * n)
    largest = a_format.encode(a_format.decode(a_format.infinity - 1))
    for position in range(n):
        a, b = [largest] * n, [0] * n
        for i in {position, (position + n) // 2, n - 1}:
            if kind == "overflow":
                b[i] = b_format.encode(a_format.decode(largest))
            else:
                b[i] = b_format.infinity + (kind == "nan")
        expected = expected_arithmetic("add", pair[0], a, pair[1], b)
        assert kernels.add(pair[0], pack(pair[0], a), pair[1], pack(pair[1], b)) == expected
    assert kernels.add(pair[0], pack(pair[0], [largest] * n), pair[1], zeros)[1] is None


@every_level
@pytest.mark.parametrize(
    ("from_type", "to_type"),
    [(BF16, F16), (F32, F16), (F32, BF16), (F64, F16), (F64, BF16), (F64, F32)],
    ids=lambda type_: TYPES[type_],
)
def test_the_first_overflow_is_found_at_every_position(
    level: str, from_type: int, to_type: int
) -> None:
    source, target, n = FORMATS[from_type], FORMATS[to_type], 67
    largest, kernels = source.infinity - 1, Kernels(level)
    for position in range(n):
        # Infinities and NaN that were there before are not overflows.
        values = [source.infinity, source.infinity + 1, 0] * n
        values = [*values[:position], largest, *values[position : n - 2], largest]
        result = kernels.convert(from_type, pack(from_type, values), to_type)
        assert result == expected_conversion(from_type, values, to_type)
        assert result[1] == position
    for edge in itertools.islice(reversed(list(ties(source, target))), 3):
        for pattern in (edge, edge | source.sign):
            values = [pattern] * n
            result = kernels.convert(from_type, pack(from_type, values), to_type)
            assert result == expected_conversion(from_type, values, to_type)


@every_level
@every_pair
def test_no_elements_give_no_bytes(level: str, pair: tuple[int, int]) -> None:
    kernels = Kernels(level)
    assert kernels.add(pair[0], b"", pair[1], b"") == (b"", None)
    assert kernels.sub(pair[0], b"", pair[1], b"") == (b"", None)
    assert kernels.convert(pair[0], b"", pair[1]) == (b"", None)
    assert kernels.xor(b"", b"") == b""


@every_level
@given(data=st.data())
def test_xor_is_that_of_the_bytes_as_one_number(level: str, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 400))
    a, b = (data.draw(st.binary(min_size=n, max_size=n)) for _ in range(2))
    result = Kernels(level).xor(a, b)
    assert result == (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(n)
    assert Kernels(level).xor(memoryview(b"?" + result)[1:], b) == a


# ---- the caller's floating-point environment ----


@every_level
@every_environment
def test_the_callers_environment_does_not_reach_the_bits(
    level: str, environment: Environment
) -> None:
    kernels = Kernels(level)
    given = [(pair, special_sums("add", *pair)) for pair in PAIRS]
    values = {type_: pack(type_, specials(type_)) for type_ in TYPES}
    expected = [sums[2] for _, sums in given]
    expected += [expected_conversion(f, specials(f), t) for f, t in PAIRS]
    with environment():
        found = [kernels.add(pair[0], sums[0], pair[1], sums[1]) for pair, sums in given]
        found += [kernels.convert(f, values[f], t) for f, t in PAIRS]
    assert found == expected
