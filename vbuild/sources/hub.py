"""``hf:``: a repository of the Hugging Face Hub, ``hf://ORG/REPO@COMMIT``.

- Only the form is known here: a local copy stands in for it. The revision may be missing or be
  the name of a branch, because it decides nothing as long as nothing is fetched.
"""

from __future__ import annotations

import re

from vbuild.errors import InvalidInput

__all__ = ["check"]

_REPOSITORY = re.compile(r"//[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)


def check(rest: str, where: str | None = None) -> None:
    """Refuse (``bad-uri``) what is not of the form; ``rest`` is what follows the colon."""
    if _REPOSITORY.fullmatch(rest) is None:
        raise InvalidInput(
            "bad-uri",
            "not a repository of the Hub",
            where=where,
            expected="hf://ORG/REPO@COMMIT",
            got=f"hf:{rest}",
        )
