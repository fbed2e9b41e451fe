"""What ``vbuild lock`` asks the Hub about an input.

- The commit, and size and digest of every file, come from the Hub's listing. Only files that are
  not in LFS, for which it has no SHA-256, are downloaded, compared with Git's own digest, and
  hashed as files of this machine are.
- Where both kinds of weights are there, safetensors are preferred (``discover.py``).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import SMALL_FILE_LIMIT, read_small
from vbuild.manifest.discover import Place, companions, discover
from vbuild.manifest.outline import KeyPath
from vbuild.manifest.schema import Base, Delta, Manifest
from vbuild.sources import Repository
from vbuild.sources.fetch import fetch_files, list_repository
from vbuild.sources.wanted import Listing, Wanted

__all__ = ["Found", "FoundFile", "look_up"]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file: its ``sha256`` as the Hub has it, or the ``path`` that it was downloaded to."""

    size: int
    sha256: str | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class Found:
    """The files of an input, by name, in the repository at its commit."""

    repository: Repository
    files: Mapping[str, FoundFile]


def look_up(manifest: Manifest, path: KeyPath, side: Base | Delta, repository: Repository) -> Found:
    """The files of the input ``side``, whose table is ``path``: those that it lists, or needs.

    Unavailable where the Hub does not answer or lacks one; InvalidInput as ``discover``.
    """
    listing = list_repository(repository)
    names = sorted(side.files)
    if not names:
        place = Place(
            listing.repository.uri,
            listing.files.keys(),
            lambda name: read_small(_downloaded(listing, [name])[name], name),
        )
        names = discover(place, side.format, *companions(manifest, path))
    small = [name for name in names if _listed(listing, name).sha256 is None]
    paths = _downloaded(listing, small)
    files = {}
    for name in names:
        known = listing.files[name]
        files[name] = FoundFile(known.size, known.sha256, paths.get(name))
    return Found(listing.repository, files)


def _listed(listing: Listing, name: str) -> Wanted:
    """The file called ``name``; Unavailable (``hub-no-file``) where there is none."""
    file = listing.files.get(name)
    uri = listing.repository.uri
    if file is None:
        near = difflib.get_close_matches(name, sorted(listing.files), n=1)
        raise Unavailable(
            "hub-no-file",
            "the repository has no such file at this revision",
            where=f"{uri}/{name}",
            hint=f"did you mean {near[0]}?" if near else "list the files that it has",
        )
    return Wanted(listing.repository, name, f"{uri}/{name}", file.size, file.sha256, file.git_sha1)


def _downloaded(listing: Listing, names: list[str]) -> dict[str, Path]:
    """Where the small files ``names`` are now; a damaged one of the cache is replaced."""
    wanted = [_listed(listing, name) for name in names]
    for w in wanted:
        if w.size is not None and w.size > SMALL_FILE_LIMIT:
            raise InvalidInput(
                "file-too-large",
                "the file is too large to be what it should be",
                where=w.label,
                expected=f"at most {SMALL_FILE_LIMIT} bytes",
                got=f"{w.size} bytes",
            )
    return {f.wanted.name: f.path for f in fetch_files(wanted, refetch=True)}
