"""An exact oracle for the arithmetic of floating-point elements, and the values that test it.

- Every finite value of f16, bf16, f32 and f64 is a whole number of 2^-1074, so sums are sums of
  Python integers, and rounding to nearest even is a shift with a look at what falls off.
- Nothing here uses a floating-point number.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vbuild._core import BF16, F16, F32, F64


@dataclass(frozen=True, slots=True)
class Format:
    """A binary interchange format: its width, and the bits of its fraction field."""

    name: str
    bits: int
    fraction: int

    @property
    def sign(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def infinity(self) -> int:
        return self.sign - (1 << self.fraction)

    @property
    def quiet(self) -> int:
        return 1 << (self.fraction - 1)

    @property
    def unit(self) -> int:
        """The smallest subnormal is 2^unit times 2^-1074."""
        bias = (1 << (self.bits - 2 - self.fraction)) - 1
        return 1075 - bias - self.fraction

    @property
    def dtype(self) -> str:
        return f"<u{self.bits // 8}"

    def is_nan(self, pattern: int) -> bool:
        return pattern & (self.sign - 1) > self.infinity

    def is_finite(self, pattern: int) -> bool:
        return pattern & (self.sign - 1) < self.infinity

    def decode(self, pattern: int) -> int:
        """The value of a finite pattern, in units of 2^-1074."""
        exponent = (pattern & (self.sign - 1)) >> self.fraction
        significand = pattern & ((1 << self.fraction) - 1)
        if exponent:
            significand |= 1 << self.fraction
        value = significand << (max(exponent, 1) - 1 + self.unit)
        return -value if pattern & self.sign else value

    def encode(self, value: int, negative_zero: bool = False) -> int:
        """The nearest pattern to value x 2^-1074, ties to even; infinity if beyond the largest."""
        magnitude = abs(value)
        shift = max(magnitude.bit_length() - 1 - self.fraction, self.unit)
        quotient, rest = magnitude >> shift, magnitude & ((1 << shift) - 1)
        half = 1 << shift >> 1
        if rest > half or (rest == half and half and quotient & 1):
            quotient += 1
        pattern = min(((shift - self.unit) << self.fraction) + quotient, self.infinity)
        return pattern | (self.sign if value < 0 or (value == 0 and negative_zero) else 0)

    def nan_from(self, other: "Format", pattern: int) -> int:
        """A NaN of another format here: quiet, with the sign and the leading payload bits."""
        if self.name == "bf16":
            return 0x7FC0
        payload = pattern & ((1 << other.fraction) - 1)
        payload = payload << self.fraction >> other.fraction
        sign = self.sign if pattern & other.sign else 0
        return sign | self.infinity | self.quiet | payload


FORMATS = {
    F16: Format("f16", 16, 10),
    BF16: Format("bf16", 16, 7),
    F32: Format("f32", 32, 23),
    F64: Format("f64", 64, 52),
}


def exact_arithmetic(operation: str, a_type: int, a: int, b_type: int, b: int) -> int:
    """One element of add or sub: one rounding in the common type, one to a's, rule B for NaN."""
    out, other = FORMATS[a_type], FORMATS[b_type]
    common = FORMATS[F64 if F64 in (a_type, b_type) else F32]
    if other.is_nan(b):
        return out.nan_from(other, b)
    if out.is_nan(a):
        return out.nan_from(out, a)
    a_negative = bool(a & out.sign)
    b_negative = bool(b & other.sign) != (operation == "sub")
    if not out.is_finite(a) or not other.is_finite(b):
        if not out.is_finite(a) and not other.is_finite(b) and a_negative != b_negative:
            default = out.sign | out.infinity | out.quiet
            return 0x7FC0 if a_type == BF16 else default
        negative = b_negative if out.is_finite(a) else a_negative
        return out.infinity | (out.sign if negative else 0)
    total = out.decode(a) + (other.decode(b) if operation == "add" else -other.decode(b))
    wide = common.encode(total, negative_zero=a_negative and b_negative)
    if not common.is_finite(wide):
        return out.infinity | (out.sign if wide & common.sign else 0)
    return out.encode(common.decode(wide), negative_zero=bool(wide & common.sign))


def exact_conversion(from_type: int, pattern: int, to_type: int) -> int:
    """One element converted: one rounding; the same type is a copy."""
    source, target = FORMATS[from_type], FORMATS[to_type]
    if from_type == to_type:
        return pattern
    if source.is_nan(pattern):
        return target.nan_from(source, pattern)
    negative = bool(pattern & source.sign)
    if not source.is_finite(pattern):
        return target.infinity | (target.sign if negative else 0)
    return target.encode(source.decode(pattern), negative_zero=negative)


def first(flags: list[bool]) -> int | None:
    return flags.index(True) if True in flags else None


def expected_arithmetic(
    operation: str, a_type: int, a: list[int], b_type: int, b: list[int]
) -> tuple[bytes, int | None]:
    out = FORMATS[a_type]
    result = [exact_arithmetic(operation, a_type, x, b_type, y) for x, y in zip(a, b, strict=True)]
    return pack(a_type, result), first([not out.is_finite(r) for r in result])


def expected_conversion(
    from_type: int, patterns: list[int], to_type: int
) -> tuple[bytes, int | None]:
    source, target = FORMATS[from_type], FORMATS[to_type]
    result = [exact_conversion(from_type, p, to_type) for p in patterns]
    overflows = [
        source.is_finite(p) and not target.is_finite(r)
        for p, r in zip(patterns, result, strict=True)
    ]
    return pack(to_type, result), first(overflows)


def pack(type_: int, patterns: list[int]) -> bytes:
    return np.array(patterns, dtype=FORMATS[type_].dtype).tobytes()


def magnitudes(f: Format) -> Iterator[int]:
    """Patterns without sign where something can go wrong."""
    one = f.encode(1 << 1074)
    smallest_normal, infinity = 1 << f.fraction, f.infinity
    yield from (0, 1, 2, 3, smallest_normal - 1, smallest_normal, smallest_normal + 1)
    yield from (one - 1, one, one + 1, one + 2, one | f.quiet, infinity - 2, infinity - 1)
    yield from (infinity, infinity + 1, infinity + f.quiet - 1, infinity + (f.quiet >> 1))
    yield from (infinity + f.quiet, infinity + f.quiet + 3, f.sign - 1)
    # Half a unit in the last place of the largest: added, it decides whether that overflows.
    half = 1 << (f.unit + (infinity >> f.fraction) - 3)
    yield from (f.encode(half), f.encode(half) - 1, f.encode(half) + 1)


def ties(f: Format, narrow: Format) -> Iterator[int]:
    """Patterns of f at and just beside the middle between two neighbours of a narrower format."""
    one, smallest_normal = narrow.encode(1 << 1074), 1 << narrow.fraction
    for lower in (0, 1, 2, smallest_normal - 1, smallest_normal, one, one + 1, narrow.infinity - 1):
        gap = 1 << (max(lower >> narrow.fraction, 1) - 1 + narrow.unit)
        middle = narrow.decode(lower) + (gap >> 1)
        pattern = f.encode(middle)
        yield from (max(pattern - 1, 0), pattern, pattern + 1)


@functools.cache
def specials(type_: int) -> list[int]:
    f = FORMATS[type_]
    found = set(magnitudes(f))
    for narrow in FORMATS.values():
        if narrow.fraction < f.fraction and narrow.bits < f.bits:
            found.update(ties(f, narrow))
    return sorted(found | {p | f.sign for p in found})
