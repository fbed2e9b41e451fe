"""PEFT adapters for tests, written by numpy and json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.builds import write_safetensors

__all__ = ["CONFIG", "PREFIX", "factors", "write_adapter"]

PREFIX = "base_model.model."

CONFIG: dict[str, Any] = {
    "auto_mapping": None,
    "base_model_name_or_path": "llama-7b",
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layers_pattern": None,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 4,
    "revision": None,
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
}
"""What PEFT wrote in 2023."""


def factors(
    module: str,
    shape: tuple[int, int],
    *,
    seed: int = 0,
    rank: int = 4,
    scale: float = 0.05,
    dtype: str = "float32",
    infix: str = "",
) -> dict[str, np.ndarray]:
    """The two tensors of a linear layer's update, by the adapter's names."""
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((shape[0], rank)) * scale
    a = rng.standard_normal((rank, shape[1])) * scale
    return {
        f"{PREFIX}{module}.lora_A{infix}.weight": a.astype(dtype),
        f"{PREFIX}{module}.lora_B{infix}.weight": b.astype(dtype),
    }


def write_adapter(
    directory: Path, tensors: Mapping[str, np.ndarray], **settings: object
) -> dict[str, Any]:
    """``adapter_model.safetensors`` and ``adapter_config.json``; the configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, **settings}
    write_safetensors(directory / "adapter_model.safetensors", tensors)
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return config
