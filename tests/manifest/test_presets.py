"""Every preset is a readable, complete list of rules."""

import fnmatch
from importlib import resources

import pytest

from vbuild.manifest import load_preset, preset_names

LLAMA = [
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.norm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.rotary_emb.inv_freq",
    "model.layers.31.mlp.gate_proj.weight",
]


def claimed(preset: str, tensor: str) -> dict[str, object]:
    rules = load_preset(preset).rule
    rule = next(r for r in rules if any(fnmatch.fnmatchcase(tensor, p) for p in r.patterns))
    return {key: getattr(rule, key) for key in ("op", "compute", "pad", "on_missing")}


def test_the_presets_are_the_files_in_their_directory():
    files = resources.files("vbuild.manifest").joinpath("presets").iterdir()
    assert sorted(f.name for f in files) == sorted(f"{name}.toml" for name in preset_names())
    assert {"fastchat-v0", "fastchat-v1.1"} <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_it_is_and_claims_every_tensor(name):
    preset = load_preset(name)
    assert preset.description
    assert preset.rule[-1].patterns == ("*",)


@pytest.mark.parametrize("name", ["fastchat-v0", "fastchat-v1.1"])
@pytest.mark.parametrize("tensor", LLAMA)
def test_fastchat_adds_everything_in_float16(name, tensor):
    grows = name == "fastchat-v0" and tensor in LLAMA[:2]
    assert claimed(name, tensor) == {
        "op": "add",
        "compute": "float16",
        "pad": "zero" if grows else None,
        "on_missing": "drop" if tensor.endswith("inv_freq") else "error",
    }
