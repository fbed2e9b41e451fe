"""The tensors of Meta's LLaMA models: their names, their shapes, and how files share them.

- A matrix is cut along its rows or its columns, a norm is in every file (formats.md). The rows of
  wq and wk are read in Hugging Face's order, a permutation inside every head; heads are never cut,
  so each file's part is permuted alone.
- The frequencies of the rotary embedding are no tensors of the model: readers compute them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from vbuild.tensors import TensorSpec

__all__ = [
    "EMBEDDINGS",
    "LAYER",
    "LAYER_KINDS",
    "QUERY",
    "TOP_KINDS",
    "WIDE",
    "Kind",
    "Sizes",
    "is_left_out",
    "kind_of",
    "permuted",
]

LAYER = re.compile(r"layers\.(0|[1-9][0-9]{0,5})\.(.+)")
"""A name inside a layer: its number, and the rest."""

_FREQUENCIES = re.compile(r"(layers\.[0-9]+\.attention\.inner_attention\.)?rope\.freqs")

EMBEDDINGS: Final = "tok_embeddings.weight"
QUERY: Final = "layers.0.attention.wq.weight"
WIDE: Final = "layers.0.feed_forward.w1.weight"


@dataclass(frozen=True, slots=True)
class Kind:
    """What becomes of a tensor: its new name, and how it is cut.

    ``rows``, ``columns`` and ``heads`` name sizes (:class:`Sizes`). ``axis`` is the one that is
    cut, None for a copy in every file; the rows of each of ``heads`` are permuted.
    """

    name: str
    rows: str
    columns: str | None = None
    axis: int | None = None
    heads: str | None = None


TOP_KINDS: Final[Mapping[str, Kind]] = {
    EMBEDDINGS: Kind("model.embed_tokens.weight", "vocabulary", "dim", 1),
    "norm.weight": Kind("model.norm.weight", "dim"),
    "output.weight": Kind("lm_head.weight", "vocabulary", "dim", 0),
}
"""By Meta's names."""

LAYER_KINDS: Final[Mapping[str, Kind]] = {
    "attention.wq.weight": Kind("self_attn.q_proj.weight", "dim", "dim", 0, "heads"),
    "attention.wk.weight": Kind("self_attn.k_proj.weight", "kv", "dim", 0, "kv_heads"),
    "attention.wv.weight": Kind("self_attn.v_proj.weight", "kv", "dim", 0),
    "attention.wo.weight": Kind("self_attn.o_proj.weight", "dim", "dim", 1),
    "feed_forward.w1.weight": Kind("mlp.gate_proj.weight", "wide", "dim", 0),
    "feed_forward.w2.weight": Kind("mlp.down_proj.weight", "dim", "wide", 1),
    "feed_forward.w3.weight": Kind("mlp.up_proj.weight", "wide", "dim", 0),
    "attention_norm.weight": Kind("input_layernorm.weight", "dim"),
    "ffn_norm.weight": Kind("post_attention_layernorm.weight", "dim"),
}
"""By the rest of Meta's names, inside a layer."""


def is_left_out(name: str) -> bool:
    """Whether Meta's tensor ``name`` holds frequencies, which no model keeps."""
    return _FREQUENCIES.fullmatch(name) is not None


def kind_of(name: str) -> Kind | None:
    """The kind of Meta's tensor ``name``, under its whole new name; None for an unknown one."""
    match = LAYER.fullmatch(name)
    if match is None:
        return TOP_KINDS.get(name)
    kind = LAYER_KINDS.get(match[2])
    return None if kind is None else replace(kind, name=f"model.layers.{match[1]}.{kind.name}")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a whole model that is cut into ``files``.

    ``extents`` has ``dim``, ``kv`` (rows of wk), ``wide`` (rows of w1), ``vocabulary``, ``heads``
    and ``kv_heads``. ``by_rows`` says that tok_embeddings is cut along its rows, as Llama 3's is.
    """

    files: int
    extents: Mapping[str, int]
    by_rows: bool

    def axis(self, kind: Kind) -> int | None:
        """The axis that is cut, None for a tensor that every file has whole."""
        return 0 if self.by_rows and kind is TOP_KINDS[EMBEDDINGS] else kind.axis

    def shape(self, kind: Kind) -> tuple[int, ...]:
        """Of the whole tensor."""
        names = (kind.rows,) if kind.columns is None else (kind.rows, kind.columns)
        return tuple(self.extents[name] for name in names)

    def part(self, kind: Kind) -> tuple[int, ...] | None:
        """The shape in each file; None where the tensor cannot be dealt to so many."""
        axis, whole = self.axis(kind), self.shape(kind)
        if axis is not None and whole[axis] % self.files:
            return None
        return tuple(n // self.files if i == axis else n for i, n in enumerate(whole))

    def heads(self, kind: Kind) -> int:
        """How many heads a file has whose rows are permuted; 0 where none is."""
        return 0 if kind.heads is None else self.extents[kind.heads] // self.files


def permuted(spec: TensorSpec, heads: int) -> TensorSpec:
    """``spec`` with the rows of each of ``heads`` in Hugging Face's order.

    Meta turns neighbouring rows of a head together, Hugging Face those that are half a head apart:
    row ``r`` is Meta's ``2 * (r mod half) + r div half`` (formats.md). So a head's rows, taken as
    pairs, are read with the position in the pair as the outer axis.
    """
    rows, columns = spec.shape
    step, across = spec.strides
    half = rows // heads // 2
    return replace(
        spec,
        dims=(heads, 2, half, columns),
        strides=(2 * half * step, step, 2 * step, across),
    )
