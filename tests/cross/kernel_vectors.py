"""Operands for the core's kernels, as a file for ``vbkernels``, and what has to come out.

- Expected elements come from exact arithmetic on integers, digests from hashlib; nothing here runs
  a kernel of vbuild.
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

__all__ = ["Vector", "all_vectors", "differences", "write_vectors"]

ADD, SUB, CONVERT, XOR, SHA256 = range(1, 6)
NEW, INTO_A, INTO_B = range(3)
DEFAULT, UPWARD, FLUSH = range(3)
OPERATIONS = {"add": ADD, "sub": SUB}
PAIRS = list(itertools.product(FORMATS, FORMATS))
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


def all_vectors() -> list[Vector]:
    """All of them."""
    plain: list[Callable[[], Iterable[Vector]]] = [_special_values, _random_values, _xors]
    vectors = [v for make in plain for v in make()]
    varied = [variant for v in vectors if v.count <= 2003 for variant in _variants(v)]
    rest = [*_every_16_bit_pattern(), *_places(), *_messages()]
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
