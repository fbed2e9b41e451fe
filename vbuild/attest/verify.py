"""Whether a directory is what trusted keys signed: the verdict, file by file.

- A difference is a result. Every signed file is OK, FAILED (other content, or not a regular
  file) or MISSING, and everything else in the tree is EXTRA, also under ``.git`` and the other
  ignore paths that signatures leave out, unless the caller allows that path by name.
- The signature is judged first; without a good one no file is looked at.
- Names compare exactly. No link is followed; the tree is listed before and after hashing and
  must be the same (bad-inputs.md, 21, 22, 24).
- What cannot be read is an exception (``Unavailable``), and so is a request without an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from vbuild.attest.bundle import MAX_BUNDLE
from vbuild.attest.keys import PublicKey
from vbuild.attest.names import SIGNATURE, is_under
from vbuild.attest.threshold import Agreement, agree, check_request
from vbuild.attest.tree import Tree, check_unchanged, left_over_hint, list_tree, path_of
from vbuild.errors import InvalidInput, Mismatch
from vbuild.files import read_small

__all__ = ["FileVerdict", "HashFiles", "Status", "TreeVerdict", "verify_tree"]

Status: TypeAlias = Literal["OK", "FAILED", "MISSING", "EXTRA"]

HashFiles: TypeAlias = Callable[[Sequence[Path]], Sequence[str]]
"""Hex SHA-256 digests of regular files, in the order of the paths."""


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """One name: ``expected`` is the signed digest, ``actual`` the file's, or what it is instead
    of a regular file; each None where there is none."""

    name: str
    status: Status
    expected: str | None
    actual: str | None


@dataclass(frozen=True, slots=True)
class TreeVerdict:
    """The answer about a directory.

    ``name`` is the signer's name for the model and ``fingerprints`` the trusted keys that vouch
    for it; ``not_covered`` are files that no signature covers and that the caller allowed;
    ``refused`` says why other bundles count for nothing, ``problem`` why there is no list of
    files. Names come from strangers: escape them.
    """

    files: tuple[FileVerdict, ...]
    ok: bool
    name: str | None = None
    root: str | None = None
    fingerprints: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()
    refused: tuple[InvalidInput | Mismatch, ...] = ()
    hint: str | None = None
    problem: InvalidInput | Mismatch | None = None

    @property
    def fingerprint(self) -> str | None:
        """The first trusted key that vouches for the model."""
        return self.fingerprints[0] if self.fingerprints else None


def verify_tree(
    directory: Path,
    trusted: Sequence[PublicKey],
    *,
    hash_files: HashFiles,
    attestations: Sequence[tuple[str, bytes]] = (),
    threshold: int = 1,
    expected_name: str | None = None,
    allow_ignored: Collection[str] = (),
) -> TreeVerdict:
    """Compare ``directory`` with what its ``model.sig`` and ``attestations`` vouch for.

    ``attestations`` are further OMS bundles as (label, content); at least ``threshold`` different
    keys of ``trusted`` must agree. ``expected_name`` refuses a signature made for another model
    (80). ``allow_ignored`` are paths that signatures may leave out.

    InvalidInput ``no-trusted-key``, ``threshold-invalid``, ``not-a-directory``; Mismatch
    ``file-changed``; Unavailable.
    """
    check_request(trusted, threshold)
    tree = list_tree(directory)
    try:
        agreement = agree(
            _bundles(directory, tree, attestations),
            trusted,
            threshold=threshold,
            allow_ignored=allow_ignored,
        )
        _check_name(agreement, expected_name, directory)
    except (InvalidInput, Mismatch) as problem:
        return TreeVerdict(files=(), ok=False, problem=problem)
    return _compared(directory, tree, agreement, hash_files, allow_ignored)


def _compared(
    directory: Path,
    tree: Tree,
    agreement: Agreement,
    hash_files: HashFiles,
    allow_ignored: Collection[str],
) -> TreeVerdict:
    resources = agreement.model.resources
    present = [name for name in resources if name in tree.files]
    digests = hash_files([path_of(directory, name) for name in present])
    check_unchanged(directory, tree)
    actual = dict(zip(present, digests, strict=True))
    skipped = [path for path in agreement.model.ignored if path in allow_ignored]
    strangers: list[str] = []
    not_covered: list[str] = []
    for name in sorted((*tree.files, *tree.irregular)):
        if name not in resources and name != SIGNATURE:
            (not_covered if is_under(name, skipped) else strangers).append(name)
    files = [_judged(name, digest, actual, tree) for name, digest in resources.items()]
    files += [FileVerdict(name, "EXTRA", None, tree.irregular.get(name)) for name in strangers]
    return TreeVerdict(
        files=tuple(sorted(files, key=lambda file: file.name)),
        ok=all(file.status == "OK" for file in files),
        name=agreement.model.name,
        root=agreement.model.root,
        fingerprints=agreement.fingerprints,
        not_covered=tuple(not_covered),
        refused=agreement.refused,
        hint=left_over_hint(strangers),
    )


def _bundles(
    directory: Path, tree: Tree, attestations: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    where = f"{directory}/{SIGNATURE}"
    if SIGNATURE in tree.irregular or SIGNATURE in tree.directories:
        raise InvalidInput("not-a-file", "not a regular file", where=where)
    if SIGNATURE in tree.files:
        content = read_small(directory / SIGNATURE, where, MAX_BUNDLE)
        return [(where, content), *attestations]
    if not attestations:
        raise Mismatch(
            "no-signature",
            "the directory is not signed",
            where=str(directory),
            expected=SIGNATURE,
            hint="if it is yours, sign it with vbuild sign",
        )
    return list(attestations)


def _check_name(agreement: Agreement, expected: str | None, directory: Path) -> None:
    if expected is not None and agreement.model.name != expected:
        raise Mismatch(
            "signed-for-another",
            "the signature was made for another model",
            where=f"{directory}/{SIGNATURE}",
            expected=expected,
            got=agreement.model.name,
        )


def _judged(name: str, expected: str, actual: dict[str, str], tree: Tree) -> FileVerdict:
    if name in actual:
        status: Status = "OK" if actual[name] == expected else "FAILED"
        return FileVerdict(name, status, expected, actual[name])
    if name in tree.irregular:
        return FileVerdict(name, "FAILED", expected, tree.irregular[name])
    if name in tree.directories:
        return FileVerdict(name, "FAILED", expected, "a directory")
    return FileVerdict(name, "MISSING", expected, None)
