"""The tensors of a checkpoint, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vbuild.report.apply import sum_line
from vbuild.report.document import Value
from vbuild.report.lines import BLANK, Line, Span, line, styled, table
from vbuild.report.units import counted, size
from vbuild.tensors import JoinedSpec, Tensor, TensorSpec

if TYPE_CHECKING:
    from vbuild.commands.inspect import Inspected

__all__ = ["document", "lines"]


def lines(found: Inspected) -> Iterator[Line]:
    """A summary, a row per tensor, and the digests that were asked for."""
    tensors = found.tensors
    files = found.checkpoint.files
    total = sum(tensor.nbytes for tensor in tensors)
    yield line(
        styled(str(found.path), "strong"),
        f": {found.checkpoint.format}, {counted(len(files), 'file')}, "
        f"{counted(len(tensors), 'tensor')}, {size(total)}",
    )
    yield BLANK
    heads = ["tensor", "type", "shape", "bytes", "offset"]
    heads += ["file"] if len(files) > 1 else []
    heads += [] if found.tensor_digests is None else ["sha256"]
    rows: list[list[str | Span]] = [[styled(head, "faint") for head in heads]]
    rows += [_row(found, tensor) for tensor in tensors]
    yield from table(rows, right={3, 4}, indent=0)
    if found.files is not None:
        yield BLANK
        for name, digest in sorted(found.files.items()):
            yield sum_line(name, digest)
    if found.weights is not None:
        yield BLANK
        yield line(styled("weights digest", "strong"), f"  {found.weights}")


def _row(found: Inspected, tensor: Tensor) -> list[str | Span]:
    if isinstance(tensor, JoinedSpec):
        layout, offset = f" joined by {'columns' if tensor.axis else 'rows'}", ""
    else:
        layout, offset = "" if tensor.is_contiguous else " strided", str(tensor.offset)
    row: list[str | Span] = [
        tensor.name,
        tensor.dtype.code,
        f"[{', '.join(map(str, tensor.shape))}]{layout}",
        str(tensor.nbytes),
        offset,
    ]
    if len(found.checkpoint.files) > 1:
        others = len(tensor.parts) - 1
        row.append(f"{tensor.file} and {counted(others, 'other')}" if others else tensor.file)
    if found.tensor_digests is not None:
        row.append(found.tensor_digests[tensor.name])
    return row


def document(found: Inspected) -> dict[str, Value]:
    """The fields of ``vbuild.inspect/1``."""
    return {
        "path": found.path,
        "format": found.checkpoint.format,
        "files": [
            {"name": name, "sha256": None if found.files is None else found.files[name]}
            for name in found.checkpoint.files
        ],
        "tensors": [_tensor(found, tensor) for tensor in found.tensors],
        "bytes": sum(tensor.nbytes for tensor in found.tensors),
        "weights": found.weights,
    }


def _tensor(found: Inspected, tensor: Tensor) -> dict[str, Value]:
    joined = isinstance(tensor, JoinedSpec)
    return {
        "name": tensor.name,
        "dtype": tensor.dtype.code,
        "shape": list(tensor.shape),
        "bytes": tensor.nbytes,
        **_place(tensor.parts[0]),
        "axis": tensor.axis if isinstance(tensor, JoinedSpec) else None,
        "parts": [{**_place(p), "shape": list(p.shape)} for p in tensor.parts] if joined else None,
        "sha256": None if found.tensor_digests is None else found.tensor_digests[tensor.name],
    }


def _place(part: TensorSpec) -> dict[str, Value]:
    """Where the elements of a part lie."""
    extents, strides = part.layout
    return {
        "file": part.file,
        "offset": part.offset,
        "dims": list(extents),
        "strides": list(strides),
    }
