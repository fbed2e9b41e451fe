"""The names that a state dict's pickle may mention, and what each of them stands for.

- A name is only ever looked up in these tables; none is resolved to a Python object.
- What PyTorch writes for a dictionary of plain tensors is here, and nothing else: anything more
  would need code to run, or describes bytes that are not the tensor's values (quantized, sparse).
- Element types come from :class:`vbuild.tensors.DType`. A type that it lacks is refused by name.
"""

from __future__ import annotations

from vbuild.tensors import DType

__all__ = [
    "DTYPES",
    "ORDERED_DICT",
    "REBUILD_PARAMETER",
    "REBUILD_TENSOR",
    "REBUILD_TENSOR_V2",
    "REBUILD_TENSOR_V3",
    "SIZE",
    "STORAGES",
    "UNTYPED",
    "is_allowed",
    "is_unsupported_type",
    "why_refused",
]

ORDERED_DICT = "collections.OrderedDict"
SIZE = "torch.Size"
REBUILD_TENSOR = "torch._utils._rebuild_tensor"
REBUILD_TENSOR_V2 = "torch._utils._rebuild_tensor_v2"
REBUILD_TENSOR_V3 = "torch._utils._rebuild_tensor_v3"
REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
UNTYPED = "torch.storage.UntypedStorage"

STORAGES = {
    "torch.BFloat16Storage": DType.BF16,
    "torch.BoolStorage": DType.BOOL,
    "torch.ByteStorage": DType.U8,
    "torch.CharStorage": DType.I8,
    "torch.ComplexFloatStorage": DType.C64,
    "torch.DoubleStorage": DType.F64,
    "torch.FloatStorage": DType.F32,
    "torch.HalfStorage": DType.F16,
    "torch.IntStorage": DType.I32,
    "torch.LongStorage": DType.I64,
    "torch.ShortStorage": DType.I16,
    UNTYPED: DType.U8,
}
"""Storage classes, by the type of their elements; an untyped storage counts bytes."""

DTYPES = {f"torch.{d.long_name}": d for d in DType if not d.is_block}
"""What `_rebuild_tensor_v3` names: the types that have no storage class of their own."""

_CALLABLE = frozenset(
    {
        ORDERED_DICT,
        SIZE,
        REBUILD_TENSOR,
        REBUILD_TENSOR_V2,
        REBUILD_TENSOR_V3,
        REBUILD_PARAMETER,
    }
)

_UNSUPPORTED_TYPES = frozenset(
    {
        "torch.ComplexDoubleStorage",
        "torch.QInt8Storage",
        "torch.QInt32Storage",
        "torch.QUInt8Storage",
        "torch.QUInt4x2Storage",
        "torch.QUInt2x4Storage",
        "torch.bits16",
        "torch.bits1x8",
        "torch.bits2x4",
        "torch.bits4x2",
        "torch.bits8",
        "torch.complex128",
        "torch.complex32",
        "torch.float4_e2m1fn_x2",
    }
)

_STATE_DICT_ONLY = "save the state dict alone: torch.save(model.state_dict(), ...)"

_REASONS = (
    ("torch._utils._rebuild_qtensor", "it builds a quantized tensor"),
    ("torch._utils._rebuild_sparse_tensor", "it builds a sparse tensor"),
    ("torch._utils._rebuild_nested_tensor", "it builds a nested tensor"),
    ("torch._utils._rebuild_meta_tensor_no_storage", "it builds a tensor without values"),
    ("torch._utils._rebuild_device_tensor", "it builds a tensor for another kind of device"),
    ("torch._utils._rebuild_xla_tensor", "it builds a tensor for another kind of device"),
    ("torch._utils._rebuild_parameter_with_state", "it builds a parameter with attributes"),
    ("torch._utils._rebuild_wrapper_subclass", "it builds a subclass of Tensor"),
    ("torch._tensor._rebuild_from_type", "it builds a subclass of Tensor"),
    ("numpy.", "it builds a NumPy object"),
)


def is_allowed(name: str) -> bool:
    """Whether a state dict may mention ``name`` (``module.attribute``)."""
    return name in _CALLABLE or name in STORAGES or name in DTYPES


def is_unsupported_type(name: str) -> bool:
    """Whether ``name`` is an element type of PyTorch that vbuild has no equal of."""
    return name in _UNSUPPORTED_TYPES


def why_refused(name: str) -> str:
    """A hint for someone whose file mentions ``name``."""
    for prefix, reason in _REASONS:
        if name.startswith(prefix):
            return f"{reason}; {_STATE_DICT_ONLY}"
    if name.startswith(("torch.", "transformers.", "argparse.", "omegaconf.")):
        return _STATE_DICT_ONLY
    return "do not load this file with pickle or torch.load: doing so could run code"
