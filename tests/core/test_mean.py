"""Means of rows: the bits of torch's, wherever the stream of rows is cut.

- torch.mean on the CPU is the oracle; a numpy model of its order (tests/support/kernel_models.py)
  takes its place where torch is not installed.
- A matrix of one column is left out: torch sums it in another order.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.environments import Environment, every_environment
from tests.support.kernel_models import NAN, expected_mean
from vbuild._core import mean


def random_matrix(rows: int, cols: int) -> np.ndarray:
    rng = np.random.default_rng((rows, cols))
    return rng.standard_normal((rows, cols), np.float32) * np.float32(0.02)


SHAPES = [(32000, 64), (32001, 64), (777, 130), (777, 140), (4999, 96), (300, 7), (65539, 5)]
SHAPES += [(rows, cols) for rows in range(1, 71, 3) for cols in (2, 5, 8, 31, 32, 33, 70)]


@pytest.mark.parametrize(("rows", "cols"), [s for s in SHAPES if s[0] < 10_000])
def test_a_mean_is_that_of_the_model(rows: int, cols: int) -> None:
    matrix = random_matrix(rows, cols)
    assert mean(matrix, rows, cols) == expected_mean(matrix)


@pytest.mark.oracle
@pytest.mark.parametrize("threads", [1, 3])
def test_a_mean_is_that_of_torch(threads: int) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows, cols in [*SHAPES, (49953, 96), *[(32000, 4096)] * (threads > 1)]:
            matrix = random_matrix(rows, cols)
            theirs = torch.from_numpy(matrix).mean(dim=0, keepdim=True).numpy()
            assert mean(matrix, rows, cols) == theirs.tobytes(), (rows, cols)
    finally:
        torch.set_num_threads(before)


@pytest.mark.oracle
def test_the_model_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for rows, cols in [s for s in SHAPES if s[0] < 10_000]:
        matrix = random_matrix(rows, cols)
        assert expected_mean(matrix) == torch.from_numpy(matrix).mean(dim=0).numpy().tobytes()


@given(st.integers(1, 600), st.integers(1, 70), st.integers(1, 3000))
def test_where_the_rows_are_cut_does_not_matter(rows: int, cols: int, piece: int) -> None:
    matrix = random_matrix(rows, cols)
    assert mean(matrix, rows, cols, piece) == mean(matrix, rows, cols)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_misaligned_rows_give_the_same_bytes(offset: int) -> None:
    matrix = random_matrix(70, 45)
    moved = memoryview(bytes(offset) + matrix.tobytes())[offset:]
    assert mean(moved, 70, 45) == mean(matrix, 70, 45)


def test_negative_zeros_have_a_positive_mean() -> None:
    matrix = np.full((37, 40), -0.0, "<f4")
    assert mean(matrix, 37, 40) == bytes(160)


def test_every_nan_result_is_the_one_nan() -> None:
    matrix = random_matrix(50, 36)
    matrix[20, 1::2] = np.array([0xFF800001], "<u4").view("<f4")
    matrix[3, ::2] = np.inf
    matrix[40, ::2] = -np.inf
    assert mean(matrix, 50, 36) == np.full(36, NAN, "<u4").tobytes()
    assert mean(b"", 0, 3) == np.full(3, NAN, "<u4").tobytes()


def test_a_sum_beyond_the_largest_number_has_an_infinite_mean() -> None:
    matrix = np.full((5, 9), np.finfo(np.float32).max)
    assert mean(matrix, 5, 9) == np.full(9, np.inf, "<f4").tobytes()


def test_no_columns_have_no_mean() -> None:
    assert mean(b"", 5, 0) == b""


@every_environment
def test_the_callers_environment_does_not_reach_the_bits(environment: Environment) -> None:
    matrix = (random_matrix(777, 37) * np.float32(2**-140)).astype("<f4")
    expected = expected_mean(matrix)
    with environment():
        found = mean(matrix, 777, 37, 1000)
    assert found == expected


def test_rows_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="an operand is not"):
        mean(bytes(24), 2, 2)
