"""Two small LLaMA-like checkpoints that differ in every way that a diff knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.checkpoints import Array, f16, f32, write_model, write_shards

__all__ = ["HOSTILE", "LAYERS", "write_pair"]

LAYERS = 6

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "x' onmouseover='alert(3)",
    "a|b\\|c`d``e",
    "[click](javascript:alert(4)) <!-- --> &lt; ]]>",
    "\u202emoc.live",
    "layers.1.<b>.weight",
)
"""Names that a strict reader accepts, and that mean something to HTML, Markdown or a terminal."""

_SHAPES = {
    "self_attn.q_proj": (8, 8),
    "self_attn.k_proj": (8, 8),
    "self_attn.v_proj": (8, 8),
    "self_attn.o_proj": (8, 8),
    "mlp.gate_proj": (20, 8),
    "mlp.up_proj": (20, 8),
    "mlp.down_proj": (8, 20),
    "input_layernorm": (8,),
    "post_attention_layernorm": (8,),
}


def write_pair(root: Path, *, hostile: bool = False) -> tuple[Path, Path]:
    """``root/base`` and ``root/tuned``.

    Layer 4 has changed most, its v and o projections above all, norms not at all; the embeddings
    have a row more, one tensor another type, and each side has a name of its own.
    """
    rng = np.random.default_rng(3)
    base: dict[str, Array] = {}
    tuned: dict[str, Array] = {}
    for i in range(LAYERS):
        for module, shape in _SHAPES.items():
            name = f"model.layers.{i}.{module}.weight"
            values = (rng.standard_normal(shape) * 0.02).astype(np.float16)
            part = 0.0 if "norm" in module else 0.9 if i == 4 else 0.05 * (i + 1)
            part = min(1.0, part * 2) if module[-6:] in ("v_proj", "o_proj") else part
            changed = rng.random(shape) < part
            base[name] = f16(values)
            tuned[name] = f16(values + changed * rng.standard_normal(shape) * 1e-3)
    rows = rng.standard_normal((11, 8)).astype(np.float16)
    base["model.embed_tokens.weight"], tuned["model.embed_tokens.weight"] = (
        f16(rows[:10]),
        f16(rows),
    )
    base["model.norm.weight"], tuned["model.norm.weight"] = f16(np.ones(8)), f32(np.ones(8))
    base["model.layers.2.self_attn.rotary_emb.inv_freq"] = f32(np.ones(4))
    tuned["model.mm_projector.weight"] = f16(np.ones((2, 2)))
    for i, name in enumerate(HOSTILE if hostile else ()):
        if i % 3 != 1:
            base[name] = f16([1.0, 2.0])
        if i % 3 != 2:
            tuned[name] = f16([1.0, 3.0])
    return write_model(root / "base", base), write_shards(root / "tuned", tuned, 3)
