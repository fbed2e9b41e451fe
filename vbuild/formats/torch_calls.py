"""What REDUCE and BINPERSID mean in a state dict's pickle, symbolically.

- A "call" turns a name and a tuple of arguments into a node of the tree; the names that can be
  called are four functions of `torch._utils`, OrderedDict and Size.
- A persistent id is `('storage', class, key, location, numel)`, in legacy files with a sixth
  part: None or `(view key, first element, numel)`. The location (a device) is ignored.
- All arguments are checked here, so that a node is valid by construction. What depends on the
  file (does the storage exist, does the view fit) is checked in `torch_state`.
"""

from __future__ import annotations

import math
from typing import TypeAlias, TypeGuard

from vbuild.formats.torch_names import (
    DTYPES,
    ORDERED_DICT,
    REBUILD_PARAMETER,
    REBUILD_TENSOR,
    REBUILD_TENSOR_V2,
    REBUILD_TENSOR_V3,
    SIZE,
    STORAGES,
    UNTYPED,
)
from vbuild.formats.torch_tree import (
    Mapping,
    Name,
    Node,
    Root,
    Storage,
    Tensor,
    describe,
)
from vbuild.strict_json import quoted
from vbuild.tensors import DType

__all__ = ["Problem", "Views", "call", "persistent"]

Views: TypeAlias = dict[str, tuple[str, int, int]]
"""Views of storages in a legacy file, by name: root's key, first element, numel."""

_MAX_RANK = 64
_MAX_KEY = 255
_INT64 = 1 << 63
_GRADIENT = (DType.F16, DType.BF16, DType.F32, DType.F64, DType.C64)


class Problem(Exception):
    """Something is wrong with an opcode's operands; the machine adds file and offset."""

    def __init__(self, code: str, what: str, hint: str | None = None) -> None:
        """``code``, ``what`` and ``hint`` are those of the error to be."""
        super().__init__(what)
        self.code = code
        self.what = what
        self.hint = hint


def call(function: Node, arguments: Node) -> Node:
    """The node that ``function(*arguments)`` stands for; Problem where there is none."""
    if not isinstance(arguments, tuple):
        raise Problem("pickle-malformed", f"REDUCE with {describe(arguments)} as arguments")
    if not isinstance(function, Name):
        what = f"the pickle calls {describe(function)}; nothing was run"
        raise Problem("pickle-forbidden-call", what)
    name = function.text
    if name == ORDERED_DICT and not arguments:
        return Mapping(ordered=True)
    if name == SIZE and len(arguments) == 1 and isinstance(arguments[0], tuple):
        return arguments[0]
    if name == REBUILD_TENSOR and len(arguments) == 4:
        return _tensor(*arguments)
    if name == REBUILD_TENSOR_V2 and len(arguments) in (6, 7):
        return _tensor_v2(*arguments)
    if name == REBUILD_TENSOR_V3 and len(arguments) in (7, 8):
        return _tensor_v3(*arguments)
    if name == REBUILD_PARAMETER and len(arguments) == 3:
        return _parameter(*arguments)
    if name in STORAGES or name in DTYPES:
        raise Problem("pickle-forbidden-call", f"the pickle calls {name}; nothing was run")
    raise Problem("pickle-malformed", f"{name} with {len(arguments)} unusable arguments")


def _tensor(
    storage: Node, offset: Node, shape: Node, strides: Node, dtype: DType | None = None
) -> Tensor:
    if not isinstance(storage, Storage):
        raise Problem("pickle-malformed", f"a tensor over {describe(storage)}, not a storage")
    if not _is_int64(offset):
        raise _bad_view("an offset that is negative or no integer")
    extents, steps = _int64s(shape, "shape"), _int64s(strides, "strides")
    if len(extents) != len(steps):
        raise _bad_view(f"{len(extents)} extents and {len(steps)} strides")
    dtype = dtype or storage.dtype
    # Extents of 0 do not count: PyTorch and NumPy refuse such shapes all the same.
    if math.prod(n or 1 for n in extents) * dtype.itemsize >= _INT64:
        raise _bad_view("a shape whose size overflows 64 bits")
    return Tensor(storage, dtype, offset, extents, steps)


def _tensor_v2(
    storage: Node,
    offset: Node,
    shape: Node,
    strides: Node,
    gradient: Node,
    hooks: Node,
    metadata: Node = None,
    dtype: DType | None = None,
) -> Tensor:
    tensor = _tensor(storage, offset, shape, strides, dtype)
    _check_extras(tensor, gradient, hooks)
    if metadata is not None and not (isinstance(metadata, Mapping) and not metadata.items):
        raise Problem(
            "torch-unsupported-tensor",
            "a tensor has a lazy conjugation or negation",
            "call .resolve_conj().resolve_neg() on it before saving",
        )
    return tensor


