"""PyTorch checkpoints: their tensors, found without PyTorch and without running their pickle.

- Two containers: a zip archive (`torch_archive`) and the older stream (`torch_legacy`); both
  hold a pickle, which a machine of our own interprets symbolically (`torch_pickle`).
- The older tar form is refused, and so is whatever else bears the suffix of a checkpoint, each by
  what it is.
- Only structure is read. What was read stays in the file's memory of ranges, for its hash.
"""

from __future__ import annotations

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.formats.registry import HEAD
from vbuild.formats.torch_archive import read_archive
from vbuild.formats.torch_legacy import MAGIC, read_stream
from vbuild.tensors import TensorSpec

__all__ = ["read_tensors", "sniff"]

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_TAR_AT = 257


def sniff(head: bytes) -> bool:
    """Whether a file that starts with ``head`` (HEAD bytes are enough) means to be PyTorch's.

    True for a zip archive, a legacy stream and a tar archive, even if :func:`read_tensors` then
    refuses it with a reason.
    """
    return head.startswith((*_ZIP, MAGIC)) or _is_tar(head)


def read_tensors(file: InputFile) -> list[TensorSpec]:
    """The tensors of the checkpoint ``file``, in the order of its state dict.

    Offsets are absolute; strides are as saved. No tensor's values are read, no pickled name is
    resolved, nothing is run. Raises InvalidInput (bad-inputs.md, 48-56).
    """
    head = file.pread(0, min(HEAD, file.size))
    if head.startswith(_ZIP):
        return read_archive(file)
    if head.startswith(MAGIC):
        return read_stream(file)
    raise _refusal(head, file.name)


def _is_tar(head: bytes) -> bool:
    return head[_TAR_AT : _TAR_AT + 5] == b"ustar"


def _refusal(head: bytes, where: str) -> InvalidInput:
    """The error for a file that is no checkpoint, by what it is instead."""
    if any(start.startswith(head) for start in (*_ZIP, MAGIC)):
        code, what, hint = "torch-truncated", "the file is cut off", "download it again"
    elif _is_tar(head):
        code, what = "torch-tar", "this is PyTorch's oldest format, a tar archive"
        hint = "load it with torch and save its state dict again"
    elif head.startswith(_PICKLE):
        code, what = "torch-bare-pickle", "this is a bare pickle, not a PyTorch checkpoint"
        hint = "do not load it with pickle: doing so could run code"
    else:
        code, what = "torch-not-a-checkpoint", "this is no PyTorch checkpoint"
        hint = "if the download was interrupted, download the file again"
    return InvalidInput(code, what, where=where, hint=hint)
