"""Models from Meta's files as torch converts them and as transformers loads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vbuild
from tests.support.sentencepiece_models import small_model

pytestmark = pytest.mark.oracle

VOCAB = 320
TEXT = "soma kire, vatu 42!"


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers")


def shards_of(torch: Any, files: int, dim: int, heads: int, kv_heads: int) -> list[dict[str, Any]]:
    """What torch saves of a model in parts; each part's norms and matrices share one storage."""
    torch.manual_seed(files)
    own, kv, wide = dim // files, dim // heads * kv_heads // files, 2 * dim // files
    shapes: dict[str, tuple[int, ...]] = {"tok_embeddings": (VOCAB, own), "norm": (dim,)}
    shapes["output"] = (VOCAB // files, dim)
    for i in range(2):
        layer = {
            "attention.wq": (own, dim),
            "attention.wk": (kv, dim),
            "attention.wv": (kv, dim),
            "attention.wo": (dim, own),
            "feed_forward.w1": (wide, dim),
            "feed_forward.w2": (dim, wide),
            "feed_forward.w3": (wide, dim),
            "attention_norm": (dim,),
            "ffn_norm": (dim,),
        }
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    norms = {n: 1 + 0.1 * torch.randn(s) for n, s in shapes.items() if n.endswith("norm")}
    shards = []
    for _ in range(files):
        parts = {n: norms.get(n, torch.randn(s) * 0.05) for n, s in shapes.items()}
        storage = torch.cat([p.flatten() for p in parts.values()]).half()
        shard, at = {}, 0
        for name, part in parts.items():
            shard[f"{name}.weight"] = storage[at : at + part.numel()].view(part.shape)
            at += part.numel()
        shards.append({**shard, "rope.freqs": torch.ones(dim // heads // 2)})
    return shards


def converted(torch: Any, shards: list[dict[str, Any]], heads: int, kv_heads: int) -> Any:
    """The state dict for ``LlamaForCausalLM``, by joining and permuting with torch."""

    def permuted(w: Any, n: int) -> Any:
        return w.view(n, w.shape[0] // n // 2, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)

    def joined(name: str, axis: int) -> Any:
        return torch.cat([shard[f"{name}.weight"] for shard in shards], dim=axis)

    state = {
        "model.embed_tokens.weight": joined("tok_embeddings", 1),
        "model.norm.weight": shards[0]["norm.weight"],
        "lm_head.weight": joined("output", 0),
    }
    for i in range(2):
        old, new = f"layers.{i}", f"model.layers.{i}"
        state |= {
            f"{new}.self_attn.q_proj.weight": permuted(joined(f"{old}.attention.wq", 0), heads),
            f"{new}.self_attn.k_proj.weight": permuted(joined(f"{old}.attention.wk", 0), kv_heads),
            f"{new}.self_attn.v_proj.weight": joined(f"{old}.attention.wv", 0),
            f"{new}.self_attn.o_proj.weight": joined(f"{old}.attention.wo", 1),
            f"{new}.mlp.gate_proj.weight": joined(f"{old}.feed_forward.w1", 0),
            f"{new}.mlp.down_proj.weight": joined(f"{old}.feed_forward.w2", 1),
            f"{new}.mlp.up_proj.weight": joined(f"{old}.feed_forward.w3", 0),
            f"{new}.input_layernorm.weight": shards[0][f"{old}.attention_norm.weight"],
            f"{new}.post_attention_layernorm.weight": shards[0][f"{old}.ffn_norm.weight"],
        }
    return state


SHAPES = {
    "7b": (1, 64, 8, 8),
    "13b": (2, 160, 40, 40),
    "30b": (4, 64, 8, 8),
    "65b": (8, 64, 8, 8),
    "70b_grouped": (8, 128, 16, 8),
}


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES)
def model(request: Any, torch: Any, tmp_path_factory: Any) -> tuple[Path, Any]:
    """The directory of a build from nothing but Meta's files, and torch's own state dict."""
    files, dim, heads, kv_heads = request.param
    top = tmp_path_factory.mktemp("meta")
    (top / "base").mkdir()
    shards = shards_of(torch, files, dim, heads, kv_heads)
    for i, shard in enumerate(shards):
        torch.save(shard, top / f"base/consolidated.{i:02}.pth")
    params = {"dim": dim, "n_layers": 2, "n_heads": heads, "norm_eps": 1e-5, "vocab_size": -1}
    params |= {} if kv_heads == heads else {"n_kv_heads": kv_heads}
    (top / "base/params.json").write_text(json.dumps(params))
    (top / "base/tokenizer.model").write_bytes(small_model(VOCAB))
    (top / "m.toml").write_text(
        'schema = "vbuild/1"\nname = "m"\n[base]\nuri = "file:base"\n'
        '[tokenizer]\nsource = "base"\n[output]\nmax_shard_size = "100KB"\n'
    )
    vbuild.lock(top / "m.toml")
    vbuild.apply(top / "m.toml", out=top / "out", unsigned=True)
    return top / "out", converted(torch, shards, heads, kv_heads)


def test_every_tensor_is_the_one_that_torch_converts(model: Any, torch: Any) -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file
    out, expected = model
    made: dict[str, Any] = {}
    for path in sorted(out.glob("*.safetensors")):
        made |= load_file(path)
    assert made.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(made[name].view(torch.int16), values.view(torch.int16)), name


def test_transformers_loads_the_model_and_its_configuration(
    model: Any, torch: Any, transformers: Any
) -> None:
    out, expected = model
    loaded, notes = transformers.AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.float16, output_loading_info=True
    )
    assert not any(notes[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(loaded).__name__ == "LlamaForCausalLM"
    state = loaded.state_dict()
    for name, values in expected.items():
        assert torch.equal(state[name].view(torch.int16), values.view(torch.int16)), name
    config = loaded.config
    assert (config.max_position_embeddings, config.rms_norm_eps) == (4096, 1e-5)
    assert (config.bos_token_id, config.eos_token_id) == (1, 2)
    assert config.dtype is torch.float16 and not config.tie_word_embeddings
    assert transformers.GenerationConfig.from_pretrained(out).eos_token_id == 2


def test_its_logits_are_those_of_metas_own_arithmetic(
    model: Any, torch: Any, transformers: Any
) -> None:
    """The attention of the first layer as Meta computes it, with rotations of neighbours."""
    out, _ = model
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    base = out.parent / "base"
    shards = [torch.load(path, weights_only=True) for path in sorted(base.glob("*.pth"))]
    params = json.loads((base / "params.json").read_text())
    heads, kv_heads = params["n_heads"], params.get("n_kv_heads", params["n_heads"])
    head = params["dim"] // heads
    x = torch.randn(1, 7, params["dim"])
    angles = torch.outer(torch.arange(7.0), 10000.0 ** (-torch.arange(0, head, 2) / head))
    turn = torch.polar(torch.ones_like(angles), angles)[:, None, :]

    def project(name: str, n: int) -> Any:
        parts = [shard[f"layers.0.attention.{name}.weight"].float() for shard in shards]
        return (x @ torch.cat(parts).T).view(1, 7, n, head)

    def turned(y: Any) -> Any:
        pairs = torch.view_as_complex(y.reshape(1, 7, -1, head // 2, 2))
        return torch.view_as_real(pairs * turn).flatten(3)

    query, key = turned(project("wq", heads)), turned(project("wk", kv_heads))
    key = key.repeat_interleave(heads // kv_heads, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key)

    attention = loaded.model.layers[0].self_attn
    cos, sin = loaded.model.rotary_emb(x, torch.arange(7)[None])
    rotate = pytest.importorskip("transformers.models.llama.modeling_llama").apply_rotary_pos_emb
    q = attention.q_proj(x).view(1, 7, heads, head).transpose(1, 2)
    k = attention.k_proj(x).view(1, 7, kv_heads, head).transpose(1, 2)
    q, k = rotate(q, k, cos, sin)
    k = k.repeat_interleave(heads // kv_heads, dim=1)
    with torch.no_grad():
        torch.testing.assert_close(q @ k.transpose(2, 3), scores, rtol=1e-4, atol=1e-4)


def test_the_tokenizer_loads_with_its_first_piece(model: Any, transformers: Any) -> None:
    from sentencepiece import SentencePieceProcessor

    out, _ = model
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    pieces = SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    assert len(tokenizer) == VOCAB
    assert tokenizer(TEXT)["input_ids"] == [1, *pieces.encode(TEXT)]
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"], skip_special_tokens=True) == TEXT
