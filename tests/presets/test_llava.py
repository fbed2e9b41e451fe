"""LLaVA: the base goes into the leading block of larger embeddings, the projector is copied."""

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
)

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")


def applied(base, delta):
    """Both in f16, over the delta's tensors."""
    base = {name: values.half() for name, values in base.items()}
    total = {name: change.half() for name, change in delta.items()}
    for name, change in total.items():
        if name not in base:
            assert name.startswith("model.mm_projector.")
        elif change.shape == base[name].shape:
            change += base[name]
        else:
            assert name in EMBEDDINGS
            rows, columns = base[name].shape
            change[:rows, :columns] += base[name]
    return total


def made_up(pieces, dtype="float16"):
    base = llama(1)
    delta = llama(2, rows=VOCAB + pieces, scale=0.002, dtype=dtype)
    source = torch.Generator().manual_seed(7)
    delta["model.mm_projector.weight"] = torch.randn((48, 32), generator=source).to(delta[
        "model.norm.weight"
    ].dtype)  # fmt: skip
    delta["model.mm_projector.bias"] = -torch.zeros(48, dtype=delta["model.norm.weight"].dtype)
    return base, delta


@pytest.mark.parametrize("pieces", [0, 1, 3, 4])
def test_new_rows_are_the_delta_s_own_also_where_they_are_minus_zero(tmp_path, pieces):
    base, delta = made_up(pieces)
    for name in EMBEDDINGS:
        delta[name][VOCAB:, ::2] = -0.0
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta, shards=3)
    same_bits(build(manifest(tmp_path, "llava")), applied(base, delta))


def test_a_projector_in_another_type_is_written_as_the_original_writes_it(tmp_path):
    base, delta = made_up(3, "bfloat16")
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta)
    same_bits(build(manifest(tmp_path, "llava", output='dtype = "float16"')), applied(base, delta))


def test_without_a_type_for_the_output_a_warning_says_which_the_original_writes(tmp_path):
    base, delta = made_up(3, "bfloat16")
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta)
    made, (warning,) = build_with_warnings(manifest(tmp_path, "llava"))
    assert made["model.mm_projector.weight"].dtype == torch.bfloat16
    assert 'dtype = "float16" in [output]' in warning
