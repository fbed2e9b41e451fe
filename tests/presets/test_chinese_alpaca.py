"""Chinese-LLaMA-Alpaca: a chain of adapters, each with embeddings of its own and more rows."""

from __future__ import annotations

import json

import pytest

from tests.presets.field import (
    EMBEDDINGS,
    HIDDEN,
    VOCAB,
    build,
    llama,
    manifest,
    write_bin,  # fmt: skip
)
from tests.support.adapters import CONFIG, PREFIX

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")

MODULES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(2) for p in "qv"]


def adapter(seed, rows, rank=8):
    """An adapter's state dict, as PEFT wrote it then: float16 embeddings, float32 factors."""
    source = torch.Generator().manual_seed(seed)

    def values(*shape, scale=0.05):
        return torch.randn(shape, generator=source) * scale

    state = {}
    for module in MODULES:
        state[f"{PREFIX}{module}.lora_A.weight"] = values(rank, HIDDEN)
        state[f"{PREFIX}{module}.lora_B.weight"] = values(HIDDEN, rank)
    return state | {f"{PREFIX}{name}": values(rows, HIDDEN).half() for name in EMBEDDINGS}


def write_adapter(directory, state, **settings):
    directory.mkdir()
    torch.save(state, directory / "adapter_model.bin")
    (directory / "adapter_config.json").write_text(json.dumps({**CONFIG, **settings}))


def merged(base, *adapters):
    """What is no factor replaces; a product in f32 is added to f16; one adapter, then the next."""
    total = {name: values.clone() for name, values in base.items()}
    for state, scale in adapters:
        for name in total:
            module = name.removesuffix(".weight")
            if PREFIX + name in state:
                total[name] = state[PREFIX + name].half()
            elif f"{PREFIX}{module}.lora_A.weight" in state:
                a, b = (state[f"{PREFIX}{module}.lora_{s}.weight"].float() for s in "AB")
                total[name] += (b @ a) * scale
    return total


def ulps(a, b):
    def ordered(t):
        bits = t.contiguous().view(torch.int16).long()
        return torch.where(bits < 0, -(bits & 0x7FFF), bits)

    return int((ordered(a) - ordered(b)).abs().max())


def test_a_chain_of_two_adapters(tmp_path):
    base = llama(1)
    first, second = adapter(2, VOCAB + 179), adapter(3, VOCAB + 180)
    write_bin(tmp_path / "base", base)
    write_adapter(tmp_path / "llama", first, r=8, lora_alpha=32)
    write_adapter(tmp_path / "alpaca", second, r=8, lora_alpha=16)
    path = manifest(tmp_path, "chinese-alpaca", kind="lora", deltas=["llama", "alpaca"])
    made = build(path)
    wanted = merged(base, (first, 4.0), (second, 2.0))
    assert sorted(made) == sorted(wanted)
    for name, expected in wanted.items():
        assert made[name].dtype == torch.float16
        assert made[name].shape == expected.shape
        if name.removesuffix(".weight") in MODULES:
            assert ulps(made[name], expected) <= 2, name  # a rounding after each
            assert not torch.equal(made[name], base[name])
        else:
            assert torch.equal(made[name].view(torch.int16), expected.view(torch.int16)), name
    assert made["lm_head.weight"].shape[0] == VOCAB + 180
