"""Globs over tensor names.

- ``*`` stands for any text, dots included, ``?`` for one character; everything else is itself,
  and case counts. There are no brackets: the schema refuses a pattern that has one.
- Matching is greedy from the left, never backtracks over a ``*``, and takes at most the product
  of the two lengths.
"""

from __future__ import annotations

__all__ = ["glob_match"]


def glob_match(pattern: str, name: str) -> bool:
    """Whether ``pattern`` matches all of ``name``."""
    first, *rest = pattern.split("*")
    if not rest:
        return len(first) == len(name) and _fits(first, name, 0)
    last = rest.pop()
    begin, end = len(first), len(name) - len(last)
    if begin > end or not _fits(first, name, 0) or not _fits(last, name, end):
        return False
    for part in rest:
        begin = _find(part, name, begin, end)
        if begin < 0:
            return False
        begin += len(part)
    return True


def _fits(part: str, name: str, at: int) -> bool:
    """Whether ``part``, without ``*``, matches ``name`` at ``at``; the name is long enough."""
    if "?" not in part:
        return name.startswith(part, at)
    return all(p in ("?", c) for p, c in zip(part, name[at : at + len(part)], strict=True))


def _find(part: str, name: str, begin: int, end: int) -> int:
    """The first place in ``name[begin:end]`` where ``part`` fits, or -1."""
    if "?" not in part:
        return name.find(part, begin, end)
    places = range(begin, end - len(part) + 1)
    return next((at for at in places if _fits(part, name, at)), -1)
