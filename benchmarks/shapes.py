"""The models that are measured: names and shapes in LLaMA's manner, seeded values, a balanced cut.

- Everything is float16 and of a plausible magnitude.
- A value depends on its side (base or delta) and on its tensor, so every container and every cut
  of a side has the same tensors, and every build of them the same result.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEAD", "SEEDS", "Bits", "Llama", "Shapes", "deal", "pieces", "whole"]

HEAD = 128
"""Rows of an attention head."""

MULTIPLE_OF = 256
"""What the width of the MLP is rounded up to (formats.md, Meta)."""

PIECE = 4 << 20
"""Elements that are made at a time."""

SEEDS = {"base": (0, -3), "delta": (1, -8), "lora": (2, -6)}
"""Seed and exponent of each kind of side."""

Shapes = Mapping[str, tuple[int, ...]]
Bits = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Llama:
    """The measures of a model. ``width`` is a multiple of HEAD."""

    width: int
    vocabulary: int
    layers: int

    @classmethod
    def of_size(cls, size: float, width: int, vocabulary: int) -> Llama:
        """The model that comes nearest to ``size`` bytes."""
        empty, one = (cls(width, vocabulary, n) for n in (0, 1))
        layer = one.bytes - empty.bytes
        return cls(width, vocabulary, max(1, round((size - empty.bytes) / layer)))

    @property
    def intermediate(self) -> int:
        """Width of the MLP, as Meta computes it."""
        return -(-(8 * self.width // 3) // MULTIPLE_OF) * MULTIPLE_OF

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.width // HEAD

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return 2 * sum(map(prod, self.shapes().values()))

    def shapes(self) -> Shapes:
        """Shape of each tensor by its Hugging Face name."""
        width, inner = self.width, self.intermediate
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocabulary, width),
            "model.norm.weight": (width,),
            "lm_head.weight": (self.vocabulary, width),
        }
        for i in range(self.layers):
            at = f"model.layers.{i}"
            shapes |= {f"{at}.self_attn.{x}_proj.weight": (width, width) for x in "qkvo"}
            shapes |= {f"{at}.mlp.{x}_proj.weight": (inner, width) for x in ("gate", "up")}
            shapes[f"{at}.mlp.down_proj.weight"] = (width, inner)
            shapes |= {f"{at}.{x}_layernorm.weight": (width,) for x in ("input", "post_attention")}
        return shapes


def pieces(name: str, count: int, kind: str) -> Iterator[Bits]:
    """Bits of ``count`` float16 numbers between 2^(e-4) and 2^e, either sign, a piece at a time."""
    seed, exponent = SEEDS[kind]
    stream = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    for begin in range(0, count, PIECE):
        bits = np.frombuffer(stream.bytes(2 * min(PIECE, count - begin)), "<u2")
        yield (bits & np.uint16(0x8FFF)) + np.uint16((15 - 4 + exponent) << 10)


def whole(name: str, shape: Sequence[int], kind: str) -> NDArray[np.float16]:
    """One tensor, in memory."""
    return np.concatenate(list(pieces(name, prod(shape), kind))).view("<f2").reshape(shape)


def deal(shapes: Shapes, shards: int) -> tuple[list[list[str]], int]:
    """Names in code-point order, cut into ``shards`` groups, and the bytes of the largest.

    The cut is the one that ``max_shard_size`` makes with the least limit that gives so many.
    """
    names = sorted(shapes)
    sizes = [2 * prod(shapes[name]) for name in names]
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(sizes, middle)) <= shards:
            high = middle
        else:
            low = middle + 1
    ends = _filled(sizes, low)
    begins = [0, *ends[:-1]]
    return [names[i:j] for i, j in zip(begins, ends, strict=True)], low


def _filled(sizes: Sequence[int], limit: int) -> list[int]:
    """Where groups of at most ``limit`` bytes end that are filled one after the other."""
    ends: list[int] = []
    room = limit
    for i, size in enumerate(sizes):
        if size > room:
            ends.append(i)
            room = limit
        room -= size
    return [*ends, len(sizes)]
