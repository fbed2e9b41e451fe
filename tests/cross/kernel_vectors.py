"""Operands for the core's kernels, as a file for ``vbkernels``, and what has to come out.

- Expected elements come from exact arithmetic on integers, digests from hashlib, means, blocks and
  differences from numpy; nothing here runs a kernel of vbuild.
- The form of the two files is described at the top of ``vbkernels.c``.
- The same vectors on every machine and at every ISA level: they depend on nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.support.exact_arith import (
    FORMATS,
    expected_arithmetic,
    expected_conversion,
    pack,
    specials,
)
from tests.support.kernel_models import (
    BLOCK_BYTES,
    expected_blocks,
    expected_difference,
    expected_mean,
    expected_product,
)
from vbuild._core import F32

__all__ = ["Vector", "all_vectors", "differences", "write_vectors"]

ADD, SUB, CONVERT, XOR, SHA256, PRODUCT, MEAN, QUANTIZE, DIFFERENCE = range(1, 10)
NEW, INTO_A, INTO_B = range(3)
DEFAULT, UPWARD, FLUSH = range(3)
OPERATIONS = {"add": ADD, "sub": SUB}
PAIRS = list(itertools.product(FORMATS, FORMATS))
RAW = 16  # VB_RAW1
TAIL = 67  # elements: whole vectors of every instruction set, and a tail


@dataclass(frozen=True, slots=True)
class Vector:
    """One call. ``index`` is what the kernel returns, ``expected`` what it stores."""

    name: str
    operation: int
    a_type: int
    b_type: int
    count: int
    payload: bytes
    index: int
    expected: bytes
    into: int = NEW
    shift: int = 0
    environment: int = DEFAULT
    piece: int = 0

    def serialize(self) -> bytes:
        """Its bytes in the file."""
        head = struct.pack(
            "<6I2Q",
            self.operation,
            self.a_type,
            self.b_type,
            self.into,
            self.shift,
            self.environment,
            self.count,
            self.piece,
        )
        return head + self.payload


def _pair(a_type: int, b_type: int) -> str:
    return f"{FORMATS[a_type].name}-{FORMATS[b_type].name}"


def arithmetic(operation: str, a_type: int, a: list[int], b_type: int, b: list[int]) -> Vector:
    """A sum or difference of bit patterns."""
    expected, index = expected_arithmetic(operation, a_type, a, b_type, b)
    name = f"{operation} {_pair(a_type, b_type)}"
    payload = pack(a_type, a) + pack(b_type, b)
    found = len(a) if index is None else index
    return Vector(name, OPERATIONS[operation], a_type, b_type, len(a), payload, found, expected)


def conversion(from_type: int, values: list[int], to_type: int) -> Vector:
    """Bit patterns in another type."""
    expected, index = expected_conversion(from_type, values, to_type)
    found = len(values) if index is None else index
    name, payload = f"convert {_pair(from_type, to_type)}", pack(from_type, values)
    return Vector(name, CONVERT, from_type, to_type, len(values), payload, found, expected)


def xor(a: bytes, b: bytes) -> Vector:
    """The XOR of bytes, by Python's integers."""
    expected = (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(len(a))
    return Vector(f"xor of {len(a)} bytes", XOR, 0, 0, len(a), a + b, len(a), expected)


def sha256(name: str, messages: Sequence[bytes], piece: int = 0, shift: int = 0) -> Vector:
    """Messages hashed side by side, ``piece`` bytes of each at a time."""
    sizes = struct.pack(f"<{len(messages)}Q", *map(len, messages))
    digests = b"".join(hashlib.sha256(m).digest() for m in messages)
    payload, n = sizes + b"".join(messages), len(messages)
    return Vector(
        f"sha256 {name}, by {piece}", SHA256, 0, 0, n, payload, n, digests, shift=shift, piece=piece
    )


def product(left: np.ndarray, right: np.ndarray, scale: float) -> Vector:
    """A low-rank product."""
    (rows, rank), cols = left.shape, right.shape[1]
    head = struct.pack("<2Qf", rank, cols, scale)
    expected = expected_product(left, right, scale)
    payload = head + left.tobytes() + right.tobytes()
    name = f"product {rows} x {rank} x {cols}"
    return Vector(name, PRODUCT, F32, F32, rows, payload, rows, expected)


def mean(matrix: np.ndarray, piece: int) -> Vector:
    """The mean of rows, ``piece`` elements at a time."""
    rows, cols = matrix.shape
    payload = struct.pack("<Q", cols) + matrix.tobytes()
    name = f"mean of {rows} x {cols} by {piece}"
    expected = expected_mean(matrix)
    return Vector(name, MEAN, F32, F32, rows, payload, rows, expected, piece=piece)


def quantization(type_: int, values: np.ndarray) -> Vector:
    """f32 as blocks."""
    expected, index = expected_blocks(type_, values)
    count = values.size // 32
    found = values.size if index is None else index
    name = f"quantize to {type_}"
    return Vector(name, QUANTIZE, type_, type_, count, values.tobytes(), found, expected)


def difference(type_: int, a: bytes, b: bytes, piece: int) -> Vector:
    """How two streams differ; types from ``RAW`` on are opaque items of 1, 2, 4, 8 bytes."""
    raw = type_ >= RAW
    size = 1 << type_ - RAW if raw else FORMATS[type_].bits // 8
    expected = expected_difference(None if raw else type_, size, a, b).serialize()
    count, name = len(a) // size, f"difference of type {type_} by {piece}"
    return Vector(name, DIFFERENCE, type_, type_, count, a + b, count, expected, piece=piece)


def _special_values() -> Iterator[Vector]:
    for a_type, b_type in PAIRS:
        crossed = list(itertools.product(specials(a_type), specials(b_type)))
        a, b = [x for x, _ in crossed], [y for _, y in crossed]
        for operation in OPERATIONS:
            yield arithmetic(operation, a_type, a, b_type, b)
        yield conversion(a_type, specials(a_type), b_type)


def _every_16_bit_pattern() -> Iterator[Vector]:
    for from_type, to_type in PAIRS:
        if FORMATS[from_type].bits == 16:
            yield conversion(from_type, list(range(65536)), to_type)


def _patterns(rng: np.random.Generator, type_: int, count: int) -> list[int]:
    """Random ones; every third a special value, another third of magnitude about 1."""
    f = FORMATS[type_]
    values = (
        rng.integers(0, 1 << f.bits, count, dtype=np.uint64, endpoint=False)
        if (f.bits < 64)
        else np.frombuffer(rng.bytes(8 * count), "<u8")
    )
    one = f.encode(1 << 1074)
    spread = (1 << f.fraction + 2) - 1
    special = specials(type_)
    return [
        special[v % len(special)]
        if i % 3 == 0
        else (v & (f.sign | spread)) + (one & ~spread)
        if i % 3 == 1
        else v
        for i, v in enumerate(values.tolist())
    ]


def _random_values() -> Iterator[Vector]:
    rng = np.random.default_rng(1)
    for a_type, b_type in PAIRS:
        a, b = _patterns(rng, a_type, 2003), _patterns(rng, b_type, 2003)
        rng.shuffle(b)
        for operation in OPERATIONS:
            yield arithmetic(operation, a_type, a, b_type, b)
        yield conversion(a_type, a, b_type)


def _variants(vector: Vector) -> Iterator[Vector]:
    """The same call elsewhere in memory, in place, and in other floating-point environments."""
    for shift in (1, 2, 3, 13):
        yield replace(vector, name=f"{vector.name}, {shift} bytes out of line", shift=shift)
    for name, environment in (("rounding upward", UPWARD), ("flushing to zero", FLUSH)):
        yield replace(vector, name=f"{vector.name}, {name}", environment=environment)
    size = len(vector.expected)
    if vector.operation == CONVERT:
        in_place = [INTO_A] * (len(vector.payload) == size)
    else:
        in_place = [INTO_A] + [INTO_B] * (len(vector.payload) == 2 * size)
    for into in in_place:
        yield replace(vector, name=f"{vector.name}, into {'-ab'[into]}", into=into)


def _places() -> Iterator[Vector]:
    """Every position of the first non-finite result, and every length up to ``TAIL``."""
    for a_type, b_type in PAIRS:
        a, b = FORMATS[a_type], FORMATS[b_type]
        largest = a.infinity - 1
        for i in range(TAIL):
            changed = b.infinity + i % 2 if i % 3 else b.encode(a.decode(largest))
            values = [0] * TAIL
            for place in {i, (i + TAIL) // 2, TAIL - 1}:
                values[place] = changed
            yield arithmetic("add", a_type, [largest] * TAIL, b_type, values)
            yield arithmetic("sub", a_type, [largest] * i, b_type, [1] * i)
            # What was not finite before is no overflow.
            old = [[a.infinity, a.infinity + 1, 0][j % 3] for j in range(TAIL)]
            yield conversion(a_type, [*old[:i], largest, *old[i + 1 :]], b_type)


def _xors() -> Iterator[Vector]:
    rng = np.random.default_rng(2)
    for count in (*range(140), 4096, 10_007):
        yield xor(rng.bytes(count), rng.bytes(count))


def _message(size: int, seed: int) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


def _published_messages() -> Iterator[Vector]:
    path = Path(__file__).parent.parent / "vectors" / "sha256.json"
    for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
        vector = sha256(case["name"], [bytes.fromhex(case["unit"]) * case["repeat"]])
        yield replace(vector, expected=bytes.fromhex(case["sha256"]))


def _messages() -> Iterator[Vector]:
    yield from _published_messages()
    lengths = [_message(n, n) for n in range(301)]
    for piece in (0, 1, 63, 64, 65):
        yield sha256("of every length up to 300", lengths, piece)
    for lanes in range(21):
        equal = [_message(5000, i) for i in range(lanes)]
        unequal = [_message((i * 2711 + lanes * 97) % 9001, i) for i in range(lanes)]
        yield sha256(f"of {lanes} equal messages", equal, 1000, shift=lanes)
        yield sha256(f"of {lanes} unequal messages", unequal, (0, 61, 4096)[lanes % 3])
    yield sha256("of a build's blocks", [_message(n, n) for n in (300_001, 262_152)], 1 << 14)


def _f32(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """Numbers of magnitude about 1, some of any magnitude."""
    far = np.exp2(rng.integers(-149, 125, (rows, cols)) * (rng.random((rows, cols)) < 0.1))
    return (rng.standard_normal((rows, cols)) * far).astype("<f4")


def _products() -> Iterator[Vector]:
    rng = np.random.default_rng(3)
    shapes = [(0, 3, 5), (4, 0, 37), (3, 5, 0), (1, 1, 1), (1, 40, 70), (2, 300, 35), (13, 3, 130)]
    for rows, rank, cols in shapes:
        yield product(_f32(rng, rows, rank), _f32(rng, rank, cols), 0.75)
    values = np.array(specials(F32), "<u4").view("<f4")
    left = np.stack([rng.permutation(values) for _ in range(3)], 1)
    right = np.stack([rng.permutation(values) for _ in range(3)], 0)
    yield product(left, right, 1.0)
    yield product(left[:40], right[:, :40], 2.0**-140)


def _means() -> Iterator[Vector]:
    rng = np.random.default_rng(4)
    shapes = [(1, 1), (3, 5), (17, 64), (70, 33), (300, 7), (1025, 45), (66_000, 6)]
    for (rows, cols), piece in itertools.product(shapes, (0, 23)):
        yield mean(_f32(rng, rows, cols), piece)


def _quantizations() -> Iterator[Vector]:
    rng = np.random.default_rng(5)
    patterns = np.array(specials(F32), "<u4").view("<f4")
    for type_ in BLOCK_BYTES:
        scale = np.exp2(rng.integers(-149, 122, (400, 1)).astype(float))
        usual = (rng.standard_normal((400, 32)) * scale).astype("<f4")
        halves = (rng.integers(-30, 30, (100, 32)) / 2).astype("<f4")
        yield quantization(type_, np.concatenate([usual[:20] * 0, usual, halves]))
        yield quantization(type_, rng.choice(patterns, (300, 32)))


def _differences() -> Iterator[Vector]:
    rng = np.random.default_rng(6)
    for type_, f in FORMATS.items():
        values = specials(type_)
        for piece in (0, 7):
            crossed = list(itertools.product(values, values))
            a, b = (pack(type_, [pair[i] for pair in crossed]) for i in (0, 1))
            yield difference(type_, a, b, piece)
        near = (f.encode(1 << 1074) + rng.integers(-50, 50, 3001)).astype(f.dtype)
        far = near + rng.integers(0, 40, 3001).astype(f.dtype)
        yield difference(type_, near.tobytes(), far.tobytes(), 1500)
    for i in range(4):
        a, mask = rng.bytes(24_000), rng.integers(0, 256, 24_000, "u1")
        b = (np.frombuffer(a, "u1") ^ mask * (mask < 50)).astype("u1").tobytes()
        yield difference(RAW + i, a, b, 999)
        yield difference(RAW + i, a, a, 0)


def _elsewhere(vector: Vector) -> Iterator[Vector]:
    """The same call elsewhere in memory and in other floating-point environments."""
    yield vector
    yield from (v for v in _variants(vector) if v.into == NEW)


def all_vectors() -> list[Vector]:
    """All of them."""
    plain: list[Callable[[], Iterable[Vector]]] = [_special_values, _random_values, _xors]
    vectors = [v for make in plain for v in make()]
    varied = [variant for v in vectors if v.count <= 2003 for variant in _variants(v)]
    later = [*_products(), *_means(), *_quantizations(), *_differences()]
    rest = [
        *_every_16_bit_pattern(),
        *_places(),
        *_messages(),
        *(w for v in later for w in _elsewhere(v)),
    ]
    return vectors + varied + rest


def write_vectors(path: Path, vectors: Iterable[Vector]) -> None:
    """The file that ``vbkernels`` reads."""
    with path.open("wb") as f:
        for vector in vectors:
            f.write(vector.serialize())


def differences(vectors: Iterable[Vector], results: bytes) -> list[str]:
    """What in the file that ``vbkernels`` has written is not as expected, as text."""
    found: list[str] = []
    at = 0
    for vector in vectors:
        index = int.from_bytes(results[at : at + 8], "little")
        got = results[at + 8 : at + 8 + len(vector.expected)]
        at += 8 + len(vector.expected)
        if index != vector.index:
            found.append(f"{vector.name}: the index is {index}, not {vector.index}")
        if got != vector.expected:
            found.append(f"{vector.name}: {_first_difference(vector, got)}")
    if at != len(results):
        found.append(f"{len(results)} bytes of results, not {at}")
    return found


def _first_difference(vector: Vector, got: bytes) -> str:
    """The first element (byte, digest) that is not as expected."""
    size = 32 if vector.operation == SHA256 else 1
    if vector.operation <= CONVERT:
        type_ = vector.b_type if vector.operation == CONVERT else vector.a_type
        size = FORMATS[type_].bits // 8
    for i in range(0, len(vector.expected), size):
        want, have = vector.expected[i : i + size], got[i : i + size]
        if want != have:
            return f"element {i // size} is {have[::-1].hex()}, not {want[::-1].hex()}"
    return "nothing was written"
