"""Layers and modules, from names alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbuild.diff import Place, arrange, place
from vbuild.diff.names import MAX_MODULES


@pytest.mark.parametrize(
    ("name", "stack", "layer", "module"),
    [
        ("model.layers.7.self_attn.q_proj.weight", "model.layers", 7, "self_attn.q_proj.weight"),
        ("layers.0.attention.wq.weight", "layers", 0, "attention.wq.weight"),
        ("blk.3.ffn_up.weight", "blk", 3, "ffn_up.weight"),
        ("m.layers.1.mlp.experts.5.w1.weight", "m.layers", 1, "mlp.experts.*.w1.weight"),
        ("transformer.h.2.attn.c_attn.bias", "transformer.h", 2, "attn.c_attn.bias"),
        ("model.embed_tokens.weight", None, None, "model.embed_tokens.weight"),
        ("model.mm_projector.0.weight", None, None, "model.mm_projector.0.weight"),
        ("7", None, None, "7"),
        ("0.weight", None, None, "0.weight"),
        ("a.99999999999999999999.b.c", None, None, "a.99999999999999999999.b.c"),
    ],
)
def test_where_a_name_stands(name, stack, layer, module):
    assert place(name) == Place(stack, layer, module)


def test_the_columns_of_a_llama_are_in_the_order_that_people_use():
    modules = [
        "mlp.up_proj", "mlp.down_proj", "mlp.gate_proj", "input_layernorm",
        "post_attention_layernorm", "self_attn.o_proj", "self_attn.v_proj", "self_attn.k_proj",
        "self_attn.q_proj",
    ]  # fmt: skip
    names = [f"model.layers.{i}.{m}.weight" for i in (10, 9) for m in modules]
    (stack,), apart = arrange([*names, "lm_head.weight", "model.layers.9.self_attn.q_proj.bias"])
    assert stack.modules == (
        "q", "k", "v", "o", "gate", "up", "down", "attn norm", "mlp norm", "q bias",
    )  # fmt: skip
    assert stack.layers == (9, 10)
    assert stack.cells[9, "q"] == ("model.layers.9.self_attn.q_proj.weight",)
    assert apart == ("lm_head.weight",)


def test_experts_share_a_column():
    names = [f"m.layers.0.experts.{i}.w1.weight" for i in range(8)]
    (stack,), _ = arrange(names)
    assert stack.modules == ("experts.*.w1",)
    assert stack.cells[0, "experts.*.w1"] == tuple(names)


def test_many_modules_are_grouped_by_their_first_components():
    names = [f"net.layers.0.block{i % 3}.part{i}.weight" for i in range(60)]
    (stack,), _ = arrange(names)
    assert stack.modules == ("block0.*", "block1.*", "block2.*")
    assert sum(map(len, stack.cells.values())) == 60


@given(st.lists(st.text(st.sampled_from("ab0123.*\n\x1b<"), max_size=24), unique=True))
@settings(deadline=None)
def test_every_name_has_exactly_one_place(names):
    stacks, apart = arrange(names)
    placed = [name for stack in stacks for some in stack.cells.values() for name in some]
    assert sorted([*placed, *apart]) == sorted(names)
    for stack in stacks:
        assert 0 < len(stack.modules) <= MAX_MODULES
        assert {module for _, module in stack.cells} == set(stack.modules)
        assert {layer for layer, _ in stack.cells} == set(stack.layers)
