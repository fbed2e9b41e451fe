"""FastChat's three ways to apply a delta, and StableVicuna's."""

import pytest

from tests.presets.field import (  # fmt: skip
    EMBEDDINGS,
    VOCAB,
    build,
    llama,
    manifest,
    same_bits,
    write_bin,
    write_safetensors,
)

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")


def version_0(base, delta):
    """Both models in f16; a row of zeros for each new piece; the base's tensors grow by the sum."""
    total = {}
    for name, values in base.items():
        values, change = values.half(), delta[name].half()
        if name in EMBEDDINGS:
            grown = torch.empty_like(change)
            grown[: len(values)] = values
            grown[len(values) :] = 0
            values = grown
        values += change
        total[name] = values
    return total


def version_1_1(base, delta):
    """Both models in f16, and the sum."""
    return {name: values.half() + delta[name].half() for name, values in base.items()}


def low_cpu_mem(base, delta):
    """The stored tensors, in place."""
    total = {name: values.clone() for name, values in base.items()}
    for name in total:
        total[name] += delta[name]
    return total


@pytest.mark.parametrize("preset", ["fastchat-v0", "stablevicuna"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_version_0_adds_to_zeros_where_the_vocabulary_grows(tmp_path, preset, dtype):
    base = llama(1)
    delta = llama(2, rows=VOCAB + 1, scale=0.002, dtype=dtype)
    write_bin(tmp_path / "base", base, shards=3)
    write_bin(tmp_path / "delta", delta)
    same_bits(build(manifest(tmp_path, preset)), version_0(base, delta))


@pytest.mark.parametrize("dtypes", [("float16", "float16"), ("float32", "bfloat16")])
def test_version_1_1_is_the_sum_in_float16(tmp_path, dtypes):
    base = llama(1, dtype=dtypes[0])
    delta = llama(2, scale=0.002, dtype=dtypes[1])
    write_bin(tmp_path / "base", base)
    write_safetensors(tmp_path / "delta", delta)
    path = manifest(tmp_path, "fastchat-v1.1", output='dtype = "float16"')
    same_bits(build(path), version_1_1(base, delta))


@pytest.mark.parametrize("side", ["base", "delta"])
def test_an_inv_freq_of_one_side_is_left_out(tmp_path, side):
    sides = {"base": llama(1, inv_freq=False), "delta": llama(2, scale=0.002, inv_freq=False)}
    wanted = version_1_1(sides["base"], sides["delta"])
    sides[side] = llama(1 if side == "base" else 2, scale=0.02 if side == "base" else 0.002)
    wanted = {name: sides["base"][name] + sides["delta"][name] for name in wanted}
    write_bin(tmp_path / "base", sides["base"])
    write_bin(tmp_path / "delta", sides["delta"])
    same_bits(build(manifest(tmp_path, "fastchat-v1.1")), wanted)


@pytest.mark.parametrize(
    "dtypes", [("float16", "float32"), ("bfloat16", "float16"), ("float32", "float16")]
)
def test_with_low_cpu_mem_the_stored_tensors_are_added_in_place(tmp_path, dtypes):
    base = llama(1, dtype=dtypes[0])
    delta = llama(2, scale=0.002, dtype=dtypes[1])
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta, shards=3)
    wanted = low_cpu_mem(base, delta)
    same_bits(build(manifest(tmp_path, "fastchat-low-cpu")), wanted)
    if dtypes == ("float16", "float32"):
        rounded = version_1_1(base, delta)
        assert any(not torch.equal(wanted[name], rounded[name]) for name in wanted)
