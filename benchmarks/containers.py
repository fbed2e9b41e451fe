"""Writes one side of a model (base or delta) in the containers that the field uses.

- safetensors files are written in pieces, so memory does not grow with the model; a ``.bin`` shard
  and one of Meta's files are put together in memory.
- ``meta`` is Meta's own layout (formats.md): the Hugging Face tensors taken apart again, the rows
  of q and k back in Meta's order, rows or columns dealt over the files, the norms in each of them.
- ``lora`` is an adapter in PEFT's form, for all seven projections of a layer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.shapes import HEAD, MULTIPLE_OF, Llama, Shapes, deal, pieces, whole
from tests.support.torch_files import write_torch_zip
from vbuild.formats.index import index_json
from vbuild.formats.safetensors import canonical_order, header, shard_name
from vbuild.tensors import DType

__all__ = ["WRITERS"]

_META_NAMES = {
    "self_attn.q_proj": ("attention.wq", 0),
    "self_attn.k_proj": ("attention.wk", 0),
    "self_attn.v_proj": ("attention.wv", 0),
    "self_attn.o_proj": ("attention.wo", 1),
    "mlp.gate_proj": ("feed_forward.w1", 0),
    "mlp.down_proj": ("feed_forward.w2", 1),
    "mlp.up_proj": ("feed_forward.w3", 0),
    "input_layernorm": ("attention_norm", None),
    "post_attention_layernorm": ("ffn_norm", None),
    "model.embed_tokens": ("tok_embeddings", 1),
    "model.norm": ("norm", None),
    "lm_head": ("output", 0),
}
"""Meta's name and the dimension that is dealt over the files; None: every file has all of it."""

Tensors = Mapping[str, NDArray[np.float16]]


def _write_safetensors(path: Path, names: list[str], shapes: Shapes, kind: str) -> None:
    names = canonical_order((name, DType.F16) for name in names)
    with path.open("wb") as out:
        out.write(header([(name, DType.F16, shapes[name]) for name in names]))
        for name in names:
            for piece in pieces(name, prod(shapes[name]), kind):
                out.write(piece.data)


def _write_bin(path: Path, names: list[str], shapes: Shapes, kind: str) -> None:
    """As ``torch.save`` wrote it in 2023: storages in string order of their numbers."""
    write_torch_zip(path, {name: whole(name, shapes[name], kind) for name in names})


def _sharded(
    write: Callable[[Path, list[str], Shapes, str], None], stem: str, suffix: str
) -> Callable[[Path, Llama, int, str], None]:
    """The writer of shards and their index."""

    def write_all(directory: Path, model: Llama, shards: int, kind: str) -> None:
        shapes = model.shapes()
        groups, _ = deal(shapes, shards)
        weight_map: dict[str, str] = {}
        for i, names in enumerate(groups, 1):
            file = shard_name(i, len(groups)).replace("model", stem).replace(".safetensors", suffix)
            write(directory / file, names, shapes, kind)
            weight_map |= dict.fromkeys(names, file)
        if len(groups) > 1:
            index = index_json(weight_map, model.bytes)
            (directory / f"{stem}{suffix}.index.json").write_bytes(index)

    return write_all


def _write_meta(directory: Path, model: Llama, files: int, kind: str) -> None:
    import torch  # only here: the other containers do not need it

    for i in range(files):
        state = {
            meta: torch.from_numpy(part)
            for name, shape in model.shapes().items()
            for meta, part in [_meta_part(name, whole(name, shape, kind), i, files)]
        }
        torch.save(state, directory / f"consolidated.{i:02}.pth")
    params = {
        "dim": model.width,
        "multiple_of": MULTIPLE_OF,
        "n_heads": model.heads,
        "n_layers": model.layers,
        "norm_eps": 1e-06,
        "vocab_size": -1,
    }
    (directory / "params.json").write_text(json.dumps(params))


def _meta_part(
    name: str, tensor: NDArray[np.float16], file: int, files: int
) -> tuple[str, NDArray[np.float16]]:
    """Meta's name for a tensor, and what file number ``file`` has of it."""
    stem = name.removesuffix(".weight")
    layer = ""
    if stem.startswith("model.layers."):
        _, _, number, stem = stem.split(".", 3)
        layer = f"layers.{number}."
    meta, axis = _META_NAMES[stem]
    if stem in ("self_attn.q_proj", "self_attn.k_proj"):
        tensor = _interleaved(tensor)
    if axis is not None:
        tensor = np.split(tensor, files, axis=axis)[file]
    return f"{layer}{meta}.weight", np.ascontiguousarray(tensor)


def _interleaved(tensor: NDArray[np.float16]) -> NDArray[np.float16]:
    """Rows of q or k in Meta's order: the halves of each head take turns again (formats.md)."""
    heads = tensor.reshape(-1, 2, HEAD // 2, tensor.shape[1])
    return heads.swapaxes(1, 2).reshape(tensor.shape)


def _write_lora(directory: Path, model: Llama, rank: int, kind: str) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in model.shapes().items():
        if name.endswith("_proj.weight"):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            shapes[f"{module}.lora_A.weight"] = (rank, shape[1])
            shapes[f"{module}.lora_B.weight"] = (shape[0], rank)
    _write_safetensors(directory / "adapter_model.safetensors", list(shapes), shapes, kind)
    config = {
        "base_model_name_or_path": "base",
        "bias": "none",
        "fan_in_fan_out": False,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": [f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")],
        "task_type": "CAUSAL_LM",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config, indent=2))


WRITERS: Mapping[str, Callable[[Path, Llama, int, str], None]] = {
    "safetensors": _sharded(_write_safetensors, "model", ".safetensors"),
    "bin": _sharded(_write_bin, "pytorch_model", ".bin"),
    "meta": _write_meta,
    "lora": _write_lora,
}
"""By container: ``write(directory, model, parts, kind)``; parts are shards, files, or the rank."""
