"""What an adapter's files say: factors, scales and saved modules, or one clear error each."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from tests.support.adapters import CONFIG, PREFIX, factors, write_adapter
from tests.support.builds import write_safetensors
from vbuild.errors import InvalidInput
from vbuild.formats import open_checkpoint
from vbuild.formats.peft import as_adapter
from vbuild.formats.peft_config import MAX_EXPRESSIONS, MAX_STEPS, parse_adapter_config

Q = "model.layers.0.self_attn.q_proj"
EMBED = "model.embed_tokens"


def parsed(**settings):
    return parse_adapter_config(json.dumps({**CONFIG, **settings}).encode(), "adapter_config.json")


def opened(directory, tensors, **settings):
    write_adapter(directory, tensors, **settings)
    files = {"adapter_model.safetensors": directory / "adapter_model.safetensors"}
    return as_adapter(open_checkpoint(files, "delta"), parsed(**settings))


def refused(code, directory, tensors, **settings):
    with pytest.raises(InvalidInput) as caught:
        opened(directory, tensors, **settings)
    assert caught.value.code == code
    assert "\n" not in caught.value.message
    return caught.value


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


# ---- the configuration ----


def test_the_scale_is_alpha_by_rank_rounded_to_f32():
    assert parsed().scale(Q, 4) == 4.0
    assert parsed(r=3, lora_alpha=1).scale(Q, 3) == f32(1 / 3) != 1 / 3
    assert parsed(r=3, lora_alpha=1.5).scale(Q, 3) == 0.5
    assert parsed(r=8, use_rslora=True).scale(Q, 8) == f32(16 / 8**0.5)


def test_the_first_key_of_alpha_pattern_that_matches_wins():
    config = parsed(alpha_pattern={"self_attn.q_proj": 8, "q_proj": 2, r".*k_proj": 4})
    names = [Q, "model.q_proj", Q.replace("q_", "k_"), Q.replace("q_", "v_")]
    assert [config.scale(name, 4) for name in names] == [2.0, 0.5, 1.0, 4.0]


def test_a_rank_has_to_be_known():
    config = parsed(rank_pattern={"q_proj": 8})
    assert (config.scale(Q, 8), config.scale(Q, 4)) == (2.0, 4.0)
    with pytest.raises(InvalidInput) as caught:
        config.scale(Q, 16)
    assert caught.value.code == "adapter-rank"
    assert (caught.value.expected, caught.value.got) == ("4 or 8", "16")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "only LoRA adapters can be merged, expected LORA"),
        ({"peft_type": None}, "only LoRA"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "biases of its own"),
        ({"megatron_config": {"x": 1}}, "Megatron"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "repeated"),
        ({"target_parameters": ["experts.w"]}, "bare parameters"),
        ({"trainable_token_indices": [0]}, "single trained tokens"),
        ({"alora_invocation_tokens": [1]}, "activated"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"x": 1}}, "BD-LoRA"),
        ({"arrow_config": {"x": 1}}, '"arrow_config" is not known'),
        ({"enable_lora": [True]}, '"enable_lora" is not known'),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"init_lora_weights": ["a"]}, "changes the base"),
        ({"alpha_pattern": {"a{2}": 1}}, "expression"),
    ],
)
def test_case_61_what_is_not_merged_is_refused(settings, words):
    with pytest.raises(InvalidInput) as caught:
        parsed(**settings)
    assert caught.value.code == "adapter-unsupported"
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal"])
def test_how_an_adapter_was_started_does_not_matter_where_the_base_stays(start):
    assert parsed(init_lora_weights=start, use_dora=False, megatron_core="x").scale(Q, 4) == 4.0


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"r": None}, "r"),
        ({"r": 0}, "r"),
        ({"r": True}, "r"),
        ({"r": 4.0}, "r"),
        ({"r": 2**40}, "r"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"lora_alpha": True}, "lora_alpha"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"fan_in_fan_out": 1}, "fan_in_fan_out"),
        ({"rank_pattern": [4]}, "rank_pattern"),
        ({"rank_pattern": {"q": 0}}, 'rank_pattern: "q"'),
        ({"alpha_pattern": {"q": "x"}}, 'alpha_pattern: "q"'),
        ({"alpha_pattern": 7}, "alpha_pattern"),
    ],
)
def test_case_61_a_value_that_is_none_is_refused(settings, key):
    with pytest.raises(InvalidInput) as caught:
        parsed(**settings)
    assert caught.value.code == "adapter-config"
    assert caught.value.what == f"{key} is not what it must be"


def test_a_scale_beyond_f32_is_refused():
    with pytest.raises(InvalidInput) as caught:
        parsed(lora_alpha=1e300).scale(Q, 4)
    assert caught.value.code == "adapter-config"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"r": 1, "r": 2}', b"\xff", b"[" * 100])
def test_a_configuration_that_is_no_json_object_is_refused(data):
    with pytest.raises(InvalidInput) as caught:
        parse_adapter_config(data, "adapter_config.json")
    assert caught.value.code == "adapter-config"


def test_too_many_expressions_for_too_many_modules_are_refused():
    config = parsed(alpha_pattern={f"(a|b)*{i}": 1 for i in range(200)})
    config.check_names(["model.layers.0.self_attn.q_proj"] * 100)
    with pytest.raises(InvalidInput) as caught:
        config.check_names(["model.layers.0.self_attn.q_proj"] * 10_000)
    assert caught.value.code == "adapter-unsupported"
    assert "too many keys" in caught.value.what


@pytest.mark.parametrize("key", ["(" + "(a|.)*" * 140 + "{})", "." * 990 + "{}"])
def test_a_few_long_expressions_for_long_names_are_as_much(key):
    config = parsed(alpha_pattern={key.replace("{}", str(i)): 1 for i in range(40)})
    config.check_names(["q_proj"] * 10)
    with pytest.raises(InvalidInput) as caught:
        config.check_names(["x" * 1000] * (MAX_STEPS // 30_000))
    assert "too many keys" in caught.value.what


def test_expressions_take_bounded_memory():
    keys = [f"({'x' * 995}){i:03}" for i in range(MAX_EXPRESSIONS // 1000)]
    parsed(alpha_pattern=dict.fromkeys(keys, 1))
    with pytest.raises(InvalidInput) as caught:
        parsed(alpha_pattern=dict.fromkeys([*keys, "(y)"], 1))
    assert caught.value.code == "adapter-unsupported"
    assert "too many" in caught.value.what


# ---- the tensors ----


@pytest.mark.parametrize("infix", ["", ".default"])
def test_a_linear_layer_s_factors_become_an_update_of_its_weight(tmp_path, infix):
    adapter = opened(tmp_path, factors(Q, (6, 5), infix=infix))
    update = adapter.updates[f"{Q}.weight"]
    assert (update.shape, update.scale, update.weight) == ((6, 5), 4.0, None)
    assert update.left.name.endswith(f"lora_B{infix}.weight")
    assert update.right.strides == (5, 1)
    assert not adapter.tensors


def test_fan_in_fan_out_turns_the_product(tmp_path):
    update = opened(tmp_path, factors(Q, (6, 5)), fan_in_fan_out=True).updates[f"{Q}.weight"]
    assert update.shape == (5, 6)
    assert (update.left.shape, update.left.strides) == ((5, 4), (1, 5))
    assert (update.right.shape, update.right.strides) == ((4, 6), (1, 4))


@pytest.mark.parametrize("infix", ["", ".default"])
def test_an_embedding_s_product_is_turned(tmp_path, infix):
    tensors = {
        f"{PREFIX}{EMBED}.lora_embedding_A{infix}": np.ones((4, 9), np.float32),
        f"{PREFIX}{EMBED}.lora_embedding_B{infix}": np.ones((5, 4), np.float32),
    }
    update = opened(tmp_path, tensors).updates[f"{EMBED}.weight"]
    assert update.shape == (9, 5)
    assert (update.left.shape, update.right.shape) == ((9, 4), (4, 5))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("lm_head.weight", "lm_head.weight"),
        ("lm_head.modules_to_save.weight", "lm_head.weight"),
        ("lm_head.modules_to_save.default.weight", "lm_head.weight"),
        ("score.modules_to_save.default.dense.weight", "score.dense.weight"),
        (f"{EMBED}.base_layer.weight", f"{EMBED}.weight"),
        (f"{Q}.base_layer.bias", f"{Q}.bias"),
    ],
)
def test_any_other_tensor_is_a_saved_module(tmp_path, name, target):
    adapter = opened(tmp_path, {PREFIX + name: np.ones((3, 2), np.float32)})
    assert list(adapter.tensors) == [target]
    assert adapter.tensors[target].name == target
    assert not adapter.updates


def test_an_embedding_may_be_saved_and_updated(tmp_path):
    tensors = {
        f"{PREFIX}{EMBED}.lora_embedding_A": np.ones((4, 9), np.float32),
        f"{PREFIX}{EMBED}.lora_embedding_B": np.ones((5, 4), np.float32),
        f"{PREFIX}{EMBED}.base_layer.weight": np.ones((9, 5), np.float16),
    }
    adapter = opened(tmp_path, tensors)
    assert adapter.updates[f"{EMBED}.weight"].weight.shape == (9, 5)
    assert not adapter.tensors


def test_case_61_a_factor_alone_names_the_other(tmp_path):
    tensors = factors(Q, (6, 5))
    del tensors[f"{PREFIX}{Q}.lora_B.weight"]
    error = refused("adapter-pair", tmp_path, tensors)
    assert error.expected == f"{PREFIX}{Q}.lora_B.weight"


def test_case_61_factors_of_two_kinds_are_no_pair(tmp_path):
    tensors = factors(Q, (6, 5))
    tensors[f"{PREFIX}{Q}.lora_embedding_B"] = tensors.pop(f"{PREFIX}{Q}.lora_B.weight")
    refused("adapter-pair", tmp_path, tensors)


def test_case_61_factors_of_different_ranks_are_refused(tmp_path):
    tensors = factors(Q, (6, 5)) | {f"{PREFIX}{Q}.lora_B.weight": np.ones((6, 3), np.float32)}
    error = refused("adapter-rank", tmp_path, tensors)
    assert (error.expected, error.got) == ("shape [6, 4]", "shape [6, 3]")


def test_case_61_a_rank_that_is_not_the_configuration_s_is_refused(tmp_path):
    refused("adapter-rank", tmp_path, factors(Q, (6, 5), rank=8))


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (f"{PREFIX}{Q}.lora_magnitude_vector", "adapter-unsupported", "DoRA"),
        (f"{PREFIX}{Q}.lora_magnitude_vector.default.weight", "adapter-unsupported", "DoRA"),
        (f"{PREFIX}{Q}.lora_B.bias", "adapter-unsupported", "part of an adapter"),
        (f"{PREFIX}{Q}.lora_A.mine.weight", "adapter-unsupported", "part of an adapter"),
        (f"{PREFIX}lm_head.original_module.weight", "adapter-unsupported", "copy of the base"),
        (
            f"{PREFIX}{EMBED}.token_adapter.trainable_tokens_delta",
            "adapter-unsupported",
            "single trained tokens",
        ),
        ("model.norm.weight", "adapter-tensor", "no part of an adapter"),
    ],
)
def test_case_61_a_tensor_of_no_use_is_refused(tmp_path, name, code, words):
    tensors = factors(Q, (6, 5)) | {name: np.ones((6, 5), np.float32)}
    assert words in refused(code, tmp_path, tensors).what


@pytest.mark.parametrize(
    "values", [np.ones(4, np.float32), np.ones((4, 5), np.float64), np.ones((0, 5), np.float32)]
)
def test_a_factor_is_a_matrix_of_a_known_type(tmp_path, values):
    tensors = factors(Q, (6, 5)) | {f"{PREFIX}{Q}.lora_A.weight": values}
    refused("adapter-tensor", tmp_path, tensors)


def test_one_thing_under_two_names_is_refused(tmp_path):
    twice = factors(Q, (6, 5)) | factors(Q, (6, 5), infix=".default")
    refused("adapter-tensor", tmp_path, twice)
    saved = {f"{PREFIX}{n}.weight": np.ones(3, np.float32) for n in ("x", "x.modules_to_save")}
    refused("adapter-tensor", tmp_path, saved)


def test_the_files_of_an_adapter_may_be_several(tmp_path):
    tensors = factors(Q, (6, 5))
    for i, name in enumerate(sorted(tensors)):
        write_safetensors(tmp_path / f"part-{i}.safetensors", {name: tensors[name]})
    files = {p.name: p for p in tmp_path.iterdir()}
    update = as_adapter(open_checkpoint(files, "delta"), parsed()).updates[f"{Q}.weight"]
    assert {update.left.file, update.right.file} == set(files)
