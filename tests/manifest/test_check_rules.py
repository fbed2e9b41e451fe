"""Which rules and presets go with which kind of delta."""

from __future__ import annotations

import pytest

from vbuild.errors import InvalidInput
from vbuild.manifest import load_preset, parse_manifest, preset_names

HEAD = 'schema = "vbuild/1"\nname = "x"\nbase.uri = "file:b"\n'


def parsed(text: str):
    return parse_manifest((HEAD + text).encode(), "m.toml")


def refused(text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parsed(text)
    return caught.value


def delta(kind: str, body: str = "") -> str:
    return f'[[delta]]\nuri = "file:d"\nkind = "{kind}"\n{body}'


def test_an_adapter_needs_no_rules():
    loaded = parsed(delta("lora"))
    assert loaded.preset_for(0) == "peft"
    assert loaded.rules_for(0) == load_preset("peft").rule


def test_a_payload_of_files_needs_no_rules():
    loaded = parsed(delta("xor-file") + '[output]\nformat = "as-is"\n')
    assert loaded.preset_for(0) == "oasst-xor"


def test_a_dense_delta_needs_rules_and_is_told_the_presets_for_it():
    error = refused(delta("dense"))
    assert (error.code, error.where) == ("no-rules", "m.toml:4")
    assert "fastchat-v0" in str(error.hint) and "peft" not in str(error.hint)


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("kind", ["dense", "lora", "xor-file"])
@pytest.mark.parametrize("place", ["delta", "apply"])
def test_a_preset_is_for_deltas_of_its_kind(name, kind, place):
    line = f'preset = "{name}"\n'
    text = delta(kind, line if place == "delta" else "")
    text += f"[apply]\n{line}" if place == "apply" else ""
    text += '[output]\nformat = "as-is"\n' if kind == "xor-file" else ""
    if load_preset(name).kind == kind:
        assert parsed(text).preset_for(0) == name
        return
    error = refused(text)
    assert (error.code, error.where) == ("wrong-preset", "m.toml:7" if place == "delta" else
                                         "m.toml:8")  # fmt: skip
    assert f'kind = "{kind}"' in error.what


def test_the_rules_of_apply_come_before_a_kind_s_preset():
    loaded = parsed(delta("lora") + '[apply]\n[[apply.rule]]\nmatch = "*"\nop = "merge"\n')
    assert loaded.preset_for(0) is None
    assert loaded.rules_for(0)[0].on_missing == "error"


def test_merge_is_for_adapters():
    rule = '[[delta.rule]]\nmatch = "*"\nop = "merge"\n'
    assert parsed(delta("lora", rule)).rules_for(0)[0].op == "merge"
    error = refused(delta("dense", rule))
    assert (error.code, error.where) == ("no-effect", "m.toml:9")
    both = '[apply]\n[[apply.rule]]\nmatch = "*"\nop = "merge"\n'
    assert refused(delta("dense") + both).code == "no-effect"


def test_a_dense_delta_beside_an_adapter_is_not_merged_by_its_rules():
    both = '[apply]\n[[apply.rule]]\nmatch = "*"\nop = "merge"\n'
    error = refused(delta("dense") + delta("lora") + both)
    assert (error.code, error.hint) == (
        "no-effect",
        "give this delta rules of its own: [[delta.rule]]",
    )
    assert "delta[0]" in error.what
    own = delta("dense", '[[delta.rule]]\nmatch = "*"\nop = "add"\n')
    assert parsed(own + delta("lora") + both).rules_for(1)[0].op == "merge"


def test_an_adapter_s_configuration_is_the_base_s_unless_somebody_says_otherwise():
    tokenizer = '[tokenizer]\nsource = "delta"\n'
    assert parsed(delta("lora") + tokenizer).manifest.config_source == "base"
    own = '[config]\nsource = "delta"\n'
    assert parsed(delta("lora") + tokenizer + own).manifest.config_source == "delta"
    dense = delta("dense", 'preset = "koala"\n')
    assert parsed(dense + tokenizer).manifest.config_source == "delta"
