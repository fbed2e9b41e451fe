"""vbuild.formats.gguf_llama: settings, names and shapes of a LLaMA in a GGUF file."""

from __future__ import annotations

from typing import Any

import gguf
import pytest

from vbuild.errors import InvalidInput
from vbuild.formats.gguf_llama import Llama, parse_config

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 12,
    "rms_norm_eps": 1e-6,
    "vocab_size": 321,
}


def model(**changes: Any) -> Llama:
    return parse_config({**CONFIG, **changes}, "config.json")


def entries(**changes: Any) -> dict[str, object]:
    return {entry.key: entry.value for entry in model(**changes).entries()}


def test_the_settings_are_the_configuration_s() -> None:
    assert entries() == {
        "llama.block_count": 12,
        "llama.context_length": 2048,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 4,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.vocab_size": 321,
        "llama.rope.dimension_count": 16,
    }


def test_the_keys_are_the_package_s() -> None:
    known = {
        value.replace("{arch}", "llama")
        for group in (gguf.Keys.LLM, gguf.Keys.Attention, gguf.Keys.Rope)
        for value in vars(group).values()
        if isinstance(value, str) and "{arch}" in value
    }
    scaling = {"type": "linear", "factor": 2.0}
    assert entries(rope_scaling=scaling).keys() <= known


def test_grouped_queries_and_wide_heads_change_the_shapes() -> None:
    found = model(num_key_value_heads=2, head_dim=32)
    shapes = {part: found.place(f"model.layers.3.self_attn.{part}_proj.weight") for part in "qkvo"}
    assert {part: place and place.shape for part, place in shapes.items()} == {
        "q": (128, 64),
        "k": (64, 64),
        "v": (64, 64),
        "o": (64, 128),
    }
    assert {part: place and place.turned for part, place in shapes.items()} == {
        "q": 4,
        "k": 2,
        "v": 0,
        "o": 0,
    }
    assert found.entries()[-1].value == 32


@pytest.mark.parametrize(
    ("changes", "theta", "factor"),
    [
        ({}, 10000.0, None),
        ({"rope_theta": 5e5}, 5e5, None),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, None),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 10000.0, 4.0),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7}}, 7.0, None),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 7, "factor": 2}}, 7.0, 2.0),
    ],
)
def test_rotary_embeddings_in_the_forms_of_all_versions(
    changes: dict[str, Any], theta: float, factor: float | None
) -> None:
    found = entries(**changes)
    assert found["llama.rope.freq_base"] == theta
    assert found.get("llama.rope.scaling.factor") == factor
    assert found.get("llama.rope.scaling.type") == (None if factor is None else "linear")


def test_names_are_the_package_s() -> None:
    ours = model()
    theirs = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 12)
    assert len(ours.names()) == 12 * 9 + 3
    for name in ours.names():
        place = ours.place(name)
        assert place is not None
        assert place.name == theirs.get_name(name, try_suffixes=(".weight",))


def test_layers_stand_in_the_order_of_their_numbers() -> None:
    ours = model()
    places = [place for name in ours.names() if (place := ours.place(name)) is not None]
    names = [place.name for place in sorted(places, key=lambda place: place.order)]
    assert names[0] == "token_embd.weight"
    assert names[-2:] == ["output_norm.weight", "output.weight"]
    layers = [int(name.split(".")[1]) for name in names[1:-2]]
    assert layers == sorted(layers)
    assert names[1:10] == sorted(names[1:10])


def test_inverse_frequencies_and_an_output_that_is_tied_are_left_out() -> None:
    assert model().place("model.layers.0.self_attn.rotary_emb.inv_freq") is None
    tied = model(tie_word_embeddings=True)
    assert tied.place("lm_head.weight") is None
    assert "lm_head.weight" not in tied.names()
    assert model().place("lm_head.weight") is not None


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.12.mlp.up_proj.weight",
        "model.layers.00.mlp.up_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.mm_projector.weight",
        "lm_head.bias",
        "token_embd.weight",
    ],
)
def test_a_tensor_without_a_place_is_named_with_the_way_out(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        model().place(name)
    assert (caught.value.code, caught.value.where) == ("gguf-tensor", name)
    assert '"drop"' in str(caught.value.hint)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["MixtralForCausalLM"]},
        {"architectures": []},
        {"architectures": None},
        {"architectures": [["LlamaForCausalLM"]]},
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"quantization_config": {"bits": 4}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_scaling": {"type": "dynamic", "factor": 8.0}},
        {"rope_parameters": {"rope_type": ["yarn"]}},
    ],
)
def test_what_llama_cpp_would_run_wrongly_is_refused_with_the_way_out(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(InvalidInput) as caught:
        model(**changes)
    assert caught.value.code == "gguf-architecture"
    assert caught.value.expected is not None
    assert "llama.cpp's own converter" in str(caught.value.hint)


@pytest.mark.parametrize("key", [k for k in CONFIG if k not in ("architectures", "hidden_act")])
@pytest.mark.parametrize("value", [None, 0, -1, "8", True, 10**400, 1e300, [], float("1e-999")])
def test_a_setting_that_is_missing_or_impossible_is_named(key: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        model(**{key: value})
    assert caught.value.code == "gguf-config"
    assert key in caught.value.message


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"num_attention_heads": 64}, "head_dim"),
        ({"head_dim": 15}, "head_dim"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"rope_theta": 10**400}, "rope_theta"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling"),
    ],
)
def test_settings_that_contradict_each_other_are_named(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        model(**changes)
    assert caught.value.code == "gguf-config"
    assert key in caught.value.message
