"""What products, means, blocks and differences have to be: independent models of the kernels.

- Products are made of Python's integers, with one rounding per step (``exact_arith``).
- Means, blocks and differences are numpy's: every step is an IEEE operation on whole arrays.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass

import numpy as np

from tests.support.exact_arith import FORMATS
from vbuild._core import BF16, F16, F32, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0

__all__ = [
    "BLOCK_BYTES",
    "NAN",
    "Differing",
    "expected_blocks",
    "expected_difference",
    "expected_mean",
    "expected_product",
    "multiply_add",
]

NAN = 0x7FC00000  # what every NaN result of a product or mean is
BLOCK_BYTES = {Q4_0: 18, Q4_1: 20, Q5_0: 22, Q5_1: 24, Q8_0: 34}

# ---- products ----


def multiply_add(a: int, b: int, c: int) -> int:
    """The pattern of a * b + c for patterns of f32, rounded once."""
    f = FORMATS[F32]
    if f.is_nan(a) or f.is_nan(b) or f.is_nan(c):
        return NAN
    negative = bool((a ^ b) & f.sign)
    if not f.is_finite(a) or not f.is_finite(b):
        infinity = f.infinity | (f.sign if negative else 0)
        zero = not (a & (f.sign - 1) and b & (f.sign - 1))
        return NAN if zero or (not f.is_finite(c) and c != infinity) else infinity
    if not f.is_finite(c):
        return c
    # Products are multiples of 2^-298, so nothing is shifted out.
    total = (f.decode(a) * f.decode(b) >> 1074) + f.decode(c)
    return f.encode(total, negative_zero=negative and bool(c & f.sign))


def expected_product(left: np.ndarray, right: np.ndarray, scale: float) -> bytes:
    """The bytes of ``scale * left @ right`` of f32, summed in ascending order of the terms."""
    rows, rank = left.shape
    a, b = left.view("<u4").tolist(), right.view("<u4").T.tolist()
    factor = struct.unpack("<I", struct.pack("<f", scale))[0]
    result = []
    for row in a:
        for column in b:
            total = 0
            for k in range(rank):
                total = multiply_add(row[k], column[k], total)
            # Adding -0 is multiplying: it leaves every product as it is, zeros too.
            result.append(multiply_add(total, factor, FORMATS[F32].sign))
    assert len(result) == rows * right.shape[1]
    return np.array(result, "<u4").tobytes()


# ---- means ----


def _cascade(rows: np.ndarray) -> np.ndarray:
    """The sum of rows by torch's four levels."""
    count, levels = len(rows), np.zeros((4, rows.shape[1]), np.float32)
    power = max(4, (max(count, 1) - 1).bit_length() // 4)
    for i, row in enumerate(rows, 1):
        levels[0] += row
        for j in (1, 2, 3):
            if i % (1 << power * j):
                break
            levels[j] += levels[j - 1]
            levels[j - 1] = 0
    return levels[0] + levels[1] + levels[2] + levels[3]


def expected_mean(matrix: np.ndarray) -> bytes:
    """The bytes of the mean of the rows, in the order of ``torch.mean(dim=0)`` on x86-64."""
    rows, cols = matrix.shape
    rest = cols % (4 if cols < 8 else 32)
    whole = rows // 4 * 4
    with np.errstate(all="ignore"):
        sums = _cascade(matrix[:, : cols - rest])
        tail = matrix[:, cols - rest :]
        quarters = _cascade(tail[:whole].reshape(rows // 4, 4 * rest)).reshape(4, rest)
        for row in tail[whole:]:
            quarters[0] += row
        for quarter in quarters[1:]:
            quarters[0] += quarter
        mean = np.concatenate([sums, quarters[0]]) / np.float32(rows)
    return np.where(np.isnan(mean), np.uint32(NAN), mean.view("<u4")).astype("<u4").tobytes()


# ---- blocks ----


def _scales(type_: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Each block's scale, and its smallest element if the type keeps it."""

    def take(i: np.ndarray) -> np.ndarray:
        taken: np.ndarray = np.take_along_axis(x, i[:, np.newaxis], 1)
        return taken

    if type_ == Q8_0:
        return np.abs(take(np.abs(x).argmax(1))) / np.float32(127), None
    if type_ in (Q4_0, Q5_0):
        return take(np.abs(x).argmax(1)) / np.float32(-8 if type_ == Q4_0 else -16), None
    low = take(x.argmin(1))
    return (take(x.argmax(1)) - low) / np.float32(15 if type_ == Q4_1 else 31), low


def _quants(type_: int, x: np.ndarray, inverse: np.ndarray, low: np.ndarray | None) -> np.ndarray:
    if type_ == Q8_0:
        v = x * inverse
        whole = np.trunc(v)
        away: np.ndarray = whole + np.copysign(np.abs(v - whole) >= 0.5, v)
        return away.astype(np.int8).view(np.uint8)
    top = 15 if type_ in (Q4_0, Q4_1) else 31
    if low is None:
        v = x * inverse + np.float32((top + 1) / 2 + 0.5)
    else:
        v = (x - low) * inverse + np.float32(0.5)
    return np.minimum(np.trunc(v), top).astype(np.uint8)


def expected_blocks(type_: int, values: np.ndarray) -> tuple[bytes, int | None]:
    """The blocks of f32 values, and the index that the kernel reports."""
    x = values.reshape(-1, 32)
    bad = ~np.isfinite(x)
    with np.errstate(all="ignore"):
        scale, low = _scales(type_, x)
        inverse = np.where(scale == 0, np.float32(0), 1 / scale)
        none = ~np.isfinite(scale) | ~np.isfinite(inverse) | bad.any(1, keepdims=True)
        q = np.where(none, 0, _quants(type_, np.where(none, 0, x), np.where(none, 0, inverse), low))
        stored = np.concatenate([scale] if low is None else [scale, low], 1).astype("<f2")
    parts = [stored.view(np.uint8)]
    if type_ in (Q5_0, Q5_1):
        parts.append(np.packbits(q >> 4, axis=1, bitorder="little"))
    parts.append(q if type_ == Q8_0 else (q[:, :16] & 15) | (q[:, 16:] & 15) << 4)
    blocks = np.concatenate(parts, 1).astype(np.uint8)
    blocks[bad.any(1)] = 0
    blocks[bad.any(1), 1] = 0x7E
    for i in np.flatnonzero(bad.any(1) | ~np.isfinite(stored).all(1)).tolist():
        inside = np.flatnonzero(bad[i])
        return blocks.tobytes(), 32 * i + (int(inside[0]) if inside.size else 0)
    return blocks.tobytes(), None


# ---- differences ----


@dataclass(frozen=True, slots=True)
class Differing:
    """The fields of ``_core.Difference``; ``serialize`` gives those of ``vb_difference``."""

    count: int = 0
    first: int = 0
    first_bits: tuple[int, int] = (0, 0)
    max_ulp: int = 0
    max_ulp_at: int = 0
    max_abs: float = 0.0
    max_abs_at: int = 0
    unordered: int = 0

    def serialize(self) -> bytes:
        """All fields, eight bytes each."""
        count, first, bits, *rest = astuple(self)
        return struct.pack("<6QdQQ", count, first, *bits, *rest)


def _numbers(type_: int, patterns: np.ndarray) -> np.ndarray:
    """Patterns as f64."""
    if type_ == BF16:
        return (patterns.astype("<u4") << 16).view("<f4").astype(np.float64)
    floats = {F16: "<f2", F32: "<f4", F64: "<f8"}[type_]
    return patterns.view(floats).astype(np.float64)


def _places(type_: int, patterns: np.ndarray) -> np.ndarray:
    """Patterns in the order of the numbers that they are."""
    sign = FORMATS[type_].sign
    wide = patterns.astype(np.uint64)
    magnitude = wide & np.uint64(sign - 1)
    return np.where(wide >= sign, np.uint64(sign) - magnitude, np.uint64(sign) + magnitude)


def expected_difference(type_: int | None, itemsize: int, a: bytes, b: bytes) -> Differing:
    """How elements of an arithmetic type, or opaque items (None), differ."""
    x, y = (np.frombuffer(data, f"<u{itemsize}") for data in (a, b))
    differ = np.flatnonzero(x != y)
    if not differ.size:
        return Differing()
    first = int(differ[0])
    bits = (int(x[first]), int(y[first]))
    if type_ is None:
        return Differing(differ.size, first, bits)
    with np.errstate(all="ignore"):
        p, q = _numbers(type_, x), _numbers(type_, y)
        nan = np.isnan(p) | np.isnan(q)
        distance = np.where(nan | (x == y), 0, np.abs(p - q))
    i, j = _places(type_, x), _places(type_, y)
    ulp = np.where(nan, np.uint64(0), np.maximum(i, j) - np.minimum(i, j))
    return Differing(
        count=differ.size,
        first=first,
        first_bits=bits,
        max_ulp=int(ulp.max()),
        max_ulp_at=int(ulp.argmax()),
        max_abs=float(distance.max()),
        max_abs_at=int(distance.argmax()),
        unordered=int((nan & (x != y)).sum()),
    )
