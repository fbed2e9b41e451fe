"""A small model as Meta gave out LLaMA: ``params.json`` and ``consolidated.NN.pth``.

- A model is made whole, under Meta's names; :func:`write_meta` cuts it as model parallelism does.
- :func:`hugging_face` says what the same model is for Hugging Face, by reshaping the whole.
- The values are drawn by numpy: nothing depends on their being the same everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.torch_files import PickleWriter, checkpoint_zip, write_torch_zip

__all__ = ["Meta", "cut", "hugging_face", "make_meta", "write_meta"]

Array = NDArray[Any]
ROWS = ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3")
COLUMNS = ("attention.wo", "feed_forward.w2")
NAMES = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@dataclass(frozen=True)
class Meta:
    """A model that is not cut yet; ``tensors`` are whole."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    wide: int
    vocab: int
    tensors: dict[str, Array] = field(repr=False)

    @property
    def params(self) -> dict[str, Any]:
        """``params.json``, as LLaMA-1's are, but for ``n_kv_heads``."""
        params = {"dim": self.dim, "multiple_of": 256, "n_heads": self.heads}
        params |= {} if self.kv_heads == self.heads else {"n_kv_heads": self.kv_heads}
        return {**params, "n_layers": self.layers, "norm_eps": 1e-06, "vocab_size": -1}


def make_meta(
    *,
    dim: int = 64,
    layers: int = 2,
    heads: int = 8,
    kv_heads: int | None = None,
    wide: int = 96,
    vocab: int = 320,
    seed: int = 0,
    scale: float = 0.02,
) -> Meta:
    """A model of float16 numbers around 0, its norms around 1."""
    rng = np.random.default_rng(seed)
    kv_heads = heads if kv_heads is None else kv_heads
    kv = dim // heads * kv_heads
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings": (vocab, dim)}
    for i in range(layers):
        own = {"attention.wq": (dim, dim), "attention.wk": (kv, dim), "attention.wv": (kv, dim)}
        own |= {"attention.wo": (dim, dim), "feed_forward.w1": (wide, dim)}
        own |= {"feed_forward.w2": (dim, wide), "feed_forward.w3": (wide, dim)}
        shapes |= {f"layers.{i}.{name}": shape for name, shape in own.items()}
        shapes |= {f"layers.{i}.attention_norm": (dim,), f"layers.{i}.ffn_norm": (dim,)}
    shapes |= {"norm": (dim,), "output": (vocab, dim)}
    tensors = {}
    for name, shape in shapes.items():
        around = 1.0 if name.endswith("norm") else 0.0
        values = rng.standard_normal(shape) * scale + around
        tensors[f"{name}.weight"] = values.astype(np.float16)
    return Meta(dim, layers, heads, kv_heads, wide, vocab, tensors)


def cut(model: Meta, files: int, *, vocabulary_by_rows: bool = False) -> list[dict[str, Array]]:
    """What each of ``files`` holds; Llama 3 has the embeddings cut by rows of the vocabulary."""
    parts: list[dict[str, Array]] = [{} for _ in range(files)]
    for name, whole in model.tensors.items():
        inner = name.removesuffix(".weight").split(".", 2)[-1]
        axis = 0 if inner in ROWS or name == "output.weight" else 1 if inner in COLUMNS else None
        if name == "tok_embeddings.weight":
            axis = 0 if vocabulary_by_rows else 1
        pieces = [whole] * files if axis is None else np.split(whole, files, axis)
        for part, piece in zip(parts, pieces, strict=True):
            part[name] = np.ascontiguousarray(piece)
    head = model.dim // model.heads
    for part in parts:
        part["rope.freqs"] = np.arange(head // 2, dtype=np.float32)
    return parts


def write_meta(
    directory: Path,
    model: Meta,
    files: int,
    *,
    vocabulary_by_rows: bool = False,
    one_storage: bool = False,
    params: Mapping[str, object] | None = None,
) -> None:
    """Write the model; with ``one_storage`` all tensors of a file are views of one, as in 13B."""
    directory.mkdir(parents=True, exist_ok=True)
    parts = cut(model, files, vocabulary_by_rows=vocabulary_by_rows)
    for i, part in enumerate(parts):
        path = directory / f"consolidated.{i:02}.pth"
        if one_storage:
            _write_views(path, part)
        else:
            write_torch_zip(path, part, root=path.stem, string_order=False)
    (directory / "params.json").write_text(json.dumps(params or model.params))


def _write_views(path: Path, tensors: Mapping[str, Array]) -> None:
    """All float16 tensors as views of one storage, one after the other."""
    halves = {n: v for n, v in tensors.items() if v.dtype == np.float16}
    total = sum(v.size for v in halves.values())
    pickle = PickleWriter().raw(b"}").put().raw(b"(")
    at = 0
    for name, values in halves.items():
        pickle.text(name).tensor("HalfStorage", "0", total, values.shape, offset=at)
        at += values.size
    freqs = tensors["rope.freqs"]
    pickle.text("rope.freqs").tensor("FloatStorage", "1", freqs.size, freqs.shape).raw(b"u")
    storages = {"0": b"".join(v.tobytes() for v in halves.values()), "1": freqs.tobytes()}
    with path.open("wb") as out:
        checkpoint_zip(out, pickle.done(), storages.items(), path.stem)


def hugging_face(model: Meta) -> dict[str, Array]:
    """The whole tensors under Hugging Face's names, with the rows of q and k permuted."""
    converted = {}
    for name, values in model.tensors.items():
        inner = name.removesuffix(".weight").split(".", 2)[-1]
        if inner in ("attention.wq", "attention.wk"):
            heads = model.heads if inner.endswith("wq") else model.kv_heads
            pairs = values.reshape(heads, -1, 2, model.dim)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        top = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
        new = top.get(inner) or f"model.{name.split('.')[0]}.{name.split('.')[1]}.{NAMES[inner]}"
        converted[f"{new}.weight"] = np.ascontiguousarray(values)
    return converted
