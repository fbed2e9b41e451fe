"""Products, means of rows, blocks and differences in numpy, for the model of the segment machine.

Written from docs/reference/table-format.md and what it refers to; nothing is shared with vbuild.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_SIZES", "Found", "blocks", "differences", "mean_of_rows", "product"]

Floats = NDArray[np.floating]
Bits = NDArray[np.unsignedinteger]
QUIET = np.array([0x7FC00000], "<u4").view("<f4")[0]
BLOCK_SIZES = {34: 18, 35: 20, 38: 22, 39: 24, 40: 34}


def _one_nan(values: Floats) -> Floats:
    return np.where(np.isnan(values), QUIET, values.astype("<f4"))


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
        return _one_nan(total * scale)


def _cascade(rows: Floats, power: int) -> Floats:
    """The sum of rows: what 2^power sums of a level have given goes on one level higher."""
    levels = [np.zeros(rows.shape[1], "<f4") for _ in range(4)]
    for i, row in enumerate(rows, start=1):
        levels[0] = levels[0] + row
        for level in range(1, 4):
            if i % (1 << level * power):
                break
            levels[level] = levels[level] + levels[level - 1]
            levels[level - 1] = np.zeros(rows.shape[1], "<f4")
    return ((levels[0] + levels[1]) + levels[2]) + levels[3]


def _power(n: int) -> int:
    """``ceil(log2(n)) / 4``, at least 4."""
    return max(4, (n - 1).bit_length() // 4)


def mean_of_rows(rows: Floats) -> Floats:
    """torch's mean over the first axis (``_core/mean.h``)."""
    n, columns = rows.shape
    rest = columns % (4 if columns < 8 else 32)
    whole, quarters = columns - rest, n // 4
    with np.errstate(all="ignore"):
        sums = [_cascade(rows[:, :whole], _power(n))]
        if rest:
            side_by_side = rows[: 4 * quarters, whole:].reshape(quarters, 4 * rest)
            four = _cascade(side_by_side, _power(quarters)).reshape(4, rest)
            first = four[0]
            for row in rows[4 * quarters :, whole:]:
                first = first + row
            sums.append(((first + four[1]) + four[2]) + four[3])
        return _one_nan(np.concatenate(sums) / np.float32(n))


def _halves(q: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Four bits of elements i and i + 16 in a byte."""
    return (q[:, :16] & 15) | (q[:, 16:] << 4)


def _fifth_bits(q: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.packbits(q >> 4, axis=1, bitorder="little")


def _scaled(x: Floats, scale: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """``x`` over ``scale``, and which rows have no number to divide by."""
    inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    return x * inverse, ~(np.isfinite(scale) & np.isfinite(inverse)).ravel()


def _quants(x: Floats, none: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(none[:, None], 0, np.trunc(x)).astype(np.int64).astype(np.uint8)


def _first_of(x: Floats, at: NDArray[np.intp]) -> Floats:
    return np.take_along_axis(x, at[:, None], axis=1)


def _pack(x: Floats, type_: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.bool_]]:
    """The bytes of the blocks of finite ``x``, column by column; and which have no finite scale."""
    if type_ == 40:
        scale = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
        scaled, none = _scaled(x, scale)
        away = np.trunc(np.abs(scaled))
        away = np.copysign(away + (np.abs(scaled) - away >= 0.5), scaled)
        offset, stored = np.empty((len(x), 0), "<f2"), _quants(away, none)
        return _with_scales(scale, offset, [stored])
    five = type_ in (38, 39)
    top = 31 if five else 15
    if type_ in (34, 38):
        half = np.float32(16 if five else 8)
        scale = _first_of(x, np.abs(x).argmax(axis=1)) / -half
        scaled, none = _scaled(x, scale)
        offset, values = np.empty((len(x), 0), "<f2"), scaled + (half + np.float32(0.5))
    else:
        low = _first_of(x, x.argmin(axis=1))
        scale = (_first_of(x, x.argmax(axis=1)) - low) / np.float32(top)
        scaled, none = _scaled(x - low, scale)
        offset, values = low.astype("<f2"), scaled + np.float32(0.5)
    q = _quants(np.minimum(values, top), none)
    return _with_scales(scale, offset, [*([_fifth_bits(q)] if five else []), _halves(q)])


def _with_scales(
    scale: Floats, offset: Floats, rest: list[NDArray[np.uint8]]
) -> tuple[list[NDArray[np.uint8]], NDArray[np.bool_]]:
    heads = np.concatenate([scale.astype("<f2"), offset], axis=1)
    return [heads.view(np.uint8), *rest], ~np.isfinite(heads).all(axis=1)


def blocks(values: Floats, type_: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The stored bytes, and for each element whether it is one that counts as not finite."""
    x = values.astype("<f4").reshape(-1, 32)
    finite = np.isfinite(x)
    whole = finite.all(axis=1)
    with np.errstate(all="ignore"):
        columns, beyond = _pack(np.where(whole[:, None], x, np.float32(0)), type_)
    made = np.concatenate(columns, axis=1)
    made[~whole] = 0
    made[~whole, 1] = 0x7E
    bad = ~finite
    bad[beyond & whole, 0] = True
    return made.ravel(), bad.ravel()


@dataclass(frozen=True, slots=True)
class Found:
    """How two streams of elements differ (``_core/vb.h``, vb_difference)."""

    count: int = 0
    first: int = 0
    first_bits: tuple[int, int] = (0, 0)
    max_ulp: int = 0
    max_ulp_at: int = 0
    max_abs: float = 0.0
    max_abs_at: int = 0
    unordered: int = 0


def _value(bits: int, type_: int) -> float:
    if type_ == 1:
        bits, type_ = bits << 16, 2
    form = {0: "<u2 <f2", 2: "<u4 <f4", 3: "<u8 <f8"}[type_].split()
    return float(np.array([bits], form[0]).view(form[1])[0])


def _place(bits: int, type_: int) -> int:
    """An integer that has the order of the numbers."""
    sign = {0: 1 << 15, 1: 1 << 15, 2: 1 << 31, 3: 1 << 63}[type_]
    return bits if bits < sign else sign - bits


def differences(pieces: Sequence[tuple[int, Bits, Bits]]) -> Found:
    """What is to be reported of these pieces of a tensor: type, a, b."""
    count = first = max_ulp = ulp_at = abs_at = unordered = 0
    bits, max_abs, at = (0, 0), 0.0, 0
    for type_, a, b in pieces:
        for i in np.flatnonzero(a != b):
            x, y = int(a[i]), int(b[i])
            index = at + int(i)
            if count == 0:
                first, bits = index, (x, y)
            count += 1
            if type_ > 3:
                continue
            p, q = _value(x, type_), _value(y, type_)
            if math.isnan(p) or math.isnan(q):
                unordered += 1
                continue
            steps, apart = abs(_place(x, type_) - _place(y, type_)), abs(p - q)
            if steps > max_ulp:
                max_ulp, ulp_at = steps, index
            if apart > max_abs:
                max_abs, abs_at = apart, index
        at += len(a)
    return Found(count, first, bits, max_ulp, ulp_at, max_abs, abs_at, unordered)
