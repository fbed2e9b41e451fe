"""Where the Hub's client keeps what it has downloaded, found without loading the client.

- The place is the client's own, from the same variables: ``HF_HUB_CACHE``, ``HF_HOME``,
  ``XDG_CACHE_HOME``. So files that other programs have fetched are there, and a build whose files
  are all there loads no client and asks nobody.
- ``models--ORG--REPO/snapshots/COMMIT/NAME`` is a file, or a link to ``../../blobs/ETAG``.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path

from vbuild.sources.hub import Repository

__all__ = ["blobs", "cache_directory", "snapshot", "unfinished"]


def cache_directory(environment: Mapping[str, str]) -> Path:
    """The client's cache directory (it need not exist)."""
    home = environment.get(
        "HF_HOME",
        os.path.join(environment.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"),  # noqa: PTH118
    )
    default = os.path.join(_expanded(home), "hub")  # noqa: PTH118
    legacy = environment.get("HUGGINGFACE_HUB_CACHE", default)
    return Path(_expanded(environment.get("HF_HUB_CACHE", legacy)))


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


def snapshot(cache: Path, repository: Repository, where: str | None = None) -> Path:
    """The directory with the repository's files at its commit; NotLocked if it names none."""
    return _folder(cache, repository) / "snapshots" / repository.commit(where)


def blobs(cache: Path, repository: Repository) -> Path:
    """The directory with the contents of all its commits, each named by its ETag."""
    return _folder(cache, repository) / "blobs"


def unfinished(blob: Path) -> Path:
    """Where ``blob`` is as long as not all of it has come."""
    return blob.with_name(f"{blob.name}.vbuild.incomplete")


def _folder(cache: Path, repository: Repository) -> Path:
    return cache / f"models--{repository.id.replace('/', '--')}"
