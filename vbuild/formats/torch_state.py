"""From a pickle's tree to tensors: what counts as a state dict, and where its values lie.

- A state dict is one flat mapping from text to tensors. Wrappers (`{"state_dict": ...}`) and
  mappings that also hold other things are refused: which part is the model is not ours to guess.
- Every view is compared with the bytes of its storage. A view may be expanded (stride 0),
  transposed or shared; it is described as it is, never copied.
- A tensor without elements lies at the start of its storage, whatever its offset says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.formats.torch_tree import Mapping, Node, Tensor, describe
from vbuild.strict_json import quoted
from vbuild.tensors import TensorSpec

__all__ = ["Region", "tensor_specs"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KEYS_SHOWN = 8
_STATE_DICT_ONLY = "save the state dict alone: torch.save(model.state_dict(), ...)"


@dataclass(frozen=True, slots=True)
class Region:
    """The bytes of a storage: ``size`` bytes from byte ``start`` of the file."""

    start: int
    size: int


def tensor_specs(root: Node, regions: MappingType[str, Region], file: str) -> list[TensorSpec]:
    """The tensors of the state dict ``root``, in its order; ``regions`` is by storage key.

    InvalidInput: ``torch-not-a-state-dict``, ``torch-duplicate-name``, ``torch-bad-name``,
    ``torch-view-bounds``.
    """
    if not isinstance(root, Mapping):
        raise InvalidInput(
            "torch-not-a-state-dict",
            f"the file holds {describe(root)}, not a mapping of names to tensors",
            where=file,
            hint=_STATE_DICT_ONLY,
        )
    specs: dict[str, TensorSpec] = {}
    for key, value in root.items:
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise _not_flat(root, key, value, file)
        name = _checked_name(key, file)
        if name in specs:
            what = f"two tensors are called {quoted(name)}"
            raise InvalidInput("torch-duplicate-name", what, where=file)
        specs[name] = _spec(name, value, regions[value.storage.key], file)
    return list(specs.values())


def _not_flat(root: Mapping, key: Node, value: Node, file: str) -> InvalidInput:
    what = f"the top-level key {_key(key)} holds {describe(value)}"
    if not isinstance(key, str):
        what = f"a top-level key is {describe(key)}, not text"
    keys = ", ".join(_key(k) for k, _ in root.items[:_KEYS_SHOWN])
    more = len(root.items) - _KEYS_SHOWN
    return InvalidInput(
        "torch-not-a-state-dict",
        f"{what}; only a flat mapping of names to tensors is a state dict",
        where=file,
        got=f"the top-level keys {keys}" + (f" and {more} more" if more > 0 else ""),
        hint=_STATE_DICT_ONLY,
    )


def _key(key: Node) -> str:
    return quoted(key) if isinstance(key, str) else describe(key)


def _checked_name(name: str, file: str) -> str:
    if not name or _CONTROL.search(name):
        what = f"the tensor name {quoted(name)} is empty or has control characters"
        raise InvalidInput("torch-bad-name", what, where=file)
    return name


def _spec(name: str, tensor: Tensor, region: Region, file: str) -> TensorSpec:
    """The spec of ``tensor``, whose highest element must lie inside its storage."""
    storage, itemsize = tensor.storage, tensor.dtype.itemsize
    size = storage.numel * storage.dtype.itemsize
    start = region.start + storage.first * storage.dtype.itemsize
    spec = TensorSpec(name, tensor.dtype, tensor.shape, file, start, tensor.strides)
    if spec.count == 0:
        return spec
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    end = (tensor.offset + last + 1) * itemsize
    if end > size or start + size > region.start + region.size:
        raise InvalidInput(
            "torch-view-bounds",
            f"tensor {quoted(name)} reaches outside its storage {quoted(storage.key)}",
            where=file,
            expected=f"at most {size} bytes",
            got=f"{end} bytes",
        )
    offset = start + tensor.offset * itemsize
    return TensorSpec(name, tensor.dtype, tensor.shape, file, offset, tensor.strides)
