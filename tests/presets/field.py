"""A small base and delta as torch writes them, built by vbuild from end to end.

- The containers are the original's own: ``.bin`` shards with an index by ``torch.save``, or
  safetensors by the safetensors package; the result is read by the safetensors package.
- Nothing in the rules that tests compare with comes from vbuild.
- torch is imported by those who call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vbuild

__all__ = [
    "EMBEDDINGS",
    "HIDDEN",
    "bits",
    "build",
    "llama",
    "manifest",
    "same_bits",
    "write_bin",
    "write_safetensors",
]

EMBEDDINGS = ("model.embed_tokens.weight", "lm_head.weight")
HIDDEN = 48
WIDE = 80
VOCAB = 320

State = dict[str, Any]


def llama(
    seed: int,
    *,
    rows: int = VOCAB,
    scale: float = 0.02,
    dtype: str = "float16",
    inv_freq: bool = True,
    layers: int = 2,
) -> State:
    """A state dict in LLaMA's names, in its order; some values are -0, subnormal and large."""
    import torch

    source = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {EMBEDDINGS[0]: (rows, HIDDEN)}
    for i in range(layers):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.self_attn.{p}_proj.weight": (HIDDEN, HIDDEN) for p in "qkvo"}
        if inv_freq:
            shapes[f"{layer}.self_attn.rotary_emb.inv_freq"] = (6,)
        shapes |= {f"{layer}.mlp.{p}_proj.weight": (WIDE, HIDDEN) for p in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (HIDDEN, WIDE)
        shapes |= {f"{layer}.{p}_layernorm.weight": (HIDDEN,) for p in ("input", "post_attention")}
    shapes |= {"model.norm.weight": (HIDDEN,), EMBEDDINGS[1]: (rows, HIDDEN)}
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=source) * scale
        flat = values.view(-1)
        flat[::7] = torch.tensor([-0.0, 3e-8, 1.5, -2e-6])[torch.arange(len(flat[::7])) % 4]
        state[name] = values.to(getattr(torch, dtype))
    return state


def write_bin(directory: Path, state: Mapping[str, Any], shards: int = 2) -> None:
    """``pytorch_model-0000i-of-0000n.bin`` and their index, or one file."""
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        torch.save(dict(state), directory / "pytorch_model.bin")
        return
    names = list(state)
    cut = [names[i * len(names) // shards : (i + 1) * len(names) // shards] for i in range(shards)]
    weight_map = {}
    for i, part in enumerate(cut, 1):
        file = f"pytorch_model-{i:05}-of-{shards:05}.bin"
        torch.save({name: state[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_safetensors(directory: Path, state: Mapping[str, Any], name: str = "model") -> None:
    """One safetensors file."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in state.items()}, directory / f"{name}.safetensors")


def manifest(
    root: Path,
    preset: str | None = None,
    *,
    output: str = "",
    deltas: Sequence[str] = ("delta",),
    kind: str = "",
    rules: str = "",
) -> Path:
    """An unpinned manifest for ``base`` and the deltas; ``output`` is the body of ``[output]``."""
    apply = f'[apply]\npreset = "{preset}"\n' if preset else ""
    text = 'schema = "vbuild/1"\nname = "made"\n[base]\nuri = "file:base"\n'
    for delta in deltas:
        text += f'[[delta]]\nuri = "file:{delta}"\n' + (f'kind = "{kind}"\n' if kind else "")
    path = root / "manifest.toml"
    path.write_text(f"{text}{apply}{rules}\n[output]\n{output}\n")
    return path


def build(path: Path, *, out: str = "out", jobs: int | None = None) -> State:
    """Lock and apply the manifest; the tensors of the result. No warning is given."""
    made, warnings = build_with_warnings(path, out=out, jobs=jobs)
    assert warnings == ()
    return made


def build_with_warnings(
    path: Path, *, out: str = "out", jobs: int | None = None
) -> tuple[State, tuple[str, ...]]:
    """As :func:`build`, with the warnings."""
    from safetensors.torch import load_file

    vbuild.lock(path)
    target = path.parent / out
    applied = vbuild.apply(path, out=target, unsigned=True, jobs=jobs)
    made: State = {}
    for file in sorted(target.glob("*.safetensors")):
        made |= load_file(file)
    return made, applied.warnings


def bits(tensor: Any) -> Any:
    """The tensor's bytes."""
    import torch

    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor.reshape(1)


def same_bits(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Assert that two state dicts are equal in names, types, shapes and every bit."""
    import torch

    assert sorted(made) == sorted(wanted)
    for name, expected in wanted.items():
        assert (made[name].dtype, made[name].shape) == (expected.dtype, expected.shape), name
        assert torch.equal(bits(made[name]), bits(expected)), name
