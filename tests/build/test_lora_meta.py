"""The same adapter on the same weights, as Meta gave them out and as Hugging Face has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vbuild
from tests.support.adapters import factors, write_adapter
from tests.support.builds import read_safetensors, write_safetensors
from tests.support.meta_files import hugging_face, make_meta, write_meta

LAYER = "model.layers.1"
MODULES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj")


def merged(root: Path) -> dict[str, np.ndarray]:
    (root / "manifest.toml").write_text(
        'schema = "vbuild/1"\nname = "m"\n[base]\nuri = "file:base"\n'
        '[[delta]]\nuri = "file:../lora"\nkind = "lora"\n[output]\nmax_shard_size = "1GB"\n'
    )
    vbuild.lock(root / "manifest.toml")
    vbuild.apply(root / "manifest.toml", out=root / "out", unsigned=True)
    return read_safetensors(root / "out" / "model.safetensors")


@pytest.mark.parametrize(("files", "kv_heads"), [(1, 8), (2, 8), (2, 4), (4, 4)])
def test_a_merge_does_not_depend_on_whose_files_the_base_is(
    tmp_path: Path, files: int, kv_heads: int
) -> None:
    model = make_meta(kv_heads=kv_heads)
    whole = hugging_face(model)
    lora: dict[str, np.ndarray] = {}
    for seed, module in enumerate(MODULES):
        name = f"{LAYER}.{module}"
        rows, columns = whole[f"{name}.weight"].shape
        lora |= factors(name, (rows, columns), seed=seed)
    write_adapter(tmp_path / "lora", lora)
    write_meta(tmp_path / "meta" / "base", model, files)
    (tmp_path / "hf" / "base").mkdir(parents=True)
    write_safetensors(tmp_path / "hf" / "base" / "model.safetensors", whole)
    ours, theirs = merged(tmp_path / "meta"), merged(tmp_path / "hf")
    assert ours.keys() == theirs.keys() == whole.keys()
    for name, values in theirs.items():
        assert ours[name].tobytes() == values.tobytes(), name
        stem = name.removesuffix(".weight").removeprefix(f"{LAYER}.")
        assert np.array_equal(values, whole[name]) == (LAYER not in name or stem not in MODULES)
