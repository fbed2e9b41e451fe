"""Tests of the core's SHA-256: streams, interleaved lanes, every ISA level of this machine.

The oracles are the published NIST vectors and hashlib.
"""

import hashlib
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbuild._core import Kernels, cpu_features

VECTORS = Path(__file__).parent.parent / "vectors" / "sha256.json"
LENGTHS_AROUND_BLOCKS = [0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129, 4095, 4096, 4097]


def sha256_levels() -> list[str]:
    """Every set of features present that changes which SHA-256 kernels run."""
    present = [f for f in ("arm-sha2", "avx512", "shani") if f in cpu_features()]
    sets = [",".join(c) for n in range(1, len(present) + 1) for c in combinations(present, n)]
    return ["portable", *sets, "native"]


def message(size: int, seed: int = 0) -> bytes:
    """Bytes that no two seeds and no two blocks share."""
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size)


def expected(messages: list[bytes]) -> list[bytes]:
    return [hashlib.sha256(m).digest() for m in messages]


def vectors() -> list[Any]:
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    return [pytest.param(c, id=c["name"]) for c in cases]


@pytest.fixture(params=sha256_levels())
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return Kernels(request.param)


@pytest.mark.parametrize("case", vectors())
def test_published_vectors_give_their_digests(kernels: Kernels, case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["unit"]) * case["repeat"]
    assert [d.hex() for d in kernels.sha256([data])] == [case["sha256"]]


@pytest.mark.parametrize("case", vectors())
def test_published_vectors_agree_with_hashlib(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["unit"]) * case["repeat"]
    assert hashlib.sha256(data).hexdigest() == case["sha256"]


def test_every_length_up_to_300_alone(kernels: Kernels) -> None:
    messages = [message(n, n) for n in range(301)]
    assert [kernels.sha256([m])[0] for m in messages] == expected(messages)


@pytest.mark.parametrize("piece", [0, 1, 63, 64, 65, 100])
def test_every_length_up_to_300_interleaved(kernels: Kernels, piece: int) -> None:
    messages = [message(n, n) for n in range(301)]
    assert kernels.sha256(messages, piece) == expected(messages)


@pytest.mark.parametrize("piece", [0, 64, 1000])
@pytest.mark.parametrize("lanes", range(1, 21))
def test_any_number_of_equal_streams(kernels: Kernels, lanes: int, piece: int) -> None:
    messages = [message(5000, i) for i in range(lanes)]
    assert kernels.sha256(messages, piece) == expected(messages)


@pytest.mark.parametrize("piece", [0, 61, 4096])
@pytest.mark.parametrize("lanes", range(1, 21))
def test_any_number_of_unequal_streams(kernels: Kernels, lanes: int, piece: int) -> None:
    messages = [message((i * 2711 + lanes * 97) % 9001, i) for i in range(lanes)]
    assert kernels.sha256(messages, piece) == expected(messages)


@pytest.mark.parametrize("lanes", range(1, 21))
def test_one_long_stream_among_short_ones(kernels: Kernels, lanes: int) -> None:
    messages = [message(50_000 if i == lanes // 2 else 130, i) for i in range(lanes)]
    assert kernels.sha256(messages) == expected(messages)


@pytest.mark.parametrize("first", LENGTHS_AROUND_BLOCKS)
def test_lengths_around_block_boundaries_side_by_side(kernels: Kernels, first: int) -> None:
    messages = [message(n, n) for n in [first, *LENGTHS_AROUND_BLOCKS]]
    assert kernels.sha256(messages, 1024) == expected(messages)


def test_streams_of_several_job_sizes_of_a_build(kernels: Kernels) -> None:
    messages = [message(n, n) for n in (1 << 20, (1 << 20) + 8, (1 << 19) + 77, 300_001)]
    assert kernels.sha256(messages, 1 << 18) == expected(messages)
    assert kernels.sha256(messages, 1 << 14) == expected(messages)


def test_the_same_buffer_may_feed_several_streams(kernels: Kernels) -> None:
    shared = message(3000)
    assert kernels.sha256([shared] * 7, 999) == expected([shared] * 7)


def test_data_at_any_alignment(kernels: Kernels) -> None:
    whole = memoryview(message(2000))
    views = [whole[i : i + 1500] for i in range(17)]
    assert kernels.sha256(views) == expected([bytes(v) for v in views])


def test_no_message_gives_no_digest(kernels: Kernels) -> None:
    assert kernels.sha256([]) == []


@pytest.mark.parametrize("isa", sha256_levels())
@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 2000), max_size=36),
    piece=st.integers(0, 2500),
    seed=st.integers(0, 2**32),
)
def test_digests_equal_hashlib(isa: str, sizes: list[int], piece: int, seed: int) -> None:
    messages = [message(n, seed + i) for i, n in enumerate(sizes)]
    assert Kernels(isa).sha256(messages, piece) == expected(messages)


def test_a_level_reports_its_features() -> None:
    assert Kernels("portable").features == ()
    assert Kernels("native").features == cpu_features()
    for name in cpu_features():
        assert name in Kernels(name).features


@pytest.mark.parametrize("isa", ["", "nope", "shani,", ",avx2", "portable,native", "AVX2", "avx2 "])
def test_an_unknown_level_is_refused(isa: str) -> None:
    with pytest.raises(ValueError):
        Kernels(isa)


def test_a_feature_of_another_architecture_is_refused() -> None:
    absent = sorted({"arm-sha2", "avx2", "avx512", "neon", "shani"} - set(cpu_features()))
    assert absent
    for name in absent:
        with pytest.raises(ValueError, match=name):
            Kernels(name)
