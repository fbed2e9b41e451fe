"""A URI -> a directory of local files, and how they get there.

- One module per scheme; :data:`SCHEMES` names them, and nothing else knows a scheme.
- ``--base PATH`` and ``--delta PATH`` say where a local copy is: the URI is then checked for
  its form only and not followed.
- A source opens nothing and lists nothing: it turns the keys of ``files`` into paths. Those of
  ``hf:`` lie in the cache of the Hub's client, whether they have been downloaded or not.
- ``fetch`` downloads them; only it and ``hub_client``, which it loads when there is something to
  download, know the network.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import os_error
from vbuild.sources import hub, hub_cache, local
from vbuild.sources.hub import Repository

__all__ = ["SCHEMES", "Repository", "Scheme", "Source", "check_uri", "repository_of", "resolve"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of URI: ``check(rest of the URI, where)`` judges its form.

    ``directory(rest, the manifest's directory)`` is where its files are. ``fetched``: they are
    downloaded to there, so that nothing need be there yet.
    """

    check: Callable[[str, str | None], None]
    directory: Callable[[str, Path], Path]
    fetched: bool = False


def _snapshot(rest: str, manifest_dir: Path) -> Path:
    return hub_cache.snapshot(hub_cache.cache_directory(os.environ), hub.parse(rest))


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "file": Scheme(local.check, local.directory),
        "hf": Scheme(hub.check, _snapshot, fetched=True),
    }
)

_PAGE = re.compile(r"//(?:huggingface|hf)\.co/([^/@]+/[^/@]+)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Source:
    """The local files of one input: ``uri`` as the manifest has it, and where they are.

    ``fetched``: in the cache of a client, which may not have downloaded them yet.
    """

    uri: str
    directory: Path
    fetched: bool = False

    def path(self, key: str) -> Path:
        """The file with the name ``key``, a clean relative path with ``/`` (not looked at)."""
        return self.directory / key


def check_uri(uri: str, where: str | None = None) -> tuple[str, str]:
    """``(scheme, rest)`` of ``uri``; InvalidInput (``bad-uri``, ``unknown-scheme``) otherwise."""
    if not uri.isprintable():
        raise InvalidInput("bad-uri", "a URI has no control characters", where=where, got=uri)
    match = _SCHEME.fullmatch(uri)
    if match is None:
        path = "PATH" if not uri or uri.endswith(":") else uri
        raise InvalidInput(
            "bad-uri",
            "not a URI",
            where=where,
            expected="file:PATH",
            got=repr(uri),
            hint=f"a local directory is written file:{path}",
        )
    scheme, rest = match[1], match[2]
    if scheme not in SCHEMES:
        known = sorted(SCHEMES)
        near = difflib.get_close_matches(scheme.lower(), known, n=1)
        hint = "download it and write its directory as file:PATH"
        if near:
            hint = f"did you mean {near[0]}:?"
        elif page := _PAGE.match(rest):
            hint = f"a repository of the Hub is written hf://{page[1]}"
        raise InvalidInput(
            "unknown-scheme",
            "unknown URI scheme",
            where=where,
            expected=" or ".join(f"{name}:" for name in known),
            got=f"{scheme}:",
            hint=hint,
        )
    SCHEMES[scheme].check(rest, where)
    return scheme, rest


def repository_of(uri: str, override: Path | None = None) -> Repository | None:
    """The repository of the Hub that ``uri`` names, or None if its files are on this machine."""
    scheme, rest = check_uri(uri)
    return hub.parse(rest) if scheme == "hf" and override is None else None


def resolve(
    uri: str, manifest_dir: Path, override: Path | None, *, option: str = "--base"
) -> Source:
    """The local files that ``uri`` stands for.

    A relative path is relative to ``manifest_dir``; ``override`` replaces what the URI says.
    ``option`` is the command's option that sets it, for hints. Raises InvalidInput for a URI
    that is malformed or of an unknown scheme, and for a file where a directory should be;
    NotLocked for a repository without a commit; Unavailable (``source-missing``) where nothing is
    there, unless it is to be downloaded.
    """
    scheme, rest = check_uri(uri)
    known = SCHEMES[scheme]
    if override is None and known.fetched:
        return Source(uri, known.directory(rest, manifest_dir), fetched=True)
    directory = known.directory(rest, manifest_dir) if override is None else override
    try:
        mode = directory.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as e:
        raise Unavailable(
            "source-missing",
            "no such directory",
            where=str(directory),
            hint=f"say where it is with {option} PATH",
        ) from e
    except OSError as e:
        raise os_error(e, str(directory), "read") from e
    if not stat.S_ISDIR(mode):
        raise InvalidInput(
            "not-a-directory",
            "not a directory",
            where=str(directory),
            hint="name the directory, and the files in it as keys of `files`",
        )
    return Source(uri, directory)
