"""The text of SHA256SUMS: what ``sha256sum -c`` and ``actions/attest`` read.

- One line per file: digest, two spaces, name; sorted by code points; the names are relative to
  the directory in which the check is run.
- A name that coreutils would have to escape (backslash, newline) is refused, because other
  readers of the format do not undo the escape.
"""

from __future__ import annotations

from collections.abc import Sequence

from vbuild.attest.names import name_problem
from vbuild.errors import InvalidInput

__all__ = ["format_sums"]


def format_sums(resources: Sequence[tuple[str, str]]) -> bytes:
    """SHA256SUMS for (file name, hex SHA-256) pairs in any order, in UTF-8.

    InvalidInput ``name-unsafe`` for a name that does not fit the format.
    """
    for name, _ in resources:
        problem = name_problem(name)
        if problem is not None:
            raise InvalidInput("name-unsafe", f"the file name {problem}", where=name)
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(resources)).encode("utf-8")
