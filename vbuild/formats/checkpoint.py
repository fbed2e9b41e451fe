"""Joining the weight files of a base or a delta into one set of named tensors.

- The files are those that the manifest lists; nothing else is opened and no directory is read.
  Files that are neither weights nor an index are not opened either.
- All weights are of one container. With an index the shards must agree with it exactly; without
  one the result is the union of the files, and a name in two of them is an error. Meta's files
  are joined by ``meta``.
- One file is open at a time (bad-inputs.md, 88), and only its headers are read (``opener``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from vbuild.errors import InvalidInput
from vbuild.files import Identity
from vbuild.formats.index import (
    INDEX_SUFFIX,
    ShardIndex,
    check_shards,
    check_tensors,
    check_total,
    parse_index,
)
from vbuild.formats.meta import MetaFiles, find_meta, open_meta
from vbuild.formats.meta_params import Params
from vbuild.formats.opener import Opener
from vbuild.formats.registry import FORMATS, GGUF, META_LLAMA, Format, format_named, format_of
from vbuild.strict_json import quoted
from vbuild.tensors import LowRankSpec, Tensor, TensorSpec

__all__ = ["Checkpoint", "open_checkpoint"]

_SUFFIXES = tuple(suffix for fmt in FORMATS for suffix in fmt.suffixes)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a base or a delta, and where they came from.

    ``tensors`` is in code-point order of names; ``files`` are the weight files, sorted;
    ``format`` is the container's name, or ``meta-llama``, whose ``params`` are kept. ``headers``
    and ``identities`` have an entry for every file that was opened, an index or ``params.json``
    included: the byte ranges that were read (sorted, disjoint) and what the file was at that time.
    ``updates`` are those of an adapter, by the names of the base's tensors that they change.
    """

    tensors: Mapping[str, Tensor]
    files: tuple[str, ...]
    format: str
    headers: dict[str, tuple[tuple[int, bytes], ...]]
    identities: dict[str, Identity]
    params: Params | None = None
    updates: Mapping[str, LowRankSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Weights:
    """One opened weight file; ``tensors`` is empty where another format was asked for."""

    format: Format
    tensors: list[TensorSpec]


def open_checkpoint(
    files: Mapping[str, Path],
    label: str,
    format: str = "auto",
    *,
    joined: bool = True,
    known: Sequence[Format] = FORMATS,
) -> Checkpoint:
    """The checkpoint that ``files`` (the manifest's keys to local paths) make up.

    ``label`` names the whole (``base``, ``delta[0]``) in errors. Weight files are recognised by
    suffix, their container by content; with a ``format`` other than ``auto`` the weights of
    other containers, and their index, are left aside. Meta's files are recognised by their names,
    unless they are not to be taken as ``joined``. ``known`` are the containers that are read; a
    GGUF file counts, or is refused as one, only where nothing else does. Raises InvalidInput for
    anything that is malformed or ambiguous, Unavailable for a file that is missing or unreadable.
    """
    opener = Opener(files)
    if joined and format in ("auto", META_LLAMA):
        meta = find_meta(files, label, asked=format == META_LLAMA)
        if meta is not None:
            return _open_meta(meta, opener, label, format)
    wanted = None if format == "auto" else format_named(format, label)
    names = sorted(name for name in files if name.endswith(_SUFFIXES))
    if not names:
        names = sorted(name for name in files if name.endswith(GGUF.suffixes))
    opened = {name: _open_weights(opener, name, wanted, known) for name in names}
    fmt = wanted or _only_format(opened, label)
    weights = {name: w.tensors for name, w in opened.items() if w.format == fmt}
    if fmt is None or not weights:
        _refuse_empty(label, wanted, known)
    index = _find_index(opener, weights, fmt, label, explicit=wanted is not None)
    if index is not None:
        check_shards(index, weights)
        check_tensors(index, {name: [t.name for t in weights[name]] for name in weights})
        every = [t for name in weights for t in weights[name]]
        check_total(index, every, shared=fmt.name != "safetensors")
    tensors = _union(weights)
    if not tensors:
        _refuse_empty(label, wanted, known)
    return Checkpoint(
        {name: tensors[name] for name in sorted(tensors)},
        tuple(weights),
        fmt.name,
        opener.headers,
        opener.identities,
    )


def _open_meta(files: MetaFiles, opener: Opener, label: str, format: str) -> Checkpoint:
    """The checkpoint of Meta's ``files``, which are the only weights unless they were asked for."""
    others = sorted(n for n in opener.files if n.endswith(_SUFFIXES) and n not in files.parts)
    if others and format == "auto":
        raise _mixed([(files.parts[0], META_LLAMA), (others[0], "another format")], label)
    model = open_meta(files, opener)
    return Checkpoint(
        {name: model.tensors[name] for name in sorted(model.tensors)},
        files.parts,
        META_LLAMA,
        opener.headers,
        opener.identities,
        model.params,
    )


def _open_weights(
    opener: Opener, name: str, wanted: Format | None, known: Sequence[Format]
) -> _Weights:
    with opener.open(name) as file:
        fmt = format_of(file, known)
        return _Weights(fmt, fmt.read_tensors(file) if wanted in (None, fmt) else [])


def _refuse_empty(label: str, wanted: Format | None, known: Sequence[Format]) -> NoReturn:
    suffixes = [s for fmt in ((wanted,) if wanted else known) for s in fmt.suffixes]
    raise InvalidInput(
        "no-weights",
        "no tensors among the files",
        where=label,
        expected=f"files of {', '.join(suffixes)}",
    )


def _only_format(opened: Mapping[str, _Weights], label: str) -> Format | None:
    """The one container of the weight files, None where there are no files."""
    first: dict[str, str] = {}
    for name, weights in opened.items():
        first.setdefault(weights.format.name, name)
    if len(first) > 1:
        raise _mixed([(first[fmt], fmt) for fmt in sorted(first)], label)
    return next((weights.format for weights in opened.values()), None)


def _mixed(examples: Iterable[tuple[str, str]], label: str) -> InvalidInput:
    """The error for files in several formats, with an example of each."""
    return InvalidInput(
        "mixed-formats",
        f"weights in several formats: {', '.join(f'{name} ({fmt})' for name, fmt in examples)}",
        where=label,
        hint="list the files of one format only, or say which in `format`",
    )


def _find_index(
    opener: Opener,
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
    found = [parse_index(opener.read(name, "an index"), name) for name in names]
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
