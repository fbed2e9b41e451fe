"""What a pickle says, as plain data: the nodes that the opcode machine builds.

- Scalars are Python's own, tuples and lists too; everything else is one of the classes below.
- Nodes are compared by identity and never printed: a hostile pickle can nest or share them so
  that comparing, hashing or printing one would not end.
- A dictionary is a list of pairs, so that building one never hashes a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from vbuild.tensors import DType

__all__ = ["Mapping", "Name", "Node", "Root", "Storage", "Tensor", "describe"]

Node: TypeAlias = object
"""None, bool, int, float, str, tuple, list, Mapping, Name, Storage or Tensor."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Name:
    """A name that the pickle mentions, ``module.attribute``; nothing stands behind it."""

    text: str


@dataclass(slots=True, eq=False, repr=False)
class Mapping:
    """A dict or OrderedDict: its pairs in the order of insertion, duplicates included."""

    ordered: bool
    items: list[tuple[Node, Node]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Root:
    """A storage of the file: ``numel`` elements of ``dtype``, known by its key."""

    dtype: DType
    numel: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Storage:
    """A storage, or a view of one: ``numel`` elements of ``dtype`` from element ``first`` of
    the root storage ``key``."""

    key: str
    dtype: DType
    first: int
    numel: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tensor:
    """A tensor: a strided view of a storage; ``offset`` and ``strides`` in its own elements."""

    storage: Storage
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def describe(node: Node) -> str:
    """What ``node`` is, in a word or two, for messages."""
    if isinstance(node, Mapping):
        return "a dict"
    if isinstance(node, Name):
        return f"the name {node.text}"
    if isinstance(node, Storage):
        return "a bare storage"
    if node is None:
        return "None"
    kinds = {bool: "a boolean", int: "an integer", float: "a float", str: "a string"}
    return kinds.get(type(node), f"a {type(node).__name__.lower()}")
