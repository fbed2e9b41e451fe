"""``vbuild inspect``: the tensors of a file or a directory, without loading any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuild import _core
from vbuild.digest import core_error, hash_files, kernels, weights_digest
from vbuild.errors import InvalidInput
from vbuild.files import Identity, changed, open_regular, os_error
from vbuild.formats import Checkpoint, open_checkpoint
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
    checkpoint = open_checkpoint(files, str(path))
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
        files = {p.name: p for p in sorted(path.iterdir()) if p.is_file()}
    except OSError as e:
        raise os_error(e, str(path), "read") from e
    if not files:
        raise InvalidInput("no-weights", "the directory has no files", where=str(path))
    return files


def _tensor_digests(checkpoint: Checkpoint, files: Mapping[str, Path]) -> dict[str, bytes]:
    """Digest of every tensor: the tables that would copy them, run without an output."""
    own = kernels()
    digests: dict[str, bytes] = {}
    for name in checkpoint.files:
        tensors = [t for t in checkpoint.tensors.values() if t.file == name]
        fd = open_regular(files[name], name)
        try:
            identity = Identity.of(fd)
            table = copy_program(tensors, identity.size)
            result = _core.run(
                table.serialize(), [fd], -1, own, _core.Control(), False, tensor_digests=True
            )
            if identity not in (checkpoint.identities[name],) or Identity.of(fd) != identity:
                raise changed(name)
        except _core.Fault as fault:
            raise core_error(fault, [name], "") from fault
        finally:
            os.close(fd)
        digests.update(zip([t.name for t in tensors], result.tensors, strict=True))
    return digests
