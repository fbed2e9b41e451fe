"""vbuild.plan: the whole of a plan, and that nothing but its inputs decides it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plan.made_up import Side, execute, plan_of, side, values
from vbuild.errors import InvalidInput
from vbuild.manifest import Rule, load_preset
from vbuild.plan import Plan
from vbuild.plan.containers.safetensors import INDEX_NAME
from vbuild.plan.recipe import Zeros

Array = NDArray[np.generic]
ADD = [Rule(match="*", op="add")]


def a_model(rows: int, seed: int, *, shuffle: int | None = None) -> Side:
    """Two files of a small LLaMA; ``shuffle`` changes the order of every mapping, not the files."""
    rng = np.random.default_rng(seed)
    first = {"model.embed_tokens.weight": rng.normal(size=(rows, 4)).astype("f2")}
    first |= {f"model.layers.{i}.w": rng.normal(size=(4, 4)).astype("f2") for i in range(12)}
    second = {"lm_head.weight": rng.normal(size=(rows, 4)).astype("f2")}
    second["model.layers.0.rotary_emb.inv_freq"] = rng.normal(size=2).astype("f4")
    made = side({"1.bin": first, "2.bin": second}, gap=1)
    if shuffle is None:
        return made
    order = random.Random(shuffle)
    tensors, contents = list(made.tensors.items()), list(made.contents.items())
    order.shuffle(tensors)
    order.shuffle(contents)
    return Side(dict(tensors), dict(contents))


RULES = [
    Rule(match="*inv_freq", op="drop"),
    Rule(match=("model.embed*", "lm_head*"), op="add", pad="zero"),
    *ADD,
]


def serialized(plan: Plan) -> list[tuple[tuple[str, ...], bytes]]:
    return [
        (tuple(f"{ref.group}/{ref.file}" for ref in p.files), p.table.serialize())
        for p in plan.programs
    ]


def test_a_plan_does_not_depend_on_the_order_of_any_mapping() -> None:
    plans = [
        plan_of(a_model(5, 0, shuffle=i), a_model(6, 1, shuffle=i), rules=RULES, max_shard_size=99)
        for i in (None, 1, 2, 3)
    ]
    for plan in plans[1:]:
        assert serialized(plan) == serialized(plans[0])
        assert (plan.others, plan.warnings) == (plans[0].others, plans[0].warnings)
        assert [o.digest for o in plan.outputs] == [o.digest for o in plans[0].outputs]


@pytest.mark.parametrize("level", ["portable", "native"])
def test_a_whole_build_gives_numpys_tensors(level: str) -> None:
    base, delta = a_model(5, 0), a_model(6, 1)
    plan = plan_of(base, delta, rules=RULES)
    files = execute(plan, base, delta, level=level)
    made = values(files, plan)
    zeros = np.zeros((1, 4), "f2")
    assert len(made) == 14
    for name, array in made.items():
        a, b = (_array(one, name) for one in (base, delta))
        a = np.concatenate([a, zeros]) if len(a) < len(b) else a
        assert array.tobytes() == (a + b).tobytes()
    assert sorted(files) == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]


def _array(one: Side, name: str) -> Array:
    spec = one.tensors[name]
    data = one.contents[spec.file][spec.offset : spec.offset + spec.nbytes]
    return np.frombuffer(data, "f2").reshape(spec.shape)


def test_the_index_lists_every_tensor_and_the_size_of_all() -> None:
    base, delta = a_model(5, 0), a_model(6, 1)
    plan = plan_of(base, delta, rules=RULES)
    assert list(plan.others) == [INDEX_NAME]
    index = json.loads(plan.others[INDEX_NAME])
    assert index["weight_map"] == {
        r.name: output.name for output in plan.outputs for r in output.recipes
    }
    assert index["metadata"]["total_size"] == 2 * (2 * 6 * 4 + 12 * 16)


def test_a_single_file_has_no_index() -> None:
    base = side({"f": {"w": np.zeros(3, "f2")}})
    plan = plan_of(base, base, rules=ADD)
    assert (plan.others, [o.name for o in plan.outputs]) == ({}, ["model.safetensors"])


def test_the_bytes_that_are_hashed_are_all_inputs_and_all_outputs() -> None:
    base, delta = a_model(5, 0), a_model(6, 1)
    plan = plan_of(base, delta, rules=RULES)
    inputs = sum(len(c) for one in (base, delta) for c in one.contents.values())
    outputs = sum(len(content) for content in execute(plan, base, delta).values())
    assert (plan.output_bytes, plan.hashed_bytes) == (outputs, inputs + outputs)


def test_rules_that_leave_nothing_are_refused() -> None:
    base = side({"f": {"w": np.zeros(3, "f2")}})
    with pytest.raises(InvalidInput) as caught:
        plan_of(base, rules=[Rule(match="*", op="drop")])
    assert (caught.value.code, caught.value.exit_status) == ("nothing-to-build", 2)


def test_the_plan_of_another_delta_has_another_digest() -> None:
    base = side({"f": {"w": np.zeros(3, "f2")}})
    digests = {
        plan_of(base, base, rules=[rule]).outputs[0].digest
        for rule in (*ADD, Rule(match="*", op="copy-base"), Rule(match="*", op="xor"))
    }
    assert len(digests) == 3


def test_the_preset_for_vicuna_v0_pads_the_embeddings_and_leaves_inv_freq_to_both() -> None:
    base, delta = a_model(5, 0), a_model(6, 1)
    plan = plan_of(base, delta, rules=list(load_preset("fastchat-v0").rule))
    recipes = plan.recipes
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert recipes[name].shape == (6, 4)
        assert isinstance(recipes[name].bands[1].start, Zeros)
    assert "model.layers.0.rotary_emb.inv_freq" in recipes
    del delta.tensors["model.layers.0.rotary_emb.inv_freq"]
    plan = plan_of(base, delta, rules=list(load_preset("fastchat-v0").rule))
    assert "model.layers.0.rotary_emb.inv_freq" not in plan.recipes
    execute(plan, base, delta)