def _tensor_v3(
    storage: Node,
    offset: Node,
    shape: Node,
    strides: Node,
    gradient: Node,
    hooks: Node,
    dtype: Node,
    metadata: Node = None,
) -> Tensor:
    known = DTYPES.get(dtype.text) if isinstance(dtype, Name) else None
    if known is None:
        raise Problem("pickle-malformed", f"{describe(dtype)} as a tensor's element type")
    return _tensor_v2(storage, offset, shape, strides, gradient, hooks, metadata, known)


def _parameter(tensor: Node, gradient: Node, hooks: Node) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise Problem("pickle-malformed", f"a parameter over {describe(tensor)}, not a tensor")
    _check_extras(tensor, gradient, hooks)
    return tensor


def _check_extras(tensor: Tensor, gradient: Node, hooks: Node) -> None:
    if not isinstance(gradient, bool) or (gradient and tensor.dtype not in _GRADIENT):
        what = f"{describe(gradient)} as requires_grad of a tensor of {tensor.dtype}"
        raise Problem("pickle-malformed", what)
    if hooks is not None and not (isinstance(hooks, Mapping) and not hooks.items):
        raise Problem(
            "torch-unsupported-tensor",
            "a tensor carries backward hooks, which are code; nothing was run",
            "save the state dict alone: torch.save(model.state_dict(), ...)",
        )


def persistent(
    identity: Node,
    storages: dict[str, Root],
    views: Views,
    *,
    legacy: bool,
) -> Storage:
    """The storage that a persistent id names; ``storages`` and ``views`` grow by it.

    Two ids with one key must agree: PyTorch would silently use the first one's type.
    """
    if not isinstance(identity, tuple) or not identity or identity[0] != "storage":
        if isinstance(identity, tuple) and identity and identity[0] == "module":
            raise Problem(
                "torch-whole-module",
                "the file holds a whole module (code), not a state dict",
                "save the state dict alone: torch.save(model.state_dict(), ...)",
            )
        raise Problem("pickle-malformed", "a persistent id that names no storage")
    if len(identity) != (6 if legacy else 5):
        raise Problem("pickle-malformed", f"a storage's id has {len(identity)} parts")
    kind, key, location, numel = identity[1:5]
    dtype = STORAGES.get(kind.text) if isinstance(kind, Name) else None
    if not isinstance(kind, Name) or dtype is None:
        raise Problem("pickle-malformed", f"{describe(kind)} as a storage's class")
    if not _is_key(key) or not isinstance(location, str) or not _is_int64(numel):
        raise Problem("pickle-malformed", "a storage's key, location or size is unusable")
    if legacy and kind.text == UNTYPED:
        what = "an untyped storage in a legacy file, which PyTorch itself cannot load"
        raise Problem("torch-unsupported-tensor", what)
    root = Root(dtype, numel)
    if key in views or storages.setdefault(key, root) != root:
        raise Problem("torch-storage-conflict", f"storage {quoted(key)} has two types or sizes")
    if legacy and identity[5] is not None:
        return _view(key, identity[5], storages, views)
    return Storage(key, dtype, 0, numel)


def _view(key: str, view: Node, storages: dict[str, Root], views: Views) -> Storage:
    root = storages[key]
    parts = view if isinstance(view, tuple) and len(view) == 3 else (None, None, None)
    name, first, numel = parts
    if not _is_key(name) or not _is_int64(first) or not _is_int64(numel):
        raise Problem("pickle-malformed", "the view of a storage is unusable")
    if first + numel > root.numel:
        raise Problem(
            "torch-view-bounds",
            f"view {quoted(name)} of storage {quoted(key)} ends at element {first + numel} of "
            f"{root.numel}",
        )
    # The loader of PyTorch keeps the first view of a name, whatever a second one says.
    facts = (key, first, numel)
    if name in storages or views.setdefault(name, facts) != facts:
        raise Problem("torch-storage-conflict", f"two storages are called {quoted(name)}")
    return Storage(key, root.dtype, first, numel)


def _is_key(value: Node) -> TypeGuard[str]:
    # A key becomes part of an entry's name; PyTorch's are short numbers.
    return isinstance(value, str) and 0 < len(value) <= _MAX_KEY


def _is_int64(value: Node) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INT64


def _int64s(values: Node, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple):
        raise _bad_view(f"{describe(values)} as {what}")
    if len(values) > _MAX_RANK:
        raise _bad_view(f"{len(values)} dimensions, above {_MAX_RANK}")
    checked = tuple(v for v in values if _is_int64(v))
    if len(checked) != len(values):
        raise _bad_view(f"{what} with an entry that is negative or no integer")
    return checked


def _bad_view(what: str) -> Problem:
    return Problem("torch-view-malformed", f"a tensor has {what}")
