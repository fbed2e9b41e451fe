"""One of two checkpoints that are compared: a file or a directory, and the tensors in it.

- In a directory the weights are found as ``vbuild lock`` finds them: what an index lists, or the
  usual names; so a directory that holds a model in two formats is no problem. A GGUF file counts
  only where there are no others, and is the only one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild.errors import InvalidInput, Unavailable, VbuildError
from vbuild.files import Identity
from vbuild.formats import Checkpoint, open_checkpoint
from vbuild.formats.registry import GGUF, READABLE, Format
from vbuild.manifest.discover import discover, place_of_directory
from vbuild.plan import FileRef

__all__ = ["InputFile", "Inputs", "Side", "open_side"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A weight file, and how messages name it: ``a/model.safetensors``."""

    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files that a run reads, and what each was when its header was read."""

    materials: Mapping[FileRef, InputFile]
    identities: Mapping[FileRef, Identity]


@dataclass(frozen=True, slots=True)
class Side:
    """An opened checkpoint. ``path`` is as it was given; ``files`` are all that were opened."""

    path: Path
    label: str
    directory: Path
    files: Mapping[str, Path]
    checkpoint: Checkpoint


def open_side(path: Path, label: str, known: Sequence[Format] = READABLE) -> Side:
    """The checkpoint in the file or directory ``path``; ``label`` names it in errors.

    ``known`` are the containers that are read. Raises InvalidInput for what is malformed, or
    unclear in a directory, Unavailable for what is missing.
    """
    if os.path.isdir(path):  # noqa: PTH112 (also answers where it may not look)
        files = {name: path / name for name in _names(path, known)}
        try:
            checkpoint = open_checkpoint(files, str(path), known=known)
        except VbuildError as e:  # both sides may have files of that name
            e.where = str(files[e.where]) if e.where in files else e.where
            raise
        return Side(path, label, path, files, checkpoint)
    if not os.path.lexists(path):
        raise Unavailable("file-missing", "no such file", where=str(path))
    files = {path.name: path}
    checkpoint = open_checkpoint(files, str(path), joined=False, known=known)
    return Side(path, label, path.parent, files, checkpoint)


def _names(directory: Path, known: Sequence[Format]) -> list[str]:
    """The files that are the checkpoint in ``directory``."""
    place = place_of_directory(directory)
    try:
        return discover(place, "auto", (), ())
    except InvalidInput as e:
        if e.code == "weights-unclear":
            e.hint = "name the file itself, or a directory with one model"
        raise
    except Unavailable:
        names = sorted(name for name in place.names if name.endswith(GGUF.suffixes))
        if GGUF not in known or not names:
            raise
    if len(names) > 1:
        raise InvalidInput(
            "weights-unclear",
            f"{len(names)} GGUF files, each a model of its own",
            where=str(directory),
            got=", ".join(names[:4]),
            hint="name the file itself",
        )
    return names


def inputs(*sides: Side) -> Inputs:
    """The files of the sides, indexes too; those of the first are group 0, and so on."""
    return Inputs(
        {
            FileRef(group, name): InputFile(side.files[name], f"{side.label}/{name}")
            for group, side in enumerate(sides)
            for name in side.checkpoint.identities
        },
        {
            FileRef(group, name): identity
            for group, side in enumerate(sides)
            for name, identity in side.checkpoint.identities.items()
        },
    )
