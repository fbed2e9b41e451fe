"""A file of a repository that is wanted, and what a repository says that it has.

- What is wanted is known by its SHA-256, the manifest's pin; or, while a manifest is being locked,
  by what the Hub's listing says of a small file: Git's SHA-1 of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuild.digest import hash_files
from vbuild.files import read_small
from vbuild.sources.hub import Repository

__all__ = ["Listing", "RemoteFile", "Wanted", "git_blob_sha1"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the Hub lists it: the SHA-256 of what is in LFS, else the SHA-1 of Git's blob."""

    size: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository has at a commit, by name."""

    repository: Repository
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have in the cache; ``repository`` is at a commit, ``label`` names it in errors.

    One of ``sha256`` and ``git_sha1`` says what it must be. ``size`` is None if nobody says it.
    """

    repository: Repository
    name: str
    label: str
    size: int | None
    sha256: str | None
    git_sha1: str | None = None

    @property
    def expected(self) -> str:
        """The digest that it must have."""
        return self.sha256 or f"git {self.git_sha1}"

    def actual(self, path: Path, sha256: str | None = None) -> str:
        """The same digest of the file ``path``, whose ``sha256`` may be known."""
        if self.sha256 is not None:
            return sha256 or hash_files([path], [self.label])[0]
        return f"git {git_blob_sha1(read_small(path, self.label))}"


def git_blob_sha1(data: bytes) -> str:
    """What Git calls a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
