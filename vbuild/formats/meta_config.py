"""Hugging Face's configuration of a model that is described by Meta's ``params.json``.

- ``params.json`` does not say how long a context the model was trained for, nor which pieces begin
  and end a text: both follow from which generation it is of, and that from what the numbers are.
- A key that is not known might change the model: then no configuration is made.
- The same numbers give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.formats.meta_params import Params
from vbuild.strict_json import quoted
from vbuild.tensors import Tensor

__all__ = ["configuration"]

_HARMLESS: Final = frozenset(
    {"ffn_dim_multiplier", "max_batch_size", "max_seq_len", "model_parallel_size", "multiple_of"}
)
"""Keys that sized a matrix, which is there, or a buffer, which is not."""

_LLAMA3_VOCABULARY: Final = 128_256
_CODE_LLAMA_THETA: Final = 1e6
_LLAMA1_EPS: Final = 1e-6
_LLAMA1_65B: Final = (8192, 80)


@dataclass(frozen=True, slots=True)
class _Generation:
    """``context`` in tokens; the ids of the pieces that begin and end a text."""

    context: int
    bos: int = 1
    eos: int = 2


_LLAMA1 = _Generation(2048)
_LLAMA2 = _Generation(4096)
_LLAMA3 = _Generation(8192, 128_000, 128_001)
_CODE_LLAMA = _Generation(16_384)


def _generation(params: Params, vocabulary: int) -> _Generation:
    """Which models have such numbers.

    LLaMA-1 has a ``norm_eps`` of 1e-6, all later ones 1e-5; but so has LLaMA-1 65B, which unlike
    Llama 2 70B has keys for each of its heads.
    """
    if vocabulary >= _LLAMA3_VOCABULARY:
        return _LLAMA3
    if params.rope_theta is not None and params.rope_theta >= _CODE_LLAMA_THETA:
        return _CODE_LLAMA
    is_65b = (params.dim, params.n_layers) == _LLAMA1_65B and params.n_kv_heads == params.n_heads
    return _LLAMA1 if params.norm_eps == _LLAMA1_EPS or is_65b else _LLAMA2


def configuration(params: Params, tensors: Mapping[str, Tensor], where: str) -> dict[str, bytes]:
    """``config.json`` and ``generation_config.json`` for the model ``tensors``, by file name.

    ``where`` names the input in errors. InvalidInput (``meta-config``) where ``params`` has a key
    that is not known or lacks one that is needed.
    """
    strange = [key for key in params.others if key not in _HARMLESS]
    if strange or params.norm_eps is None:
        what = f"the key {quoted(strange[0])} is not known" if strange else "norm_eps is missing"
        raise InvalidInput(
            "meta-config",
            f"config.json cannot be made from params.json: {what}",
            where=where,
            hint="list a config.json among the files, or take the delta's with "
            '[config] source = "delta"',
        )
    embeddings = tensors["model.embed_tokens.weight"]
    vocabulary = embeddings.shape[0]
    generation = _generation(params, vocabulary)
    pieces = {"bos_token_id": generation.bos, "eos_token_id": generation.eos}
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        **pieces,
        "hidden_act": "silu",
        "hidden_size": params.dim,
        "intermediate_size": tensors["model.layers.0.mlp.gate_proj.weight"].shape[0],
        "max_position_embeddings": generation.context,
        "model_type": "llama",
        "num_attention_heads": params.n_heads,
        "num_hidden_layers": params.n_layers,
        "num_key_value_heads": params.n_kv_heads,
        "rms_norm_eps": params.norm_eps,
        "tie_word_embeddings": False,
        "torch_dtype": embeddings.dtype.long_name,
        "vocab_size": vocabulary,
    }
    if params.rope_theta is not None:
        config["rope_theta"] = params.rope_theta
    return {"config.json": _document(config), "generation_config.json": _document(pieces)}


def _document(members: Mapping[str, object]) -> bytes:
    return (json.dumps(members, indent=2, sort_keys=True) + "\n").encode("ascii")
