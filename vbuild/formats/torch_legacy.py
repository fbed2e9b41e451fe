"""PyTorch's stream format (`torch.save` before version 1.6, or on request since).

- Five pickles follow one another: a magic number, the protocol, facts about the machine, the
  object, and the list of storage keys. Then, per key in that order, a 64-bit count of elements
  and the raw bytes (formats.md). Nothing says how long the pickles are.
- The machine must have been little-endian; the list of keys and the storages that the object
  mentions must be the same set; nothing follows the last storage.
- Storages are passed over: only their counts are read.
"""

from __future__ import annotations

import struct

from vbuild.errors import InvalidInput
from vbuild.files import InputFile
from vbuild.formats.torch_pickle import Pickle, load
from vbuild.formats.torch_source import Source
from vbuild.formats.torch_state import Region, tensor_specs
from vbuild.formats.torch_tree import Mapping, Node
from vbuild.strict_json import quoted
from vbuild.tensors import TensorSpec

__all__ = ["MAGIC", "read_stream"]

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle: 0x1950A86A20F9469CFC6C."""

_PROTOCOL = 1001


def read_stream(file: InputFile) -> list[TensorSpec]:
    """The tensors of the legacy checkpoint ``file``, in the order of its state dict."""
    source = Source(file, 0, file.size)
    if source.take(len(MAGIC)) != MAGIC or load(source).root != _PROTOCOL:
        what = "this is no legacy PyTorch checkpoint of protocol 1001"
        raise InvalidInput("torch-not-a-checkpoint", what, where=file.name)
    _check_machine(load(source).root, file)
    pickle = load(source, legacy=True)
    keys = _checked_keys(load(source).root, pickle, file)
    return tensor_specs(pickle.root, _regions(source, keys, pickle, file), file.name)


def _check_machine(facts: Node, file: InputFile) -> None:
    pairs = facts.items if isinstance(facts, Mapping) else []
    little = [value for key, value in pairs if isinstance(key, str) and key == "little_endian"]
    if len(little) == 1 and little[0] is True:
        return
    if len(little) == 1 and little[0] is False:
        raise InvalidInput(
            "torch-big-endian",
            "the checkpoint was written by a big-endian machine",
            where=file.name,
            hint="load it with torch and save it again on a little-endian machine",
        )
    raise InvalidInput(
        "pickle-malformed", "the checkpoint does not say its byte order", where=file.name
    )


def _checked_keys(listed: Node, pickle: Pickle, file: InputFile) -> list[str]:
    """The keys in the order of their storages; each mentioned storage once, and no other."""
    if not isinstance(listed, list):
        raise InvalidInput("pickle-malformed", "the list of storage keys is none", where=file.name)
    keys: dict[str, None] = {}
    for key in listed:
        if not isinstance(key, str) or key in keys or key not in pickle.storages:
            name = quoted(key) if isinstance(key, str) else "which is not text"
            what = f"the list of storage keys has {name} twice, or without need"
            raise InvalidInput("pickle-malformed", what, where=file.name)
        keys[key] = None
    missing = sorted(set(pickle.storages) - set(keys))
    if missing:
        raise InvalidInput(
            "torch-storage-missing",
            f"the pickle mentions storage {quoted(missing[0])}, which the file lacks",
            where=file.name,
        )
    return list(keys)


def _regions(source: Source, keys: list[str], pickle: Pickle, file: InputFile) -> dict[str, Region]:
    """Where each storage lies; the counts in the stream must be those of the pickle."""
    regions = {}
    at = source.position
    for key in keys:
        root = pickle.storages[key]
        size = root.numel * root.dtype.itemsize
        if at + 8 > file.size:
            raise _truncated(key, file)
        (count,) = struct.unpack("<q", source.read_at(at, 8))
        if count != root.numel:
            raise InvalidInput(
                "torch-storage-size",
                f"storage {quoted(key)} has another size than the pickle says (byte {at})",
                where=file.name,
                expected=f"{root.numel} elements",
                got=f"{count} elements",
            )
        if at + 8 + size > file.size:
            raise _truncated(key, file)
        regions[key] = Region(at + 8, size)
        at += 8 + size
    if at != file.size:
        raise InvalidInput(
            "torch-trailing-data",
            f"{file.size - at} bytes follow the last storage (byte {at})",
            where=file.name,
        )
    return regions


def _truncated(key: str, file: InputFile) -> InvalidInput:
    return InvalidInput(
        "torch-truncated",
        f"the file ends inside storage {quoted(key)}",
        where=file.name,
        got=f"{file.size} bytes",
        hint="download or copy the file again",
    )
