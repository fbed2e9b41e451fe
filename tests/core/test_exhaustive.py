"""All 65536 x 65536 pairs of f16 and of bf16, added: every kernel, portable C and numpy.

- Portable C is compared with numpy, and every other ISA level with portable C.
- Which NaN numpy returns depends on how it was compiled; rule B (numerics.md) is put in its place.
- Work is dealt to threads by ranges of the second operand; kernels and numpy release the GIL.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vbuild._core import BF16, F16, Kernels, cpu_features

LEVELS = [f for f in cpu_features() if f in ("avx2", "avx512", "neon")]
PATTERNS = np.arange(65536, dtype="<u2")
AT_ONCE = 4  # second operands per call: 512 KiB per array


def quiet_nans(bit: int, infinity: int) -> tuple[np.ndarray, np.ndarray]:
    """Which patterns are NaN, and all patterns with the quiet bit set."""
    magnitude = PATTERNS & np.uint16(0x7FFF)
    return magnitude > infinity, PATTERNS | np.uint16(bit)


def numpy_f16_sums(b: np.ndarray) -> np.ndarray:
    """``PATTERNS + b[i]`` in row i, as patterns, by numpy's f16 addition."""
    is_nan, quiet = quiet_nans(0x0200, 0x7C00)
    sums: np.ndarray = (PATTERNS.view("<f2")[np.newaxis, :] + b.view("<f2")[:, np.newaxis]).view(
        "<u2"
    )
    sums[:, is_nan] = quiet[is_nan]
    for row, pattern in enumerate(b.tolist()):
        if is_nan[pattern]:
            sums[row] = quiet[pattern]
        elif pattern & 0x7FFF == 0x7C00:
            sums[row, pattern ^ 0x8000] = 0xFE00
    return sums


def numpy_bf16_sums(b: np.ndarray) -> np.ndarray:
    """``PATTERNS + b[i]`` in row i, as patterns, through f32 and rounded here."""

    def wide(patterns: np.ndarray) -> np.ndarray:
        shifted: np.ndarray = patterns.astype("<u4") << np.uint32(16)
        return shifted.view("<f4")

    u = (wide(PATTERNS)[np.newaxis, :] + wide(b)[:, np.newaxis]).view("<u4")
    is_nan = (u & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    u += np.uint32(0x7FFF) + (u >> np.uint32(16) & np.uint32(1))
    sums: np.ndarray = (u >> np.uint32(16)).astype("<u2")
    sums[is_nan] = 0x7FC0
    return sums


def differing(check: Callable[[np.ndarray], bool]) -> list[int]:
    """The groups of second operands (by their first) for which ``check`` finds a difference."""

    def run(start: int) -> int | None:
        with np.errstate(all="ignore"):
            return None if check(PATTERNS[start : start + AT_ONCE]) else start

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [s for s in pool.map(run, range(0, 65536, AT_ONCE)) if s is not None]


@pytest.mark.parametrize(
    ("type_", "oracle"), [(F16, numpy_f16_sums), (BF16, numpy_bf16_sums)], ids=["f16", "bf16"]
)
def test_every_pair_adds_alike_in_numpy_portable_c_and_every_other_kernel(
    type_: int, oracle: Callable[[np.ndarray], np.ndarray]
) -> None:
    portable, others = Kernels("portable"), [Kernels(level) for level in LEVELS]
    a = np.tile(PATTERNS, AT_ONCE).tobytes()

    def agree(b: np.ndarray) -> bool:
        repeated = np.repeat(b, 65536).tobytes()
        expected = portable.add(type_, a, type_, repeated)
        return oracle(b).tobytes() == expected[0] and all(
            kernels.add(type_, a, type_, repeated) == expected for kernels in others
        )

    assert differing(agree) == []
