"""Signing a directory as it lies there.

- Signed is every regular file but ``model.sig`` and the four default ignore paths; what these
  leave out is reported. A link, a pipe or an unsafe name is refused, not skipped.
- The tree is listed before and after hashing and must be the same.
- Nothing is written here: the caller publishes the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vbuild.attest.keys import Signer
from vbuild.attest.oms import sign_model
from vbuild.attest.tree import check_unchanged, left_over_hint, list_tree, path_of, signable
from vbuild.attest.verify import HashFiles

__all__ = ["SignedTree", "sign_tree"]


@dataclass(frozen=True, slots=True)
class SignedTree:
    """The bytes of ``model.sig``, the (name, digest) pairs in it, the files that it leaves out,
    and a hint if a download left something behind that is now signed or left out."""

    bundle: bytes
    resources: tuple[tuple[str, str], ...]
    uncovered: tuple[str, ...]
    hint: str | None


def sign_tree(directory: Path, name: str, signer: Signer, *, hash_files: HashFiles) -> SignedTree:
    """Sign the files of ``directory`` as the model ``name``.

    InvalidInput ``not-a-file``, ``name-unsafe``, ``nothing-to-sign``, ``not-a-directory``;
    Mismatch ``file-changed``; Unavailable.
    """
    tree = list_tree(directory)
    names, uncovered = signable(directory, tree)
    digests = hash_files([path_of(directory, file) for file in names])
    check_unchanged(directory, tree)
    resources = tuple(zip(names, digests, strict=True))
    return SignedTree(
        bundle=sign_model(name, resources, signer),
        resources=resources,
        uncovered=tuple(uncovered),
        hint=left_over_hint([*names, *uncovered]),
    )
