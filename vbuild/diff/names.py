"""Where a tensor stands in a model: in which stack of layers, in which layer, in which module.

- Names alone decide; they come from strangers, so whatever a name is, it has a place.
- The first number between dots counts the layers of a stack (``model.layers.7.``), further numbers
  (``experts.3``) are one of several that share a module. What has no number stands apart.
- Modules of the Llama family have the names that people use (q, k, v, o, gate, up, down), in that
  order; all others are shown as they are called, after them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Place", "Stack", "arrange", "place"]

MAX_MODULES: Final = 24
"""Columns of a picture; a stack with more modules has them grouped by their first components."""

_NUMBER = re.compile(r"[0-9]{1,6}")
_LAST = ("weight", "bias")

_USUAL: Final = (
    ("q", "self_attn.q_proj", "attention.wq", "attn_q"),
    ("k", "self_attn.k_proj", "attention.wk", "attn_k"),
    ("v", "self_attn.v_proj", "attention.wv", "attn_v"),
    ("o", "self_attn.o_proj", "attention.wo", "attn_output"),
    ("gate", "mlp.gate_proj", "feed_forward.w1", "ffn_gate"),
    ("up", "mlp.up_proj", "feed_forward.w3", "ffn_up"),
    ("down", "mlp.down_proj", "feed_forward.w2", "ffn_down"),
    ("attn norm", "input_layernorm", "attention_norm", "attn_norm"),
    ("mlp norm", "post_attention_layernorm", "ffn_norm"),
    ("inv_freq", "self_attn.rotary_emb.inv_freq"),
)
_LABELS: Final = {long: (i, row[0]) for i, row in enumerate(_USUAL) for long in row[1:]}


@dataclass(frozen=True, slots=True)
class Place:
    """Layer ``layer`` of ``stack`` and the module in it; for what stands apart both are None."""

    stack: str | None
    layer: int | None
    module: str


@dataclass(frozen=True, slots=True)
class Stack:
    """The grid of a stack: the names of tensors by ``(layer, module)``.

    ``layers`` ascend; ``modules`` are labels, in the order of columns.
    """

    name: str
    layers: tuple[int, ...]
    modules: tuple[str, ...]
    cells: Mapping[tuple[int, str], tuple[str, ...]]


def place(name: str) -> Place:
    """Where the tensor ``name`` stands."""
    parts = name.split(".")
    for i in range(1, len(parts) - 1):
        if _NUMBER.fullmatch(parts[i]):
            module = ["*" if _NUMBER.fullmatch(part) else part for part in parts[i + 1 :]]
            if len(module) == 1 and module[0] in _LAST:
                break  # numbered, but no layers: a projector, a list of heads
            return Place(".".join(parts[:i]), int(parts[i]), ".".join(module))
    return Place(None, None, name)


def arrange(names: Iterable[str]) -> tuple[tuple[Stack, ...], tuple[str, ...]]:
    """The stacks, by name, and the names that stand apart, in the order given."""
    stacks: dict[str, list[tuple[str, Place]]] = defaultdict(list)
    apart = []
    for name in names:
        found = place(name)
        if found.stack is None:
            apart.append(name)
        else:
            stacks[found.stack].append((name, found))
    return tuple(_stack(name, stacks[name]) for name in sorted(stacks)), tuple(apart)


def _stack(name: str, members: list[tuple[str, Place]]) -> Stack:
    labels = _columns({found.module for _, found in members})
    cells: dict[tuple[int, str], list[str]] = defaultdict(list)
    layers = set()
    for tensor, found in members:
        layer = found.layer or 0
        layers.add(layer)
        cells[layer, labels[found.module]].append(tensor)
    ordered = sorted(labels, key=lambda module: (_label(module)[0], labels[module]))
    return Stack(
        name,
        tuple(sorted(layers)),
        tuple(dict.fromkeys(labels[module] for module in ordered)),
        {at: tuple(tensors) for at, tensors in cells.items()},
    )


def _columns(modules: set[str]) -> dict[str, str]:
    """A label for each module; as many components of their names as columns allow."""
    labels = {module: _label(module)[1] for module in modules}
    depth = max(label.count(".") for label in labels.values()) + 1
    while len(set(labels.values())) > MAX_MODULES and depth > 1:
        depth -= 1
        labels = {module: _cut(label, depth) for module, label in labels.items()}
    if len(set(labels.values())) > MAX_MODULES:
        labels = dict.fromkeys(modules, "*")
    return labels


def _cut(label: str, depth: int) -> str:
    parts = label.split(".")
    return label if len(parts) <= depth else ".".join([*parts[:depth], "*"])


def _label(module: str) -> tuple[tuple[int, int], str]:
    """``(position, label)`` of a module: weights of the usual ones, then biases, then others."""
    stem, _, last = module.rpartition(".")
    if last not in _LAST:
        stem, last = module, "weight"
    known = _LABELS.get(stem)
    if known is not None:
        number, label = known
        return (last == "bias", number), label if last == "weight" else f"{label} bias"
    return (2, 0), module.removesuffix(".weight")
