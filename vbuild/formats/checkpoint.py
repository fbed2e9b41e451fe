"""Joining the weight files of a base or a delta into one set of named tensors.

- The files are those that the manifest lists; nothing else is opened and no directory is read.
  Files that are neither weights nor an index are not opened either.
- All weights are of one container. With an index the shards must agree with it exactly; without
  one the result is the union of the files, and a name in two of them is an error.
- One file is open at a time (bad-inputs.md, 88), and only its headers are read. The bytes read
  are kept: the build feeds them to the file's digest, so what was planned from is what was
  verified (24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from vbuild.errors import InvalidInput
from vbuild.files import SMALL_FILE_LIMIT, Identity, InputFile
from vbuild.formats.index import (
    INDEX_SUFFIX,
    ShardIndex,
    check_shards,
    check_tensors,
    check_total,
    parse_index,
)
from vbuild.formats.registry import FORMATS, Format, format_named, format_of
from vbuild.strict_json import quoted
from vbuild.tensors import LowRankSpec, Tensor, TensorSpec

__all__ = ["Checkpoint", "open_checkpoint"]

_SUFFIXES = tuple(suffix for fmt in FORMATS for suffix in fmt.suffixes)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a base or a delta, and where they came from.

    ``tensors`` is in code-point order of names; ``files`` are the weight files, sorted;
    ``format`` is the container's name. ``headers`` and ``identities`` have an entry for every
    file that was opened, an index included: the byte ranges that were read (sorted, disjoint)
    and what the file was at that time. ``updates`` are those of an adapter, by the names of the
    base's tensors that they change.
    """

    tensors: Mapping[str, Tensor]
    files: tuple[str, ...]
    format: str
    headers: dict[str, tuple[tuple[int, bytes], ...]]
    identities: dict[str, Identity]
    updates: Mapping[str, LowRankSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Weights:
    """One opened weight file; ``tensors`` is empty where another format was asked for."""

    format: Format
    tensors: list[TensorSpec]


class _Opener:
    """Opens files by key, one at a time, and keeps what was read of each."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self.headers: dict[str, tuple[tuple[int, bytes], ...]] = {}
        self.identities: dict[str, Identity] = {}

    def index(self, name: str) -> ShardIndex:
        with InputFile(self.files[name], name) as file:
            if file.size > SMALL_FILE_LIMIT:
                raise InvalidInput(
                    "file-too-large",
                    "the file is too large to be an index",
                    where=name,
                    expected=f"at most {SMALL_FILE_LIMIT} bytes",
                    got=f"{file.size} bytes",
                )
            index = parse_index(file.pread(0, file.size), name)
            self._keep(file)
        return index

    def weights(self, name: str, wanted: Format | None) -> _Weights:
        with InputFile(self.files[name], name) as file:
            fmt = format_of(file)
            tensors = fmt.read_tensors(file) if wanted in (None, fmt) else []
            self._keep(file)
        return _Weights(fmt, tensors)

    def _keep(self, file: InputFile) -> None:
        self.headers[file.name] = file.ranges
        self.identities[file.name] = file.identity


def open_checkpoint(files: Mapping[str, Path], label: str, format: str = "auto") -> Checkpoint:
    """The checkpoint that ``files`` (the manifest's keys to local paths) make up.

    ``label`` names the whole (``base``, ``delta[0]``) in errors. Weight files are recognised by
    suffix, their container by content; with a ``format`` other than ``auto`` the weights of
    other containers, and their index, are left aside. Raises InvalidInput for anything that is
    malformed or ambiguous, Unavailable for a file that is missing or unreadable.
    """
    wanted = None if format == "auto" else format_named(format, label)
    opener = _Opener(files)
    names = sorted(name for name in files if name.endswith(_SUFFIXES))
    opened = {name: opener.weights(name, wanted) for name in names}
    fmt = wanted or _only_format(opened, label)
    weights = {name: w.tensors for name, w in opened.items() if w.format == fmt}
    if fmt is None or not weights:
        _refuse_empty(label, wanted)
    index = _find_index(opener, weights, fmt, label, explicit=wanted is not None)
    if index is not None:
        check_shards(index, weights)
        check_tensors(index, {name: [t.name for t in weights[name]] for name in weights})
        every = [t for name in weights for t in weights[name]]
        check_total(index, every, shared=fmt.name != "safetensors")
    tensors = _union(weights)
    if not tensors:
        _refuse_empty(label, wanted)
    return Checkpoint(
        {name: tensors[name] for name in sorted(tensors)},
        tuple(weights),
        fmt.name,
        opener.headers,
        opener.identities,
    )


def _refuse_empty(label: str, wanted: Format | None) -> NoReturn:
    raise InvalidInput(
        "no-weights",
        "no tensors among the files",
        where=label,
        expected=f"files of {', '.join(wanted.suffixes if wanted else _SUFFIXES)}",
    )


def _only_format(opened: Mapping[str, _Weights], label: str) -> Format | None:
    """The one container of the weight files, None where there are no files."""
    first: dict[str, str] = {}
    for name, weights in opened.items():
        first.setdefault(weights.format.name, name)
    if len(first) > 1:
        examples = ", ".join(f"{first[fmt]} ({fmt})" for fmt in sorted(first))
        raise InvalidInput(
            "mixed-formats",
            f"weights in several formats: {examples}",
            where=label,
            hint="list the files of one format only, or say which in `format`",
        )
    return next((weights.format for weights in opened.values()), None)


def _find_index(
    opener: _Opener,
    weights: Mapping[str, list[TensorSpec]],
    fmt: Format,
    label: str,
    *,
    explicit: bool,
) -> ShardIndex | None:
    """The one index among the files, None without one.

    Where the format was asked for, an index that names only files of others is left aside.
    """
    names = sorted(name for name in opener.files if name.endswith(INDEX_SUFFIX))
    found = [opener.index(name) for name in names]
    if explicit:
        found = [
            index
            for index in found
            if any(s in weights or s.endswith(fmt.suffixes) for s in index.shards)
        ]
    if len(found) > 1:
        raise InvalidInput(
            "several-indexes",
            f"more than one index: {found[0].name}, {found[1].name}",
            where=label,
            hint="list one index only in the manifest's files",
        )
    return found[0] if found else None


def _union(weights: Mapping[str, list[TensorSpec]]) -> dict[str, TensorSpec]:
    tensors: dict[str, TensorSpec] = {}
    for file, specs in weights.items():
        for spec in specs:
            other = tensors.setdefault(spec.name, spec)
            if other is not spec:
                what = f"tensor {quoted(spec.name)} is in {other.file} too"
                raise InvalidInput("duplicate-tensor", what, where=file)
    return tensors
