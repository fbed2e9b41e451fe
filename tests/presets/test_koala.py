"""Koala: added in the types that the files have, saved as bfloat16."""

import pytest

from tests.presets.field import build, build_with_warnings, llama, manifest, same_bits, write_bin

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_sum_of_what_was_loaded_becomes_bfloat16(tmp_path, dtype):
    base, delta = llama(1, dtype=dtype), llama(2, scale=0.002, dtype=dtype)
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta)
    wanted = {name: (values + delta[name]).bfloat16() for name, values in base.items()}
    same_bits(build(manifest(tmp_path, "koala", output='dtype = "bfloat16"')), wanted)


def test_a_wide_base_and_a_narrow_delta_are_added_in_the_wide_type(tmp_path):
    base, delta = llama(1, dtype="float32"), llama(2, scale=0.002, dtype="bfloat16")
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta)
    wanted = {name: (values + delta[name]).bfloat16() for name, values in base.items()}
    path = manifest(tmp_path, "koala")
    made, (warning,) = build_with_warnings(path)
    assert made["model.norm.weight"].dtype == torch.float32
    assert 'dtype = "bfloat16" in [output]' in warning
    path = manifest(tmp_path, "koala", output='dtype = "bfloat16"')
    same_bits(build(path, out="again"), wanted)
