"""A URI -> a directory of local files.

- One module per scheme; :data:`SCHEMES` names them, and nothing else knows a scheme.
- ``--base PATH`` and ``--delta PATH`` say where a local copy is: the URI is then checked for
  its form only and not followed.
- A source opens nothing and lists nothing: it turns the keys of ``files`` into paths.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import os_error
from vbuild.sources import hub, local

__all__ = ["SCHEMES", "Scheme", "Source", "check_uri", "resolve"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A kind of URI: ``check(rest of the URI, where)`` judges its form.

    ``directory(rest, the manifest's directory)`` is where its files are; None where the scheme
    may stand in a manifest, but only a local copy can be used yet.
    """

    check: Callable[[str, str | None], None]
    directory: Callable[[str, Path], Path] | None


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {"file": Scheme(local.check, local.directory), "hf": Scheme(hub.check, None)}
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Source:
    """The local files of one input: ``uri`` as the manifest has it, and where they are."""

    uri: str
    directory: Path

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
        raise InvalidInput(
            "unknown-scheme",
            "unknown URI scheme",
            where=where,
            expected=" or ".join(f"{name}:" for name in known),
            got=f"{scheme}:",
            hint=f"did you mean {near[0]}:?"
            if near
            else "download it and write its directory as file:PATH",
        )
    SCHEMES[scheme].check(rest, where)
    return scheme, rest


def resolve(
    uri: str, manifest_dir: Path, override: Path | None, *, option: str = "--base"
) -> Source:
    """The local files that ``uri`` stands for.

    A relative path is relative to ``manifest_dir``; ``override`` replaces what the URI says.
    ``option`` is the command's option that sets it, for hints. Raises InvalidInput for a URI
    that is malformed, of an unknown scheme, or of one that cannot be fetched yet, and for a file
    where a directory should be; Unavailable (``source-missing``) where nothing is there.
    """
    scheme, rest = check_uri(uri)
    known = SCHEMES[scheme]
    if override is not None:
        directory = override
    elif known.directory is not None:
        directory = known.directory(rest, manifest_dir)
    else:
        raise InvalidInput(
            "not-supported-yet",
            f"only local inputs are supported yet, not {scheme}:",
            where=uri,
            hint=f"download it and name its directory with {option} PATH",
        )
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
