"""How far vbuild's merge is from PEFT's own, in units in the last place, and where it is the same.

- PEFT's bits depend on the library that multiplies; numerics.md bounds the distance: for float16
  at most 1 ulp, in general ``2 r 2^-24 scale sum |B| |A|`` plus one ulp of the output's type.
- The distribution is printed (``pytest -s``) and recorded as a property of the test.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter

import pytest

from tests.presets.field import HIDDEN, WIDE, build, manifest, same_bits, write_bin

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("default")]  # of the libraries
torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

VOCAB = 320
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
INTEGERS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}


def new_base(dtype=torch.float16, **settings):
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        num_hidden_layers=2,
        num_attention_heads=4,
        **{"hidden_size": HIDDEN, "intermediate_size": WIDE, **settings},
    )
    config.tie_word_embeddings = settings.get("tie_word_embeddings", False)
    model = transformers.LlamaForCausalLM(config).to(dtype)
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape).mul(0.05).to(dtype))
    return model


def state_of(model):
    """The tensors as they are saved: what is tied once."""
    state = {n: t.detach().clone() for n, t in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


def save_adapter(model, directory, seed=2, **settings):
    """An adapter for ``model`` with random factors, as PEFT saves it."""
    torch.manual_seed(seed)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, values in wrapped.named_parameters():
            if "lora_" in name:
                values.copy_(torch.randn(values.shape) * 0.1)
            elif "modules_to_save" in name:
                values.copy_(torch.randn(values.shape) * 0.05)
    wrapped.save_pretrained(directory)


def merged_by_peft(dtype, *directories, **settings):
    model = new_base(dtype, **settings)
    for directory in directories:
        model = peft.PeftModel.from_pretrained(model, directory).merge_and_unload()
    return state_of(model)


def ordered(values):
    """Bit patterns as integers that follow the order of the numbers."""
    kind = INTEGERS[values.dtype]
    bits = values.contiguous().view(kind).long()
    return torch.where(bits < 0, -(bits & torch.iinfo(kind).max), bits)


def distances(made, theirs):
    """How many elements are so many ulps apart."""
    found = Counter()
    for name, values in theirs.items():
        apart = (ordered(made[name]) - ordered(values)).abs()
        found.update(apart.flatten().tolist())
    return found


def job(tmp_path, dtype=torch.float16, base=None, adapters=({},), rules=""):
    base = base or {}
    write_bin(tmp_path / "base", state_of(new_base(dtype, **base)))
    names = [f"lora{i}" for i in range(len(adapters))]
    for i, (name, settings) in enumerate(zip(names, adapters, strict=True)):
        save_adapter(new_base(dtype, **base), tmp_path / name, seed=i + 2, **settings)
    theirs = merged_by_peft(dtype, *(tmp_path / name for name in names), **base)
    made = build(manifest(tmp_path, kind="lora", deltas=names, rules=rules))
    assert sorted(made) == sorted(theirs)
    return made, theirs


def report(record_property, what, found):
    total = sum(found.values())
    text = ", ".join(f"{ulps} ulp: {n / total:.4g}" for ulps, n in sorted(found.items()))
    record_property("ulps", text)
    sys.stdout.write(f"\n{what}: {text} of {total} elements\n")


LARGE = {"hidden_size": 256, "intermediate_size": 688}

ROUNDED_FIRST = """
[[apply.rule]]
match = "model.embed_tokens.weight"
op = "merge"
on_missing = "copy-base"
compute = "float16"
[[apply.rule]]
match = "*"
op = "merge"
on_missing = "copy-base"
"""
"""PEFT rounds an embedding's product, and no other, to the base's type before it adds it."""

SETTINGS = {
    "rank 8": {"r": 8, "lora_alpha": 16, "target_modules": LINEAR},
    "rank 64": {"r": 64, "lora_alpha": 16, "target_modules": LINEAR},
    "rank 512": {"r": 512, "lora_alpha": 16, "target_modules": LINEAR},
    "rsLoRA": {"r": 8, "lora_alpha": 3, "use_rslora": True, "target_modules": LINEAR},
    "patterns": {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": LINEAR,
        "rank_pattern": {"q_proj": 4, "^model.layers.1.mlp.up_proj": 16},
        "alpha_pattern": {r"layers\.\d+\.mlp\..*": 7, "self_attn.k_proj": 1},
    },
    "embedding": {"r": 8, "lora_alpha": 16, "target_modules": ["embed_tokens", "v_proj"]},
    "saved": {
        "r": 8,
        "lora_alpha": 16,
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens", "lm_head"],
    },
}


@pytest.mark.parametrize("what", SETTINGS)
def test_a_float16_result_is_at_most_one_ulp_from_peft_s(tmp_path, record_property, what):
    made, theirs = job(tmp_path, adapters=[SETTINGS[what]], rules=ROUNDED_FIRST)
    found = distances(made, theirs)
    report(record_property, what, found)
    assert max(found) <= 1
    base = state_of(new_base())
    changed = sum(not torch.equal(made[name], values) for name, values in base.items())
    assert changed >= 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize(("base", "rank"), [({}, "rank 512"), (LARGE, "rank 64")])
def test_any_result_is_within_the_bound_of_peft_s(tmp_path, record_property, dtype, base, rank):
    settings = SETTINGS[rank]
    made, theirs = job(tmp_path, dtype, base, adapters=[settings])
    report(record_property, f"{rank}, {dtype}", distances(made, theirs))
    from safetensors.torch import load_file

    adapter = load_file(tmp_path / "lora0" / "adapter_model.safetensors")
    for name, values in theirs.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        apart = (made[name].double() - values.double()).abs()
        if f"{stem}.lora_A.weight" not in adapter:
            assert apart.max() == 0
            continue
        sizes = (
            adapter[f"{stem}.lora_B.weight"].double().abs()
            @ adapter[f"{stem}.lora_A.weight"].double().abs()
        )
        scale = settings["lora_alpha"] / settings["r"]
        bound = 2 * settings["r"] * 2.0**-24 * scale * sizes + one_ulp(values)
        assert (apart <= bound).all(), name


def one_ulp(values):
    size = values.abs()
    return (torch.nextafter(size, torch.tensor(math.inf, dtype=size.dtype)) - size).double()


def test_a_chain_is_merged_as_peft_merges_one_after_the_other(tmp_path, record_property):
    both = [SETTINGS["rank 8"], SETTINGS["patterns"]]
    made, theirs = job(tmp_path, adapters=both)
    found = distances(made, theirs)
    report(record_property, "chain", found)
    assert max(found) <= 2  # a rounding after each


def test_a_tied_embedding_takes_its_update_for_both(tmp_path, record_property):
    settings = SETTINGS["embedding"]
    made, theirs = job(
        tmp_path, base={"tie_word_embeddings": True}, adapters=[settings], rules=ROUNDED_FIRST
    )
    found = distances(made, theirs)
    report(record_property, "tied", found)
    assert "lm_head.weight" not in made
    assert max(found) <= 1


def test_an_adapter_in_a_bin_file_gives_the_same(tmp_path):
    from safetensors.torch import load_file

    made, _ = job(tmp_path, adapters=[SETTINGS["saved"]])
    weights = tmp_path / "lora0" / "adapter_model.safetensors"
    torch.save(load_file(weights), tmp_path / "lora0" / "adapter_model.bin")
    weights.unlink()
    again = build(manifest(tmp_path, kind="lora", deltas=["lora0"]), out="again")
    same_bits(again, made)


def test_dora_as_peft_saves_it_is_refused(tmp_path):
    from vbuild.errors import InvalidInput

    write_bin(tmp_path / "base", state_of(new_base()))
    settings = {**SETTINGS["rank 8"], "use_dora": True}
    save_adapter(new_base(torch.float32), tmp_path / "lora", **settings)
    with pytest.raises(InvalidInput) as caught:
        build(manifest(tmp_path, kind="lora", deltas=["lora"]))
    assert caught.value.code == "adapter-unsupported"
    assert "DoRA" in caught.value.what


def test_every_setting_that_peft_writes_by_itself_is_known(tmp_path):
    save_adapter(new_base(), tmp_path, **SETTINGS["rank 8"])
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    from vbuild.formats.peft_config import parse_adapter_config

    assert parse_adapter_config(json.dumps(written).encode(), "x").rank == 8
