"""What a GGUF file says of a model of LLaMA's architecture: settings, and names of tensors.

- ``config.json`` in, metadata out, with the keys and types of llama.cpp's own converter, and with
  transformers' defaults for what the file does not say.
- What a value would have to be computed for (Llama 3's scaled frequencies) is refused, as is every
  other architecture: a file that llama.cpp loads and then runs wrongly must not come out.
- Names and shapes are a table; the order of tensors is fixed here: token embeddings, the layers by
  number, inside a layer by name, the last norm, the output matrix.
- The rows of q and k go back from the order of transformers' rotary embedding to Meta's
  (interop.md): ``Place.turned`` says of which tensors, and in how many heads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.formats.gguf_header import Entry
from vbuild.strict_json import Json, quoted

__all__ = ["ARCHITECTURE", "Llama", "Place", "parse_config"]

ARCHITECTURE: Final = "llama"

CLASSES: Final = ("LlamaForCausalLM", "LLaMAForCausalLM")
"""Values of ``architectures``; the second is that of the first conversions."""

_ELSEWHERE: Final = 'build format = "safetensors", and use llama.cpp\'s own converter on it'
_MAX_NUMBER: Final = 2**32 - 1
_LARGEST_FLOAT32: Final = 3.4028234663852886e38
_LAYER: Final = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,8})\.(.+)")
_OUTER: Final = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INNER: Final = {
    "input_layernorm.weight": "attn_norm.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
}
_ORDER: Final = ("token_embd.weight", "", "output_norm.weight", "output.weight")
_NOT_STORED: Final = "self_attn.rotary_emb.inv_freq"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor goes: its name in the file, its shape there, and its place in the order.

    ``turned`` is the number of heads whose rows are turned back, 0 for none.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, int, str]
    turned: int = 0


@dataclass(frozen=True, slots=True)
class Llama:
    """The settings of a model; ``where`` names its configuration in errors.

    ``width`` is the number of elements of a head; ``scaling`` the factor of linear scaling of the
    rotary embeddings, or None.
    """

    where: str
    layers: int
    context: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    width: int
    epsilon: float
    theta: float
    scaling: float | None
    rows: int
    tied: bool

    def entries(self) -> list[Entry]:
        """The metadata, in the order in which llama.cpp's converter writes it."""
        scaling = []
        if self.scaling is not None:
            scaling.append(Entry("llama.rope.scaling.type", "STRING", "linear"))
            scaling.append(Entry("llama.rope.scaling.factor", "FLOAT32", self.scaling))
        return [
            Entry("llama.block_count", "UINT32", self.layers),
            Entry("llama.context_length", "UINT32", self.context),
            Entry("llama.embedding_length", "UINT32", self.hidden),
            Entry("llama.feed_forward_length", "UINT32", self.feed_forward),
            Entry("llama.attention.head_count", "UINT32", self.heads),
            Entry("llama.attention.head_count_kv", "UINT32", self.kv_heads),
            *scaling,
            Entry("llama.rope.freq_base", "FLOAT32", self.theta),
            Entry("llama.attention.layer_norm_rms_epsilon", "FLOAT32", self.epsilon),
            Entry("llama.attention.key_length", "UINT32", self.width),
            Entry("llama.attention.value_length", "UINT32", self.width),
            Entry("llama.vocab_size", "UINT32", self.rows),
            Entry("llama.rope.dimension_count", "UINT32", self.width),
        ]

    def place(self, name: str) -> Place | None:
        """Where the tensor that transformers calls ``name`` goes; None if a file has none such.

        ``rotary_emb.inv_freq`` is not stored, as llama.cpp computes it, nor is an output matrix
        that transformers would not use. InvalidInput (``gguf-tensor``) for a tensor that the
        architecture does not have.
        """
        if self.tied and name == "lm_head.weight":
            return None
        if name in _OUTER:
            new = _OUTER[name]
            shape = (self.hidden,) if new == "output_norm.weight" else (self.rows, self.hidden)
            return Place(new, shape, (_ORDER.index(new), 0, new))
        found = _LAYER.fullmatch(name)
        layer, inner = (int(found[1]), found[2]) if found else (0, "")
        if inner == _NOT_STORED:
            return None
        if inner not in _INNER or layer >= self.layers:
            raise InvalidInput(
                "gguf-tensor",
                f"a GGUF file of {self.layers} layers has no place for this tensor",
                where=name,
                hint='if it is not needed, claim it by a rule with op = "drop"',
            )
        new = f"blk.{layer}.{_INNER[inner]}"
        turned = {"q": self.heads, "k": self.kv_heads}
        key = inner.removeprefix("self_attn.").removesuffix("_proj.weight")
        return Place(new, self._inner_shape(_INNER[inner]), (1, layer, new), turned.get(key, 0))

    def _inner_shape(self, name: str) -> tuple[int, ...]:
        queries = self.heads * self.width
        keys = self.kv_heads * self.width
        return {
            "attn_q.weight": (queries, self.hidden),
            "attn_k.weight": (keys, self.hidden),
            "attn_v.weight": (keys, self.hidden),
            "attn_output.weight": (self.hidden, queries),
            "ffn_down.weight": (self.hidden, self.feed_forward),
            "ffn_gate.weight": (self.feed_forward, self.hidden),
            "ffn_up.weight": (self.feed_forward, self.hidden),
        }.get(name, (self.hidden,))

    def names(self) -> set[str]:
        """transformers' names of the tensors without which llama.cpp cannot run the model."""
        inner = {f"model.layers.{i}.{name}" for i in range(self.layers) for name in _INNER}
        return inner | (_OUTER.keys() - ({"lm_head.weight"} if self.tied else set()))


