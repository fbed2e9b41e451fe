"""Safetensors files of any element type, from arrays of bits; one file or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vbuild.formats.index import index_json
from vbuild.formats.safetensors import canonical_order, header
from vbuild.tensors import DType

__all__ = ["BITS", "Array", "bf16", "f16", "f32", "f64", "write_model", "write_shards"]

BITS = {DType.F16: "<u2", DType.BF16: "<u2", DType.F32: "<u4", DType.F64: "<u8"}
"""The unsigned type that holds the bits of an arithmetic one."""


@dataclass(frozen=True, slots=True)
class Array:
    """Elements of ``dtype`` as they are stored."""

    dtype: DType
    data: np.ndarray

    @property
    def bits(self) -> np.ndarray:
        """Flat, as unsigned integers."""
        return np.ascontiguousarray(self.data).view(f"<u{self.dtype.itemsize}").ravel()


def f16(values: object) -> Array:
    """Numbers rounded to f16."""
    return Array(DType.F16, np.asarray(values, "<f2"))


def f32(values: object) -> Array:
    """Numbers rounded to f32."""
    return Array(DType.F32, np.asarray(values, "<f4"))


def f64(values: object) -> Array:
    """Numbers as f64."""
    return Array(DType.F64, np.asarray(values, "<f8"))


def bf16(values: object) -> Array:
    """Numbers that bf16 has, as f32 cut off after sixteen bits."""
    wide = np.ascontiguousarray(np.asarray(values, "<f4"))
    return Array(DType.BF16, (wide.view("<u4") >> 16).astype("<u2"))


def _write(path: Path, tensors: Mapping[str, Array]) -> None:
    order = canonical_order((name, a.dtype) for name, a in tensors.items())
    head = header([(n, tensors[n].dtype, tensors[n].data.shape) for n in order])
    path.write_bytes(
        head + b"".join(np.ascontiguousarray(tensors[n].data).tobytes() for n in order)
    )


def write_model(directory: Path, tensors: Mapping[str, Array]) -> Path:
    """``directory`` with one file of all tensors."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "model.safetensors", tensors)
    return directory


def write_shards(directory: Path, tensors: Mapping[str, Array], shards: int) -> Path:
    """``directory`` with the tensors dealt to shards in turn, and an index."""
    directory.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {n: tensors[n] for n in sorted(tensors)[i::shards]}
        _write(directory / name, part)
        weight_map |= dict.fromkeys(part, name)
    total = sum(a.data.nbytes for a in tensors.values())
    (directory / "model.safetensors.index.json").write_bytes(index_json(weight_map, total))
    return directory
