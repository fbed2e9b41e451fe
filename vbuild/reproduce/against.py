"""A model that is there already, to compare rebuilds with.

- A directory counts by its own bytes, which are hashed, and by the ``SHA256SUMS`` beside it, if
  there is one; a file is read as such a list.
- Its signature is not compared, since a rebuild is not signed; ``vbuild verify`` judges it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from vbuild.attest.names import SIGNATURE, name_problem
from vbuild.errors import InvalidInput, Unavailable
from vbuild.files import read_small
from vbuild.reproduce.compare import Observation, observe_model

__all__ = ["parse_sums", "reference"]

SUMS: Final = "SHA256SUMS"
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *]([^\0]+)")


def reference(path: Path) -> tuple[Observation, ...]:
    """What ``path``, a model directory or a SHA256SUMS file, says that the files are.

    Unavailable where it is missing, InvalidInput where it is neither.
    """
    if not os.path.lexists(path):
        raise Unavailable("file-missing", "no such model directory or SHA256SUMS", where=str(path))
    if not path.is_dir():
        return (_listed(path),)
    found = observe_model(path, str(path))
    named = path if path.name not in ("", "..") else Path(os.path.abspath(path))
    sums = named.with_name(f"{named.name}.attest") / SUMS
    return (found, _listed(sums)) if sums.is_file() else (found,)


def _listed(path: Path) -> Observation:
    return Observation(str(path), parse_sums(read_small(path, str(path)), str(path)))


def parse_sums(data: bytes, where: str) -> dict[str, str]:
    """The digests of a SHA256SUMS file by name, without ``model.sig``'s.

    The lines are ``sha256sum``'s: digest, a space, a space or an asterisk, name. InvalidInput
    (``sums-malformed``) for anything else, and for a name that is unsafe or occurs twice.
    """
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as e:
        raise InvalidInput("sums-malformed", "the list is not UTF-8", where=where) from e
    sums: dict[str, str] = {}
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise _malformed("not a line of sha256sum", where, number)
        digest, name = match.groups()
        problem = name_problem(name)
        if problem is not None or name in sums:
            raise _malformed(f"the file name {problem or 'occurs twice'}", where, number)
        sums[name] = digest
    if not sums:
        raise InvalidInput("sums-malformed", "the list is empty", where=where)
    sums.pop(SIGNATURE, None)
    return sums


def _malformed(what: str, where: str, line: int) -> InvalidInput:
    return InvalidInput(
        "sums-malformed",
        what,
        where=f"{where}:{line}",
        expected="64 hexadecimal digits, two spaces and a name",
    )
