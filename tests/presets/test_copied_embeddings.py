"""Ziya and PandaLLM: the embeddings are the delta's own, whatever their shape."""

import pytest

from tests.presets.field import VOCAB, build, llama, manifest, same_bits, write_bin

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")


def applied(base, delta, dtype, copied):
    """Over the delta's tensors, in ``dtype``; a name with one of ``copied`` in it is kept."""
    total = {name: change.to(dtype, copy=True) for name, change in delta.items()}
    for name, change in total.items():
        if not any(part in name for part in copied):
            change += base[name].to(dtype)
    return total


@pytest.mark.parametrize("rows", [VOCAB, VOCAB + 64, VOCAB - 20])
def test_ziya_copies_embeddings_and_inv_freq(tmp_path, rows):
    base, delta = llama(1), llama(2, rows=rows, scale=0.002)
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta, shards=3)
    copied = ("embed_tokens", "lm_head.weight", "self_attn.rotary_emb.inv_freq")
    wanted = applied(base, delta, torch.float16, copied)
    same_bits(build(manifest(tmp_path, "ziya")), wanted)


@pytest.mark.parametrize("rows", [VOCAB, VOCAB + 3])
def test_pandallm_adds_in_float32(tmp_path, rows):
    base, delta = llama(1), llama(2, rows=rows, scale=0.002)
    write_bin(tmp_path / "base", base)
    write_bin(tmp_path / "delta", delta)
    wanted = applied(base, delta, torch.float32, ("embed_tokens", "lm_head"))
    same_bits(build(manifest(tmp_path, "pandallm", output='dtype = "float32"')), wanted)
