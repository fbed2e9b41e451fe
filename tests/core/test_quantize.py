"""Blocks of GGUF, at every ISA level that this CPU has.

- The ``gguf`` package is the oracle; a numpy model (tests/support/kernel_models.py) takes its place
  where it is not installed, and where gguf leaves the answer to the machine: elements that are not
  finite, and which of -0 and +0 is the smaller.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.environments import Environment, every_environment
from tests.support.exact_arith import specials
from tests.support.kernel_models import BLOCK_BYTES, expected_blocks
from vbuild._core import F32, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Kernels, cpu_features

LEVELS = ["portable", *(f for f in cpu_features() if f in ("avx2", "avx512", "neon"))]
TYPES = {Q4_0: "Q4_0", Q4_1: "Q4_1", Q5_0: "Q5_0", Q5_1: "Q5_1", Q8_0: "Q8_0"}
STEPS = {Q4_0: 16, Q4_1: 15, Q5_0: 32, Q5_1: 31, Q8_0: 254}  # from the lowest to the highest

every_level = pytest.mark.parametrize("level", LEVELS)
every_type = pytest.mark.parametrize("type_", TYPES, ids=TYPES.values())


def random_blocks() -> np.ndarray:
    """Blocks of magnitudes from those that vanish to those that overflow."""
    rng = np.random.default_rng(1)
    scale = np.exp2(np.arange(-150.0, 122, 0.25))
    return (rng.standard_normal((scale.size, 32)) * scale[:, np.newaxis] * 4).astype("<f4")


def halfway_blocks(type_: int) -> np.ndarray:
    """Elements at the middle between two quants, and just beside it, for many scales."""
    rng = np.random.default_rng(2)
    steps = STEPS[type_]
    rows = []
    for i in range(400):
        top = np.float32(rng.random() + 0.5) * np.float32(2.0 ** rng.integers(-20, 3))
        unit = top / np.float32(127 if type_ == Q8_0 else steps / 2)
        places = rng.integers(0, steps, 32) - steps // 2 + 0.5
        row = (places * unit).astype("<f4")
        row = (row.view("<i4") + rng.integers(-2, 3, 32, "i4")).view("<f4")
        row[i % 32] = -top if type_ in (Q4_0, Q5_0) and i % 2 else top
        rows.append(row)
    return np.array(rows)


def edge_blocks() -> np.ndarray:
    """Zeros of both signs, constants, equal magnitudes, subnormals, the largest numbers."""
    largest, tiny = np.finfo(np.float32).max, 2.0**-149
    one = [[1.0] * 32, [-1.0] * 32, [1.0, -1.0] * 16, [-1.0, 1.0] * 16, [0.0] * 31 + [1.0]]
    rows = [[0.0] * 32, [-0.0] * 32, *one]
    rows += [[largest, -largest] * 16, [largest] * 32, [-largest] * 16 + [0.0] * 16]
    rows += [
        [sign * tiny * n] * 16 + [0.0] * 16 for n in (1, 2, 3, 7, 8, 9, 64) for sign in (1, -1)
    ]
    rows += [[2.0**e * x for x in range(-16, 16)] for e in range(-149, 124)]
    # Scales at and beside the largest f16, and reciprocals at and beside the largest f32.
    for top in (65519.996, 65520.0, 65504.0, 2.0**-128, 2.0**-127.5):
        for steps in (-8, -16, 15, 31, 127):
            value = np.float32(top) * np.float32(steps)
            rows += [[v] + [0.0] * 31 for v in (value, np.nextafter(value, 0, dtype=np.float32))]
    return np.array(rows, "<f4")


@every_level
@every_type
@pytest.mark.parametrize("kind", ["random", "halfway", "edge"])
def test_blocks_are_those_of_the_model(level: str, type_: int, kind: str) -> None:
    values = {"random": random_blocks, "edge": edge_blocks}.get(
        kind, lambda: halfway_blocks(type_)
    )()
    assert Kernels(level).quantize(type_, values) == expected_blocks(type_, values)


@pytest.mark.oracle
@every_level
@every_type
@pytest.mark.parametrize("kind", ["random", "halfway", "edge", "weights"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # gguf converts infinities to integers
def test_blocks_are_those_of_gguf(level: str, type_: int, kind: str) -> None:
    quants = pytest.importorskip("gguf.quants")
    constants = pytest.importorskip("gguf.constants")
    weights = np.random.default_rng(3).standard_normal((64, 4096)) * 0.02
    values = {
        "random": random_blocks(),
        "halfway": halfway_blocks(type_),
        "edge": edge_blocks(),
        "weights": weights.astype(np.float16).astype("<f4"),
    }[kind]
    theirs = quants.quantize(values, constants.GGMLQuantizationType[TYPES[type_]])
    assert Kernels(level).quantize(type_, values)[0] == theirs.tobytes()


@every_level
@given(data=st.data())
def test_blocks_of_any_patterns_are_those_of_the_model(level: str, data: st.DataObject) -> None:
    type_ = data.draw(st.sampled_from(list(TYPES)))
    patterns = st.integers(0, (1 << 32) - 1) | st.sampled_from(specials(F32))
    few = data.draw(st.lists(patterns, min_size=1, max_size=8))
    blocks = data.draw(st.integers(0, 4))
    values = np.random.default_rng(len(few)).choice(np.array(few, "<u4"), 32 * blocks).view("<f4")
    assert Kernels(level).quantize(type_, values) == expected_blocks(type_, values)


@every_level
@every_type
def test_the_first_of_equal_zeros_is_the_smallest(level: str, type_: int) -> None:
    rng = np.random.default_rng(4)
    zeros = np.where(rng.random((200, 32)) < 0.5, -0.0, 0.0).astype("<f4")
    zeros[100:, 7] = 1
    zeros[150:, 9] = -1
    assert Kernels(level).quantize(type_, zeros) == expected_blocks(type_, zeros)


@every_level
@every_type
@pytest.mark.parametrize("pattern", [0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001])
def test_an_element_that_is_not_finite_is_found_at_every_position(
    level: str, type_: int, pattern: int
) -> None:
    size, kernels = BLOCK_BYTES[type_], Kernels(level)
    for position in range(64):
        values = np.ones(96, "<f4")
        values.view("<u4")[[position, 95]] = pattern
        blocks, index = kernels.quantize(type_, values)
        assert index == position
        at = position // 32 * size
        assert blocks[at : at + size] == b"\0\x7e" + bytes(size - 2)
        assert (blocks, index) == expected_blocks(type_, values)


@every_level
@every_type
def test_a_block_whose_scale_overflows_is_reported_by_its_first_element(
    level: str, type_: int
) -> None:
    values = np.ones((5, 32), "<f4")
    values[2, 17], values[3, 4], values[4, 1] = 1e8, 1e8, np.inf
    blocks, index = Kernels(level).quantize(type_, values)
    assert index == 64
    at = 2 * BLOCK_BYTES[type_]
    assert np.isinf(np.frombuffer(blocks[at : at + 2], "<f2"))


@every_level
@pytest.mark.parametrize("type_", [Q4_1, Q5_1])
def test_a_block_whose_minimum_overflows_is_reported_too(level: str, type_: int) -> None:
    values = np.full(64, -65520.0, "<f4")
    values[:32] = -65519.0
    blocks, index = Kernels(level).quantize(type_, values)
    assert index == 32
    at = BLOCK_BYTES[type_]
    assert blocks[at : at + 4] == b"\0\0\0\xfc"


@every_level
@every_type
@pytest.mark.parametrize("offset", [1, 2, 3, 5])
def test_misaligned_elements_give_the_same_blocks(level: str, type_: int, offset: int) -> None:
    values = random_blocks()[-30:]
    moved = memoryview(bytes(offset) + values.tobytes())[offset:]
    kernels = Kernels(level)
    assert kernels.quantize(type_, moved) == kernels.quantize(type_, values)


@every_level
@every_type
@every_environment
def test_the_callers_environment_does_not_reach_the_bits(
    level: str, type_: int, environment: Environment
) -> None:
    kernels, values = Kernels(level), np.concatenate([random_blocks(), edge_blocks()])
    expected = expected_blocks(type_, values)
    with environment():
        found = kernels.quantize(type_, values)
    assert found == expected


def test_types_without_blocks_and_broken_blocks_are_refused() -> None:
    kernels = Kernels("portable")
    for type_ in (0, 2, 31, 32, 33, 36, 37, 41, 1000, -1):
        with pytest.raises(ValueError, match="no such block type"):
            kernels.quantize(type_, b"")
    with pytest.raises(ValueError, match="not a whole number of blocks"):
        kernels.quantize(Q8_0, bytes(132))
    assert kernels.quantize(Q8_0, b"") == (b"", None)
