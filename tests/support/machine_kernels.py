"""Products, means, blocks and differences as the model of the segment machine needs them.

What they have to be is said in :mod:`tests.support.kernel_models`; products are done here on whole
arrays, because the model has large ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.support.kernel_models import (
    BLOCK_BYTES,
    NAN,
    Differing,
    expected_blocks,
    expected_difference,
    expected_mean,
)

__all__ = ["BLOCK_BYTES", "blocks", "differences", "mean_of_rows", "product"]

Floats = NDArray[np.floating]
Bits = NDArray[np.unsignedinteger]


def _fused(a: Floats, b: Floats, c: Floats) -> Floats:
    """``a * b + c`` of f32, rounded once: by way of f64, rounded to odd (Boldo and Melquiond)."""
    exact = a.astype("<f8") * b.astype("<f8")
    wide = c.astype("<f8")
    total = exact + wide
    back = total - exact
    error = (exact - (total - back)) + (wide - back)
    even = (total.view("<u8") & np.uint64(1)) == 0
    inexact = np.isfinite(total) & (error != 0) & even
    to_odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where(inexact, to_odd, total).astype("<f4")


def product(left: Floats, right: Floats, scale: np.float32) -> Floats:
    """``scale * left @ right`` in the order that the format says."""
    with np.errstate(all="ignore"):
        total = np.zeros((left.shape[0], right.shape[1]), "<f4")
        for k in range(left.shape[1]):
            total = _fused(left[:, k, None], right[k][None, :], total)
        made = (total * scale).astype("<f4")
    return np.where(np.isnan(made), np.uint32(NAN), made.view("<u4")).astype("<u4").view("<f4")


def mean_of_rows(rows: Floats) -> Floats:
    """The mean over the first axis."""
    return np.frombuffer(expected_mean(np.ascontiguousarray(rows, "<f4")), "<f4")


def blocks(values: Floats, type_: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The stored bytes, and where the first element is that counts as not finite."""
    data, bad = expected_blocks(type_, values.astype("<f4"))
    where = np.zeros(values.size, bool)
    if bad is not None:
        where[bad] = True
    return np.frombuffer(data, np.uint8), where


def differences(pieces: Sequence[tuple[int, Bits, Bits]]) -> Differing:
    """What is to be reported of these pieces of a tensor: type, a, b."""
    total, at = Differing(), 0
    for type_, a, b in pieces:
        known = None if type_ > 3 else type_
        total = _merged(total, expected_difference(known, a.itemsize, a.tobytes(), b.tobytes()), at)
        at += a.size
    return total


def _merged(one: Differing, two: Differing, at: int) -> Differing:
    """Both; the second begins at element ``at``. What is equal is told of the first."""
    first = one if one.count else two
    ulp, apart = one, one
    if two.max_ulp > one.max_ulp:
        ulp = two
    if two.max_abs > one.max_abs:
        apart = two
    return Differing(
        count=one.count + two.count,
        first=first.first + (at if first is two and two.count else 0),
        first_bits=first.first_bits,
        max_ulp=ulp.max_ulp,
        max_ulp_at=ulp.max_ulp_at + (at if ulp is two else 0),
        max_abs=apart.max_abs,
        max_abs_at=apart.max_abs_at + (at if apart is two else 0),
        unordered=one.unordered + two.unordered,
    )
