"""A small model in LLaMA's shape, base and delta, as they were published: tests and the demo.

- Names, shapes and element types are those of ``LlamaForCausalLM`` in conversions of spring 2023:
  sharded ``.bin``, float16 throughout, ``rotary_emb.inv_freq`` stored in every layer.
- The same arguments give the same bytes, on every machine and with every numpy: values are made
  of the generator's raw integers with exact arithmetic, never by a library's ``log`` or ``cos``.
- A v0 delta has one row more than the base (``[PAD]``), a v1.1 delta the rows of the base, and
  both are cut into other shards than the base is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.sentencepiece_models import small_model
from tests.support.torch_files import write_torch_zip

__all__ = [
    "PAD",
    "Llama",
    "Tensors",
    "expected_sum",
    "make_base",
    "make_delta_v0",
    "make_delta_v1_1",
    "manifest_text",
    "round_to_bfloat16",
    "safetensors_bytes",
    "write_safetensors",
    "write_torch",
]

PAD = "[PAD]"
EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")

Tensors = dict[str, NDArray[np.float16]]
Writer = Callable[[Path, Mapping[str, NDArray[np.float16]], int], None]


@dataclass(frozen=True)
class Llama:
    """A checkpoint that has been written: its measures, and its tensors by name in file order."""

    hidden: int
    layers: int
    heads: int
    vocab: int
    seed: int
    tensors: Tensors = field(repr=False)

    @property
    def intermediate(self) -> int:
        """Width of the MLP: 8/3 of the hidden size, rounded up to a multiple of 16."""
        return -(-8 * self.hidden // 48) * 16


def make_base(
    directory: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    vocab: int = 320,
    seed: int = 0,
    shards: int = 3,
    write: Writer | None = None,
) -> Llama:
    """Write a base checkpoint with its tokenizer into ``directory``; ``vocab`` is at least 300."""
    directory.mkdir(parents=True, exist_ok=True)
    model = Llama(hidden, layers, heads, vocab, seed, {})
    model = replace(model, tensors=_tensors(model, seed, 0.02, norms=1.0))
    (write or write_torch)(directory, model.tensors, shards)
    _write_configuration(directory, model, vocab)
    _write_tokenizer(directory, model, pad=False)
    return model


def make_delta_v0(
    directory: Path,
    base: Llama,
    *,
    seed: int = 1,
    shards: int = 2,
    write: Writer | None = None,
) -> Tensors:
    """Write a delta with a row for ``[PAD]`` at the end, as Vicuna v0's is.

    Its ``added_tokens.json`` has the new token already, its ``tokenizer.model`` has not.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(base, seed, 0.002, norms=0.0, rows=base.vocab + 1)
    (write or write_torch)(directory, tensors, shards)
    _write_configuration(directory, base, base.vocab + 1)
    _write_tokenizer(directory, base, pad=True)
    return tensors


