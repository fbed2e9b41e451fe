"""Tests of keyed tags: two readings of the same bytes have one tag, anything else another.

The oracle is tag.h's formula in Python integers, for each of the two constructions: sums of
carry-less products (pclmul, vpclmul) and sums of integer products (portable). Its carry-less
product and its field are checked against published values.
"""

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbuild._core import TAG_KEY_SIZE, Kernels, cpu_features

STEP, CHUNK = 64, 4096
LEVELS = ["portable", *(f for f in ("pclmul", "vpclmul") if f in cpu_features())]
CARRYLESS = LEVELS[1:]
EDGES = [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 8191, 8192, 8193, 12289]
seeds = st.integers(0, 2**32)
levels = pytest.mark.parametrize("isa", LEVELS)
carryless_levels = pytest.mark.skipif(not CARRYLESS, reason="this CPU has no carry-less products")


def stream(name: str, seed: int, size: int) -> bytes:
    return hashlib.shake_128(f"{name} {seed}".encode()).digest(size)


def key_of(seed: int) -> bytes:
    return stream("key", seed, TAG_KEY_SIZE)


def message(size: int, seed: int = 0) -> bytes:
    return stream("message", seed, size)


# ---- the oracle ----


def carryless_product(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a * (b & -b)
        b &= b - 1
    return product


def field_product(a: int, b: int) -> int:
    """In GF(2)[x] / (x^128 + x^7 + x^2 + x + 1); bit i is the coefficient of x^i."""
    product = carryless_product(a, b)
    for degree in range(254, 127, -1):
        if product >> degree & 1:
            product ^= (1 << 128 | 0x87) << (degree - 128)
    return product


def clnh(m: list[int], k: list[int]) -> int:
    total = 0
    for i in range(0, len(m), 2):
        total ^= carryless_product(m[i] ^ k[i], m[i + 1] ^ k[i + 1])
    return total


def nh(m: list[int], k: list[int]) -> int:
    word = 2**64
    pairs = range(0, len(m), 2)
    return sum((m[i] + k[i]) % word * ((m[i + 1] + k[i + 1]) % word) for i in pairs) % 2**128


def words(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


def expected(compress: Callable[[list[int], list[int]], int], key: bytes, data: bytes) -> bytes:
    r = int.from_bytes(key[-32:-16], "little")
    s = int.from_bytes(key[-16:], "little")
    k = words(key[:-32])
    tag = 0
    for at in range(0, len(data), CHUNK):
        chunk = data[at : at + CHUNK]
        m = words(chunk + bytes(-len(chunk) % STEP))
        tag = field_product(tag, r) ^ field_product(compress(m, k), s)
        tag ^= compress(m, k[STEP // 8 :])
    return (field_product(tag, r) ^ len(data)).to_bytes(16, "little")


def test_the_oracle_multiplies_words_as_the_published_examples_of_the_instruction() -> None:
    a_high, a_low = 0x7B5B546573745665, 0x63746F725D53475D
    b_high, b_low = 0x4869285368617929, 0x5B477565726F6E5D
    assert carryless_product(a_low, b_low) == 0x1D4D84C85C3440C0929633D5D36F0451
    assert carryless_product(a_low, b_high) == 0x1BD17C8D556AB5A17FA540AC2A281315
    assert carryless_product(a_high, b_low) == 0x1A2BF6DB3A30862FBABF262DF4B7D5C9
    assert carryless_product(a_high, b_high) == 0x1D1E1F2C592E7C45D66EE03E410FD4ED


def test_the_oracle_multiplies_in_the_field_as_ghash_does() -> None:
    """Test case 2 of the GCM specification, whose elements have their bits in reverse order."""

    def element(text: str) -> int:
        return int(f"{int(text, 16):0128b}"[::-1], 2)

    h = element("66e94bd4ef8a2c3b884cfa59ca342b2e")
    x1 = field_product(element("0388dace60b6a392f328c2b971b2fe78"), h)
    assert x1 == element("5e2ec746917062882c85b0685353deb7")
    x2 = field_product(x1 ^ element("00000000000000000000000000000080"), h)
    assert x2 == element("f38cbb1ad69223dcc3457ae5b6b0f885")


# ---- the kernels compute the formula ----


def construction_of(isa: str) -> Callable[[list[int], list[int]], int]:
    return clnh if isa in CARRYLESS else nh


@levels
@pytest.mark.parametrize("size", EDGES)
def test_tags_at_the_edges_of_words_steps_and_chunks(isa: str, size: int) -> None:
    key, data = key_of(size), message(size)
    assert Kernels(isa).tag(key, data) == expected(construction_of(isa), key, data)


@levels
def test_every_length_up_to_300(isa: str) -> None:
    kernels, key = Kernels(isa), key_of(1)
    for size in range(301):
        data = message(size, size)
        assert kernels.tag(key, data) == expected(construction_of(isa), key, data)


@levels
@settings(deadline=None, max_examples=60)
@given(size=st.integers(0, 10_000), piece=st.integers(0, 5000), seed=seeds)
def test_random_messages_have_the_tag_of_the_formula(
    isa: str, size: int, piece: int, seed: int
) -> None:
    key, data = key_of(seed), message(size, seed)
    assert Kernels(isa).tag(key, data, piece) == expected(construction_of(isa), key, data)


@levels
@pytest.mark.parametrize("fill_key", [b"\0", b"\xff"])
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_extreme_words_have_the_tag_of_the_formula(isa: str, fill: bytes, fill_key: bytes) -> None:
    key, data = fill_key * TAG_KEY_SIZE, fill * 9001
    assert Kernels(isa).tag(key, data) == expected(construction_of(isa), key, data)


@carryless_levels
@settings(deadline=None, max_examples=60)
@given(size=st.integers(0, 300_000), seed=seeds)
def test_all_levels_with_carryless_products_agree(size: int, seed: int) -> None:
    key, data = key_of(seed), message(size, seed)
    assert len({Kernels(isa).tag(key, data) for isa in [*CARRYLESS, "native"]}) == 1


# ---- equal bytes have equal tags ----


@levels
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4096, 5000, 20_000])
def test_the_tag_does_not_depend_on_the_pieces(isa: str, size: int) -> None:
    kernels, key, data = Kernels(isa), key_of(2), message(size)
    pieces = [0, *range(1, 131), 4095, 4096, 4097, 16_384]
    assert {kernels.tag(key, data, piece) for piece in pieces} == {kernels.tag(key, data)}


@levels
def test_the_tag_does_not_depend_on_alignment(isa: str) -> None:
    kernels, data = Kernels(isa), message(9000)
    key = key_of(3)
    tags = set()
    for shift in range(STEP + 1):
        moved = memoryview(bytes(shift) + data)[shift:]
        moved_key = memoryview(bytes(shift) + key)[shift:]
        tags |= {kernels.tag(moved_key, moved), kernels.tag(moved_key, moved, 1000)}
    assert len(tags) == 1


# ---- other bytes have other tags ----


@levels
@settings(deadline=None, max_examples=100)
@given(size=st.integers(1, 9000), at=st.integers(0), bit=st.integers(0, 7), seed=seeds)
def test_a_flipped_bit_changes_the_tag(isa: str, size: int, at: int, bit: int, seed: int) -> None:
    kernels, key, data = Kernels(isa), key_of(seed), message(size, seed)
    flipped = bytearray(data)
    flipped[at % size] ^= 1 << bit
    assert kernels.tag(key, flipped) != kernels.tag(key, data)


@levels
def test_every_bit_of_a_small_message_counts(isa: str) -> None:
    kernels, key, data = Kernels(isa), key_of(4), message(200)
    tags = {kernels.tag(key, data)}
    for bit in range(8 * len(data)):
        tags.add(kernels.tag(key, (int.from_bytes(data) ^ 1 << bit).to_bytes(len(data))))
    assert len(tags) == 1 + 8 * len(data)


@levels
@pytest.mark.parametrize("unit", [8, 16, 64, 4096])
@settings(deadline=None, max_examples=40)
@given(first=st.integers(0), second=st.integers(0), seed=seeds)
def test_two_swapped_units_change_the_tag(
    isa: str, unit: int, first: int, second: int, seed: int
) -> None:
    units = [message(unit, seed + i) for i in range(max(2, 16_384 // unit))]
    i, j = first % len(units), second % len(units)
    swapped = list(units)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    kernels, key = Kernels(isa), key_of(seed)
    same = kernels.tag(key, b"".join(units)) == kernels.tag(key, b"".join(swapped))
    assert same == (i == j)


@levels
@settings(deadline=None, max_examples=60)
@given(size=st.integers(0, 9000), cut=st.integers(0), seed=seeds)
def test_a_truncated_message_has_another_tag(isa: str, size: int, cut: int, seed: int) -> None:
    kernels, key, data = Kernels(isa), key_of(seed), message(size + 1, seed)
    assert kernels.tag(key, data[: cut % (size + 1)]) != kernels.tag(key, data)


@levels
@settings(deadline=None, max_examples=60)
@given(size=st.integers(0, 9000), more=st.integers(1, 9000), seed=seeds)
def test_appended_zeros_change_the_tag(isa: str, size: int, more: int, seed: int) -> None:
    kernels, key, data = Kernels(isa), key_of(seed), message(size, seed)
    assert kernels.tag(key, data + bytes(more)) != kernels.tag(key, data)


@levels
def test_zeros_of_different_lengths_have_different_tags(isa: str) -> None:
    kernels, key = Kernels(isa), key_of(5)
    sizes = [*range(300), *range(CHUNK - 2, CHUNK + 3), *range(CHUNK, 40 * CHUNK, CHUNK // 2)]
    tags = {kernels.tag(key, bytes(size)) for size in set(sizes)}
    assert len(tags) == len(set(sizes))


@levels
def test_a_whole_chunk_of_zeros_that_moves_changes_the_tag(isa: str) -> None:
    kernels, key, chunk = Kernels(isa), key_of(6), message(CHUNK)
    places = [bytes(CHUNK) * i + chunk + bytes(CHUNK) * (9 - i) for i in range(10)]
    assert len({kernels.tag(key, data) for data in places}) == len(places)


# ---- the key ----


@levels
def test_every_byte_of_the_key_counts(isa: str) -> None:
    kernels, key, data = Kernels(isa), key_of(7), message(2 * CHUNK)
    tags = {kernels.tag(key, data)}
    for i in range(TAG_KEY_SIZE):
        tags.add(kernels.tag(key[:i] + bytes([key[i] ^ 1]) + key[i + 1 :], data))
    assert len(tags) == 1 + TAG_KEY_SIZE


@levels
@pytest.mark.parametrize("data", [bytes(100), message(100), message(9000)], ids=len)
def test_every_bit_of_a_tag_is_set_for_half_of_the_keys(isa: str, data: bytes) -> None:
    kernels, keys = Kernels(isa), 1600
    tags = [int.from_bytes(kernels.tag(key_of(seed), data)) for seed in range(keys)]
    assert len(set(tags)) == keys
    for bit in range(128):
        ones = sum(tag >> bit & 1 for tag in tags)
        assert abs(ones - keys // 2) < 120  # six standard deviations


@levels
@pytest.mark.parametrize("size", [0, 16, TAG_KEY_SIZE - 1, TAG_KEY_SIZE + 1])
def test_a_key_of_another_size_is_refused(isa: str, size: int) -> None:
    with pytest.raises(ValueError, match=str(TAG_KEY_SIZE)):
        Kernels(isa).tag(bytes(size), b"")


def test_wide_products_bring_the_narrow_ones_along() -> None:
    if "vpclmul" not in cpu_features():
        pytest.skip("this CPU has no wide carry-less products")
    assert Kernels("vpclmul").features == ("pclmul", "vpclmul")
