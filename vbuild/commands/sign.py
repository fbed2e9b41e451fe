"""``vbuild sign``: sign a model directory that is already there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuild.attest.names import SIGNATURE
from vbuild.attest.sign import sign_tree
from vbuild.commands.signing import SigningKey, signing_key
from vbuild.digest import hash_files
from vbuild.errors import InvalidInput
from vbuild.files import os_error, write_atomic

__all__ = ["Signed", "sign"]


@dataclass(frozen=True, slots=True)
class Signed:
    """A new ``model.sig``: the (name, digest) pairs in it, and what it does not cover."""

    path: Path
    name: str
    files: tuple[tuple[str, str], ...]
    uncovered: tuple[str, ...]
    hint: str | None
    key: SigningKey


def sign(
    directory: Path,
    *,
    name: str | None = None,
    key: Path | None = None,
    force: bool = False,
    ask_passphrase: Callable[[str], bytes] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Signed:
    """Write ``model.sig`` into ``directory``, for the model ``name`` (default: the directory's).

    InvalidInput (``file-exists``) where one is there, unless ``force``.
    """
    path = directory / SIGNATURE
    if os.path.lexists(path) and not force:
        raise InvalidInput(
            "file-exists",
            "the directory is signed already",
            where=str(path),
            hint="replace the signature with --force",
        )
    signer = signing_key(key, environment, ask_passphrase)
    subject = name or Path(os.path.abspath(directory)).name
    signed = sign_tree(directory, subject, signer.key, hash_files=hash_files)
    try:
        write_atomic(path, signed.bundle)
    except OSError as e:
        raise os_error(e, str(path), "write") from e
    return Signed(path, subject, signed.resources, signed.uncovered, signed.hint, signer)