def make_delta_v1_1(
    directory: Path,
    base: Llama,
    *,
    seed: int = 2,
    shards: int = 2,
    write: Writer | None = None,
) -> Tensors:
    """Write a delta with the base's own vocabulary and no ``inv_freq``, as Vicuna v1.1's is."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(base, seed, 0.002, norms=0.0)
    tensors = {name: t for name, t in tensors.items() if not name.endswith("inv_freq")}
    (write or write_torch)(directory, tensors, shards)
    _write_configuration(directory, base, base.vocab)
    _write_tokenizer(directory, base, pad=False)
    return tensors


def expected_sum(base: Tensors, delta: Tensors) -> Tensors:
    """What FastChat's rule makes of the two, computed by numpy (numerics.md: bit-equal to torch).

    New rows of the base are +0; an ``inv_freq`` that only one side has is dropped.
    """
    total: Tensors = {}
    for name in sorted(base.keys() & delta.keys()):
        a, b = base[name], delta[name]
        if a.shape != b.shape:
            new = np.zeros((b.shape[0] - a.shape[0], *a.shape[1:]), np.float16)
            a = np.concatenate([a, new])
        total[name] = a + b
    return total


def round_to_bfloat16(values: NDArray[np.float16]) -> NDArray[np.float16]:
    """``values`` rounded to bfloat16's eight bits of precision, as float16 again.

    What a base looks like that somebody has converted to bfloat16 and back: the right size, the
    right shapes, the wrong numbers.
    """
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    return rounded.view(np.float32).astype(np.float16)


# ---- values ----


def _tensors(
    model: Llama, seed: int, scale: float, *, norms: float, rows: int | None = None
) -> Tensors:
    """All tensors, in the order of a state dict; ``norms`` is what norm weights lie around."""
    shapes = _shapes(model, rows or model.vocab)
    source = np.random.PCG64(seed)  # numpy promises that the raw stream never changes
    tensors: Tensors = {}
    for name, shape in shapes.items():
        if name.endswith("inv_freq"):
            tensors[name] = _inv_freq(model) if norms else np.zeros(shape, np.float16)
            continue
        around = norms if name.endswith("norm.weight") else 0.0
        tensors[name] = _bell(source, shape, scale, around)
    return tensors


def _shapes(model: Llama, rows: int) -> dict[str, tuple[int, ...]]:
    hidden, wide = model.hidden, model.intermediate
    shapes: dict[str, tuple[int, ...]] = {EMBEDDINGS[0]: (rows, hidden)}
    for i in range(model.layers):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.self_attn.{p}_proj.weight": (hidden, hidden) for p in "qkvo"}
        shapes[f"{layer}.self_attn.rotary_emb.inv_freq"] = (hidden // model.heads // 2,)
        shapes |= {
            f"{layer}.mlp.gate_proj.weight": (wide, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, wide),
            f"{layer}.mlp.up_proj.weight": (wide, hidden),
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
        }
    return {**shapes, "model.norm.weight": (hidden,), EMBEDDINGS[1]: (rows, hidden)}


def _bell(
    source: np.random.PCG64, shape: tuple[int, ...], scale: float, around: float
) -> NDArray[np.float16]:
    """Nearly normal values: the sum of four 16-bit numbers, scaled to the deviation ``scale``."""
    count = int(np.prod(shape))
    raw = np.asarray(source.random_raw(count), "<u8").view("<u2").reshape(count, 4)
    centred = raw.astype(np.int64).sum(axis=1) - 2 * 65535
    deviation = np.float32(65536 / 3**0.5)  # of the sum of four
    values = centred.astype(np.float32) * (np.float32(scale) / deviation) + np.float32(around)
    halves: NDArray[np.float16] = values.astype(np.float16).reshape(shape)
    return halves


def _inv_freq(model: Llama) -> NDArray[np.float16]:
    head = model.hidden // model.heads
    return np.array([10000.0 ** (-i / head) for i in range(0, head, 2)], np.float16)


# ---- weight files ----


def write_torch(directory: Path, tensors: Mapping[str, NDArray[Any]], shards: int) -> None:
    """``pytorch_model-0000i-of-0000n.bin`` and their index."""
    parts = _cut(tensors, shards)
    names = [f"pytorch_model-{i:05}-of-{shards:05}.bin" for i in range(1, shards + 1)]
    for name, part in zip(names, parts, strict=True):
        write_torch_zip(directory / name, part)
    _write_index(directory / "pytorch_model.bin.index.json", names, parts)


def write_safetensors(directory: Path, tensors: Mapping[str, NDArray[Any]], shards: int) -> None:
    """``model-0000i-of-0000n.safetensors`` and their index."""
    parts = _cut(tensors, shards)
    names = [f"model-{i:05}-of-{shards:05}.safetensors" for i in range(1, shards + 1)]
    for name, part in zip(names, parts, strict=True):
        (directory / name).write_bytes(safetensors_bytes(part))
    _write_index(directory / "model.safetensors.index.json", names, parts)


def safetensors_bytes(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """One safetensors file of float16 tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in tensors.items():
        begin, end = end, end + values.nbytes
        header[name] = {"dtype": "F16", "shape": list(values.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.asarray(values, "<f2").tobytes() for values in tensors.values())
    return len(text).to_bytes(8, "little") + text + data


def _cut(tensors: Mapping[str, NDArray[Any]], shards: int) -> list[dict[str, NDArray[Any]]]:
    """Runs of consecutive tensors with about the same number of bytes."""
    total = sum(values.nbytes for values in tensors.values())
    parts: list[dict[str, NDArray[Any]]] = [{} for _ in range(shards)]
    done = 0
    for name, values in tensors.items():
        parts[min(done * shards // total, shards - 1)][name] = values
        done += values.nbytes
    return parts


def _write_index(
    path: Path, names: Sequence[str], parts: Sequence[Mapping[str, NDArray[Any]]]
) -> None:
    where = {name: file for file, part in zip(names, parts, strict=True) for name in part}
    total = sum(values.nbytes for part in parts for values in part.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    _write_json(path, index)


# ---- configuration and tokenizer ----


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def _write_configuration(directory: Path, model: Llama, rows: int) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": model.hidden,
        "initializer_range": 0.02,
        "intermediate_size": model.intermediate,
        "max_position_embeddings": 2048,
        "model_type": "llama",
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.28.0.dev0",
        "use_cache": True,
        "vocab_size": rows,
    }
    generation = {
        "_from_model_config": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "transformers_version": "4.28.0.dev0",
    }
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", generation)


def _write_tokenizer(directory: Path, model: Llama, *, pad: bool) -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config: dict[str, object] = {
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        **names,
        "legacy": False,
        "model_max_length": 2048,
        "pad_token": None,
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }
    (directory / "tokenizer.model").write_bytes(small_model(model.vocab, model.seed))
    _write_json(directory / "tokenizer_config.json", config)
    special = {**names, "pad_token": PAD} if pad else names
    _write_json(directory / "special_tokens_map.json", dict(sorted(special.items())))
    if pad:
        _write_json(directory / "added_tokens.json", {PAD: model.vocab})


# ---- manifests ----


def manifest_text(
    name: str,
    *,
    base: str = "base",
    delta: str = "delta",
    preset: str = "fastchat-v0",
    pad: bool = True,
    output: str = "",
) -> str:
    """An unpinned manifest for a base and a delta in the directories ``base`` and ``delta``.

    ``pad`` asks for the piece ``[PAD]``; ``output`` is the body of the table ``[output]``.
    """
    added = f'\n[[tokenizer.add]]\npiece = "{PAD}"\ntype = "control"\nrole = "pad"\n'
    return f"""schema = "vbuild/1"
name = "{name}"

[base]
uri = "file:{base}"

[[delta]]
uri = "file:{delta}"

[apply]
preset = "{preset}"

[tokenizer]
source = "delta"
{added if pad else ""}
[output]
{output}
"""
