"""Which files of a directory an input consists of, for ``vbuild lock`` only.

- A build never lists a directory; locking does it once, and writes down what it found.
- Weights: what an index lists, with the index; else the single file of the usual name; else the
  only file, or the only numbered set, with the format's suffix. safetensors before torch.
- Beside them: the configuration, tokenizer and ``output.copy`` files that the manifest takes
  from this input.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import os_error, read_small
from vbuild.formats.index import parse_index
from vbuild.formats.peft_config import CONFIG_NAME
from vbuild.formats.registry import FORMATS
from vbuild.manifest.outline import KeyPath
from vbuild.manifest.paths import clean_relative_path, path_fault
from vbuild.manifest.schema import Manifest
from vbuild.tokenizer import CONFIG_FILES, TOKENIZER_FILES

__all__ = ["companions", "discover"]

_USUAL: Final = (
    ("safetensors", "model.safetensors.index.json", "model.safetensors"),
    ("torch", "pytorch_model.bin.index.json", "pytorch_model.bin"),
)
_NUMBERED = re.compile(r"(.*[^0-9])[0-9]+-of-([0-9]+)(\.[a-z]+)")
_NOT_WEIGHTS = re.compile(
    r"training_args\.bin|(optimizer|scheduler|scaler|rng_state.*)\.(bin|pth?)"
)


def companions(manifest: Manifest, path: KeyPath) -> tuple[list[str], list[str]]:
    """``(if there, required)``: the files besides weights that the build takes from an input.

    ``path`` is the input's table, ``("base",)`` or ``("delta", i)``.
    """
    last = len(manifest.delta) - 1
    tables: dict[str, KeyPath] = {"base": ("base",), "delta": ("delta", last)}
    optional: list[str] = []
    required: list[str] = []
    if path[0] == "delta" and manifest.delta[int(path[1])].kind == "lora":
        required.append(CONFIG_NAME)
    if path == tables[manifest.config_source]:
        optional += CONFIG_FILES
    if path == tables[manifest.files_source]:
        optional += TOKENIZER_FILES if manifest.tokenizer is not None else ()
        required += manifest.output.copy
    return optional, required


def discover(
    directory: Path, container: str, optional: Sequence[str], required: Sequence[str]
) -> list[str]:
    """The names of the input's files, sorted; ``container`` is the input's ``format``.

    Raises InvalidInput (``weights-unclear``) where it is not clear which files are the weights,
    Unavailable (``no-weights``) where there are none. Whether those that are ``required`` or that
    an index lists are there is not looked at.
    """
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError as e:
        raise os_error(e, str(directory), "list") from e
    present = {name for name in names if path_fault(name) is None}
    found = set(required) | (present & set(optional))
    return sorted(found | set(_weights(directory, present, container)))


def _weights(directory: Path, present: set[str], container: str) -> list[str]:
    for kind, index, single in _USUAL:
        if container in ("auto", kind):
            if index in present:
                return [index, *_listed(directory, index)]
            if single in present:
                return [single]
    wanted = [fmt for fmt in FORMATS if container in ("auto", fmt.name)]
    for fmt in wanted:
        candidates = sorted(
            name
            for name in present
            if name.endswith(fmt.suffixes) and not _NOT_WEIGHTS.fullmatch(name)
        )
        if len(candidates) == 1 or (candidates and _is_one_set(candidates)):
            return candidates
        if candidates:
            raise InvalidInput(
                "weights-unclear",
                f"{len(candidates)} files could be the weights",
                where=str(directory),
                got=", ".join(candidates[:4]),
                hint='list the right ones under `files`, as "NAME" = {}, and lock again',
            )
    raise Unavailable(
        "no-weights",
        "no weights in this directory",
        where=str(directory),
        expected=" or ".join(suffix for fmt in wanted for suffix in fmt.suffixes),
    )


def _is_one_set(names: Sequence[str]) -> bool:
    """Whether ``names`` are all the parts, ``x-00001-of-00003.bin``, of one thing."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    sets = {m.groups() if m else None for m in matches}
    return len(sets) == 1 and all(m is not None and int(m[2]) == len(names) for m in matches)


def _listed(directory: Path, index: str) -> tuple[str, ...]:
    """The shards that the index of shards lists, sorted."""
    data = read_small(directory / index, str(directory / index))
    shards = parse_index(data, index).shards
    for shard in shards:
        clean_relative_path(shard, str(directory / index))
    return shards
