"""Which files of a directory or repository an input consists of, for ``vbuild lock`` only.

- A build never lists a directory; locking does it once, and writes down what it found.
- Weights: what an index lists, with the index; else the single file of the usual name; else a LoRA
  adapter with its configuration; else Meta's ``consolidated.NN.pth`` with ``params.json``; else the
  only file, or the only numbered set, with the format's suffix. safetensors before torch.
- Beside them: the configuration, tokenizer and ``output.copy`` files that the manifest takes
  from this input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import os_error, read_small
from vbuild.formats.index import parse_index
from vbuild.formats.meta import find_meta
from vbuild.formats.registry import FORMATS, META_LLAMA, is_training_state
from vbuild.manifest.outline import KeyPath
from vbuild.manifest.paths import clean_relative_path, path_fault
from vbuild.manifest.schema import Manifest
from vbuild.tokenizer import CONFIG_FILES, TOKENIZER_FILES

__all__ = ["Place", "companions", "discover", "place_of_directory"]

_USUAL: Final = (
    ("safetensors", "model.safetensors.index.json", "model.safetensors"),
    ("torch", "pytorch_model.bin.index.json", "pytorch_model.bin"),
)
_ADAPTERS: Final = (("safetensors", "adapter_model.safetensors"), ("torch", "adapter_model.bin"))
_ADAPTER_CONFIG: Final = "adapter_config.json"
_NUMBERED = re.compile(r"(.*[^0-9])[0-9]+-of-([0-9]+)(\.[a-z]+)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input's files are: their ``names``, and ``read(name)`` for a small one's bytes.

    ``label`` names it in errors.
    """

    label: str
    names: Collection[str]
    read: Callable[[str], bytes]


def place_of_directory(directory: Path) -> Place:
    """The files in ``directory`` itself."""
    try:
        names = frozenset(entry.name for entry in directory.iterdir())
    except OSError as e:
        raise os_error(e, str(directory), "list") from e
    return Place(
        str(directory), names, lambda name: read_small(directory / name, str(directory / name))
    )


def companions(manifest: Manifest, path: KeyPath) -> tuple[list[str], list[str]]:
    """``(if there, required)``: the files besides weights that the build takes from an input.

    ``path`` is the input's table, ``("base",)`` or ``("delta", i)``.
    """
    last = len(manifest.delta) - 1
    tables: dict[str, KeyPath] = {"base": ("base",), "delta": ("delta", last)}
    optional: list[str] = []
    required: list[str] = []
    if path == tables[manifest.config_source]:
        optional += CONFIG_FILES
    if path == tables[manifest.files_source]:
        optional += TOKENIZER_FILES if manifest.tokenizer is not None else ()
        required += manifest.copy
    return optional, required


def discover(
    place: Place, container: str, optional: Sequence[str], required: Sequence[str]
) -> list[str]:
    """The names of the input's files, sorted; ``container`` is the input's ``format``.

    Raises InvalidInput (``weights-unclear``) where it is not clear which files are the weights,
    Unavailable (``no-weights``) where there are none. Whether those that are ``required`` or that
    an index lists are there is not looked at.
    """
    present = {name for name in place.names if path_fault(name) is None and "/" not in name}
    found = set(required) | (present & set(optional))
    return sorted(found | set(_weights(place, present, container)))


def _weights(place: Place, present: set[str], container: str) -> list[str]:
    for kind, index, single in _USUAL:
        if container in ("auto", kind):
            if index in present:
                return [index, *_listed(place, index)]
            if single in present:
                return [single]
    for kind, adapter in _ADAPTERS:
        if container in ("auto", kind) and adapter in present:
            return [*(present & {_ADAPTER_CONFIG}), adapter]
    if container in ("auto", META_LLAMA):
        meta = find_meta(present, place.label)
        if meta is not None:
            return [meta.params, *meta.parts]
    return _by_suffix(place, present, container)


def _by_suffix(place: Place, present: set[str], container: str) -> list[str]:
    wanted = [fmt for fmt in FORMATS if container in ("auto", fmt.name)]
    for fmt in wanted:
        candidates = sorted(
            name for name in present if name.endswith(fmt.suffixes) and not is_training_state(name)
        )
        if len(candidates) == 1 or (candidates and _is_one_set(candidates)):
            return candidates
        if candidates:
            raise InvalidInput(
                "weights-unclear",
                f"{len(candidates)} files could be the weights",
                where=place.label,
                got=", ".join(candidates[:4]),
                hint='list the right ones under `files`, as "NAME" = {}, and lock again',
            )
    raise Unavailable(
        "no-weights",
        "no weights here",
        where=place.label,
        expected=" or ".join(suffix for fmt in wanted for suffix in fmt.suffixes)
        or "consolidated.00.pth and params.json",
    )


def _is_one_set(names: Sequence[str]) -> bool:
    """Whether ``names`` are all the parts, ``x-00001-of-00003.bin``, of one thing."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    sets = {m.groups() if m else None for m in matches}
    return len(sets) == 1 and all(m is not None and int(m[2]) == len(names) for m in matches)


def _listed(place: Place, index: str) -> tuple[str, ...]:
    """The shards that the index of shards lists, sorted."""
    shards = parse_index(place.read(index), index).shards
    for shard in shards:
        clean_relative_path(shard, f"{place.label}/{index}")
    return shards
