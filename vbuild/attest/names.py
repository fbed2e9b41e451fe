"""Which names may stand in a signed list of files.

- Relative, ``/`` between components, no empty, ``.`` or ``..`` component: a name means one file
  inside the tree, in one spelling.
- No backslash, control character or lone surrogate: such a name means something else on another
  system, in a terminal or in SHA256SUMS.
- Names are compared exactly, and sorted by code points, which is also the order of their UTF-8
  bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

__all__ = ["IGNORED", "SIGNATURE", "is_under", "name_problem"]

SIGNATURE = "model.sig"
"""The signature's own name in the tree that it signs."""

IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""The default ignore paths of the OMS, which a signature made in a work tree leaves out."""


def name_problem(name: str) -> str | None:
    """What is wrong with the name of a signed file, as the end of a sentence, or None."""
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "is not a clean relative path"
    if "\\" in name:
        return "contains a backslash"
    for character in name:
        category = unicodedata.category(character)
        if category == "Cs":
            return "is not UTF-8"
        if category == "Cc":
            return "contains a control character"
    return None


def is_under(name: str, paths: Collection[str]) -> bool:
    """Whether ``name`` is one of ``paths`` or lies below one of them."""
    parts = name.split("/")
    return any("/".join(parts[: i + 1]) in paths for i in range(len(parts)))
