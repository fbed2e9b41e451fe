"""Stanford Alpaca, WizardLM and AlpacaFarm: float32, and the mean of the old rows."""

import pytest

from tests.presets.field import (  # fmt: skip
    EMBEDDINGS,
    VOCAB,
    build,
    build_with_warnings,
    llama,
    manifest,
    same_bits,
    write_bin,
    write_safetensors,
)

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")


def with_pad(base, pieces=1):
    """The base as float32 with rows for new pieces, each the mean of the old ones."""
    grown = {name: values.float() for name, values in base.items()}
    for name in EMBEDDINGS:
        mean = grown[name].mean(dim=0, keepdim=True)
        grown[name] = torch.cat([grown[name], mean.expand(pieces, -1)])
    return grown


def recovered(base, delta, pieces=1):
    """The delta's tensors, to which the base's are added."""
    raw = with_pad(base, pieces)
    total = {name: change.float() for name, change in delta.items()}
    for name in total:
        total[name].add_(raw[name])
    return total


def recovered_by_farm(base, delta):
    """As :func:`recovered`, over the base's tensors; another shape leaves the delta's alone."""
    raw = with_pad(base)
    total = {name: change.float() for name, change in delta.items()}
    for name, values in raw.items():
        if values.shape == total[name].shape:
            total[name] += values
    return total


@pytest.mark.parametrize("preset", ["alpaca", "wizardlm", "alpaca-farm"])
@pytest.mark.parametrize("dtypes", [("float16", "float32"), ("float32", "float32")])
def test_the_new_row_starts_from_the_mean_in_torch_s_order(tmp_path, preset, dtypes):
    base = llama(1, dtype=dtypes[0])
    delta = llama(2, rows=VOCAB + 1, scale=0.002, dtype=dtypes[1])
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta, shards=3)
    path = manifest(tmp_path, preset, output='dtype = "float32"')
    same_bits(build(path), recovered(base, delta))


@pytest.mark.parametrize("vocab", [33, 512, 3200, 5000])
def test_the_mean_is_torch_s_for_any_number_of_rows(tmp_path, vocab):
    base = {name: llama(3, rows=vocab)[name] for name in EMBEDDINGS}
    delta = {name: llama(4, rows=vocab + 4, scale=0.002)[name] for name in EMBEDDINGS}
    write_safetensors(tmp_path / "base", base)
    write_safetensors(tmp_path / "delta", delta)
    path = manifest(tmp_path, "alpaca", output='dtype = "float32"')
    same_bits(build(path), recovered(base, delta, pieces=4))


def test_without_a_type_for_the_output_a_warning_says_which_the_original_writes(tmp_path):
    base, delta = llama(1), llama(2, rows=VOCAB + 1, scale=0.002, dtype="float32")
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta)
    made, warnings = build_with_warnings(manifest(tmp_path, "alpaca"))
    same_bits(made, {n: t.half() for n, t in recovered(base, delta).items()})
    assert len(warnings) == 1
    assert 'dtype = "float32" in [output]' in warnings[0]


def test_alpaca_farm_keeps_tensors_of_another_shape_and_those_that_are_new(tmp_path):
    base = llama(1, inv_freq=False)
    delta = llama(2, rows=VOCAB + 1, scale=0.002, dtype="float32", inv_freq=False)
    source = torch.Generator().manual_seed(5)
    delta["lm_head.weight"] = torch.randn((VOCAB - 3, 48), generator=source)
    delta["model.norm.weight"] = torch.randn((40,), generator=source)
    delta["reward_head.weight"] = torch.randn((1, 48), generator=source)
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta)
    wanted = recovered_by_farm(base, delta)
    assert torch.equal(wanted["lm_head.weight"], delta["lm_head.weight"])
    path = manifest(tmp_path, "alpaca-farm", output='dtype = "float32"')
    same_bits(build(path), wanted)
