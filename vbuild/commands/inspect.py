"""``vbuild inspect``: the tensors of a file or a directory, without loading any.

- A file is what it is by itself; a directory is a model: an index is followed, Meta's files are
  joined, and what a trainer has left beside the weights is passed over.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vbuild import _core
from vbuild.digest import core_error, hash_files, kernels, weights_digest
from vbuild.errors import InvalidInput
from vbuild.files import Identity, changed, open_regular, os_error
from vbuild.formats import Checkpoint, open_checkpoint
from vbuild.formats.registry import READABLE, is_training_state
from vbuild.plan import copy_program
from vbuild.tensors import Tensor

__all__ = ["Inspected", "inspect"]


@dataclass(frozen=True, slots=True)
class Inspected:
    """A checkpoint's tensors by name, and the digests that were asked for (hex)."""

    path: Path
    checkpoint: Checkpoint
    tensor_digests: Mapping[str, str] | None = None
    weights: str | None = None
    files: Mapping[str, str] | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """In code-point order of names."""
        return tuple(self.checkpoint.tensors.values())


def inspect(path: Path, *, digests: bool = False, weights_digest: bool = False) -> Inspected:
    """The tensors of the weight file or directory ``path``.

    ``digests`` adds the SHA-256 of every file and of every tensor (numerics.md, weights digest);
    ``weights_digest`` the digest of the model's weights. Both read all data, in constant memory.
    """
    files = _files(path)
    joined = path not in files.values()
    checkpoint = open_checkpoint(files, str(path), joined=joined, known=READABLE)
    if not digests and not weights_digest:
        return Inspected(path, checkpoint)
    found = _tensor_digests(checkpoint, files)
    listed = list(checkpoint.files)
    return Inspected(
        path,
        checkpoint,
        {name: digest.hex() for name, digest in found.items()},
        _weights(found),
        dict(zip(listed, hash_files([files[f] for f in listed], listed), strict=True))
        if digests
        else None,
    )


def _weights(found: Mapping[str, bytes]) -> str:
    return weights_digest(found)


def _files(path: Path) -> dict[str, Path]:
    """The files of a directory by name, or the one file that ``path`` is."""
    if not os.path.isdir(path):  # noqa: PTH112 (also answers where it may not look)
        return {path.name: path}
    try:
        found = [p for p in sorted(path.iterdir()) if p.is_file()]
    except OSError as e:
        raise os_error(e, str(path), "read") from e
    files = {p.name: p for p in found if not is_training_state(p.name)}
    if not found:
        raise InvalidInput("no-weights", "the directory has no files", where=str(path))
    return files


def _tensor_digests(checkpoint: Checkpoint, files: Mapping[str, Path]) -> dict[str, bytes]:
    """Digest of every tensor, those that lie in the same files together."""
    together: dict[tuple[str, ...], list[Tensor]] = defaultdict(list)
    for tensor in checkpoint.tensors.values():
        together[tuple(part.file for part in tensor.parts)].append(tensor)
    digests: dict[str, bytes] = {}
    for group in sorted(together):
        tensors = together[group]
        found = _digests_in(tensors, checkpoint, files)
        digests.update(zip([t.name for t in tensors], found, strict=True))
    return digests


def _digests_in(
    tensors: Sequence[Tensor], checkpoint: Checkpoint, files: Mapping[str, Path]
) -> tuple[bytes, ...]:
    """Digests of ``tensors``, in order: the table that would copy them, run without an output."""
    sizes = {name: known.size for name, known in checkpoint.identities.items()}
    program = copy_program(tensors, sizes)
    names = [ref.file for ref in program.files]
    fds: list[int] = []
    try:
        for name in names:
            fds.append(open_regular(files[name], name))
            _check_same(fds[-1], name, checkpoint)
        result = _core.run(
            program.table.serialize(),
            fds,
            -1,
            kernels(),
            _core.Control(),
            False,
            tensor_digests=True,
        )
        for fd, name in zip(fds, names, strict=True):
            _check_same(fd, name, checkpoint)
    except _core.Fault as fault:
        raise core_error(fault, names, "") from fault
    finally:
        for fd in fds:
            os.close(fd)
    return result.tensors


def _check_same(fd: int, name: str, checkpoint: Checkpoint) -> None:
    """Mismatch (``file-changed``) if the file is not the one whose header was read."""
    if Identity.of(fd) != checkpoint.identities[name]:
        raise changed(name)
