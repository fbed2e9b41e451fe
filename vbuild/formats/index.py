"""The index of a sharded checkpoint (``*.index.json``): reading, checking, writing.

- ``weight_map`` says which file holds which tensor; files are named relative to the index and
  never leave its directory (bad-inputs.md, 47).
- An index must agree exactly with its shards: each one present, each tensor where the index says
  and nowhere else, and the total right. Whatever it omits or adds is an error, not a preference.
- ``metadata.total_size`` may be missing; other keys of ``metadata`` are not looked at.
- Written as transformers writes it: keys sorted, two spaces of indent, a final newline.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from vbuild import strict_json
from vbuild.errors import InvalidInput
from vbuild.formats.registry import HEAD, check_foreign
from vbuild.strict_json import Json, quoted
from vbuild.tensors import TensorSpec

__all__ = [
    "INDEX_SUFFIX",
    "ShardIndex",
    "check_shards",
    "check_tensors",
    "check_total",
    "index_json",
    "parse_index",
]

INDEX_SUFFIX: Final = ".index.json"


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """An index: ``weight_map`` from tensor names (sorted) to file keys, as the manifest has them.

    ``name`` is the index's own key; ``total_size`` is in bytes, None where it is not said.
    """

    name: str
    weight_map: dict[str, str]
    total_size: int | None

    @property
    def shards(self) -> tuple[str, ...]:
        """The files that the index names, sorted, each once."""
        return tuple(sorted(set(self.weight_map.values())))


def _refuse(kind: str, where: str, what: str, *, hint: str | None = None) -> NoReturn:
    raise InvalidInput(f"index-{kind}", what, where=where, hint=hint)


def parse_index(data: bytes, name: str) -> ShardIndex:
    """The index file ``data`` whose key is ``name``.

    Raises InvalidInput: ``index-malformed``, ``index-shard-name``, or what
    :func:`~vbuild.formats.registry.check_foreign` raises.
    """
    check_foreign(data[:HEAD], name)
    document = strict_json.loads(data, name, code="index-malformed")
    if not isinstance(document, dict):
        _refuse("malformed", name, "the index is not a JSON object")
    weight_map = document.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        _refuse("malformed", name, "weight_map is missing, empty or not a JSON object")
    folder = posixpath.dirname(name)
    resolved = {t: _shard(name, folder, t, weight_map[t]) for t in sorted(weight_map)}
    return ShardIndex(name, resolved, _total_size(document.get("metadata", {}), name))


def _shard(index: str, folder: str, tensor: str, value: Json) -> str:
    """The key of the shard that the index names ``value``: below the index's own directory."""
    if not isinstance(value, str):
        _refuse("malformed", index, f"weight_map of {quoted(tensor)} is not a string")
    clean = value.isprintable() and not any(c in value for c in "\\:")
    if not clean or any(part in ("", ".", "..") for part in value.split("/")):
        _refuse("shard-name", index, f"{quoted(value)} is not a clean relative file name")
    return posixpath.join(folder, value)


def _total_size(metadata: Json, name: str) -> int | None:
    """``metadata.total_size``, or None; a whole double is accepted.

    Early versions of transformers took a bool for 1/8 byte, which made their sums doubles.
    """
    if not isinstance(metadata, dict):
        _refuse("malformed", name, "metadata is not a JSON object")
    total = metadata.get("total_size")
    if total is None:
        return None
    if isinstance(total, float) and total.is_integer():
        total = int(total)
    if type(total) is not int or total < 0:
        _refuse("malformed", name, "metadata.total_size is not a whole number of bytes")
    return total


def check_shards(index: ShardIndex, present: Collection[str]) -> None:
    """The weight files ``present`` must be the shards of ``index``: none missing, none more.

    Raises InvalidInput: ``index-shard-missing``, ``index-shard-extra``.
    """
    for shard in index.shards:
        if shard not in present:
            _refuse(
                "shard-missing",
                index.name,
                f"names the shard {quoted(shard)}, which is not among the files",
                hint="list every shard in the manifest's files",
            )
    for file in sorted(set(present) - set(index.shards)):
        _refuse(
            "shard-extra",
            file,
            f"a weight file that {index.name} does not name",
            hint="leave it, or the index, out of the manifest's files",
        )


def check_tensors(index: ShardIndex, shards: Mapping[str, Iterable[str]]) -> None:
    """The tensors' names in each of ``shards`` must be those that ``index`` puts there.

    Raises InvalidInput: ``duplicate-tensor`` (in two shards), ``index-tensor-extra``,
    ``index-tensor-missing``, ``index-tensor-shard`` (in another shard).
    """
    found: dict[str, str] = {}
    for shard in sorted(shards):
        for tensor in shards[shard]:
            if tensor in found:
                what = f"tensor {quoted(tensor)} is in {found[tensor]} too"
                raise InvalidInput("duplicate-tensor", what, where=shard)
            found[tensor] = shard
    for tensor in sorted(found):
        if tensor not in index.weight_map:
            _refuse("tensor-extra", found[tensor], f"{index.name} lacks tensor {quoted(tensor)}")
    for tensor, shard in index.weight_map.items():
        if tensor not in found:
            _refuse("tensor-missing", index.name, f"tensor {quoted(tensor)} is in no shard")
        if found[tensor] != shard:
            what = f"puts tensor {quoted(tensor)} in {shard}, but it is in {found[tensor]}"
            _refuse("tensor-shard", index.name, what)


def check_total(index: ShardIndex, tensors: Sequence[TensorSpec], *, shared: bool) -> None:
    """``metadata.total_size`` must be the sum of the sizes of ``tensors``, in bytes.

    With ``shared``, tensors may lie in the same bytes (torch files), and a total that counts
    those once is right too: transformers sums over storages. InvalidInput (``index-total-size``).
    """
    if index.total_size is None:
        return
    total = sum(t.nbytes for t in tensors)
    if index.total_size == total or (shared and index.total_size == _distinct_bytes(tensors)):
        return
    raise InvalidInput(
        "index-total-size",
        "metadata.total_size is not the sum of the tensors' sizes",
        where=index.name,
        expected=total,
        got=index.total_size,
        hint="if the files are complete, leave the index out of the manifest's files",
    )


def _distinct_bytes(tensors: Iterable[TensorSpec]) -> int:
    """How many bytes of files the tensors lie in, those that are shared counted once."""
    total = 0
    file, reached = "", 0
    for at, (begin, end) in sorted((t.file, t.extent) for t in tensors):
        if at != file:
            file, reached = at, 0
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def index_json(weight_map: Mapping[str, str], total_size: int) -> bytes:
    """The bytes of an index; ``weight_map`` maps names to shard names, ``total_size`` is bytes."""
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(weight_map)}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode("ascii")