def parse_config(config: Mapping[str, Json], where: str) -> Llama:
    """The settings in ``config``, the object of a ``config.json``; ``where`` names it in errors.

    Raises InvalidInput: ``gguf-architecture`` for what is not LLaMA's, or a variant of it that is
    not written; ``gguf-config`` for a setting that is missing or out of range.
    """
    values = _Values(config, where)
    values.check_variant()
    hidden, heads = values.number("hidden_size"), values.number("num_attention_heads")
    kv_heads = values.number("num_key_value_heads", heads)
    if heads % kv_heads:
        raise values.error("num_key_value_heads", f"a divisor of {heads}")
    if config.get("head_dim") is None and hidden % heads:
        raise values.error("num_attention_heads", f"a divisor of hidden_size, {hidden}")
    width = values.number("head_dim", hidden // heads)
    if width % 2:
        raise values.error("head_dim", "an even number")
    theta, scaling = values.rotary()
    return Llama(
        where=where,
        layers=values.number("num_hidden_layers"),
        context=values.number("max_position_embeddings"),
        hidden=hidden,
        feed_forward=values.number("intermediate_size"),
        heads=heads,
        kv_heads=kv_heads,
        width=width,
        epsilon=values.real(config.get("rms_norm_eps"), "rms_norm_eps"),
        theta=theta,
        scaling=scaling,
        rows=values.number("vocab_size"),
        tied=config.get("tie_word_embeddings") is True,
    )


class _Values:
    """Values of a configuration, judged as they are taken."""

    def __init__(self, config: Mapping[str, Json], where: str) -> None:
        self.config = config
        self.where = where

    def error(self, key: str, expected: str) -> InvalidInput:
        value = self.config.get(key)
        got = "nothing" if value is None else quoted(str(value))
        return InvalidInput(
            "gguf-config", f"{key} cannot be used", where=self.where, expected=expected, got=got
        )

    def check_variant(self) -> None:
        """Refuse other architectures, and settings that LLaMA's does not have in llama.cpp."""
        classes = self.config.get("architectures")
        first = classes[0] if isinstance(classes, list) and classes else None
        wanted: dict[str, tuple[Json, ...]] = {
            "hidden_act": ("silu", None),
            "attention_bias": (False, None),
            "mlp_bias": (False, None),
            "quantization_config": (None,),
        }
        odd = [key for key, values in wanted.items() if self.config.get(key) not in values]
        if first in CLASSES and not odd:
            return
        what = f"{odd[0]} = {self.config[odd[0]]}" if first in CLASSES else f"{first}"
        raise InvalidInput(
            "gguf-architecture",
            "GGUF files are written for models of LLaMA's architecture only",
            where=self.where,
            expected=f'architectures = ["{CLASSES[0]}"], hidden_act = "silu", no biases',
            got=quoted(what),
            hint=_ELSEWHERE,
        )

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number from 1; where it is missing or null, ``default``, if there is one."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 1 <= value <= _MAX_NUMBER:
            raise self.error(key, f"a whole number from 1 to {_MAX_NUMBER}")
        return value

    def real(self, value: Json, key: str) -> float:
        """A positive number of f32."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) <= _LARGEST_FLOAT32 else math.inf
            if 0 < number < math.inf:
                return number
        raise self.error(key, "a positive number")

    def rotary(self) -> tuple[float, float | None]:
        """The base of the rotary frequencies (transformers' default is 10000), and the factor of
        linear scaling, if any.

        transformers 5 has both in ``rope_parameters``, the versions before it in ``rope_theta`` and
        ``rope_scaling``.
        """
        newer, older = self.config.get("rope_parameters"), self.config.get("rope_scaling")
        scaling = newer if isinstance(newer, dict) else older if isinstance(older, dict) else {}
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind not in ("default", "linear"):
            raise InvalidInput(
                "gguf-architecture",
                "this scaling of rotary embeddings is not written",
                where=self.where,
                expected="default or linear",
                got=quoted(str(kind)),
                hint=_ELSEWHERE,
            )
        theta = scaling.get("rope_theta", self.config.get("rope_theta"))
        factor = scaling.get("factor")
        return (
            self.real(10000.0 if theta is None else theta, "rope_theta"),
            None if kind == "default" else self.real(factor, "rope_scaling"),
        )
