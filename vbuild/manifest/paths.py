"""Which names a manifest may give to files: keys of ``files``, outputs, ``copy``.

- A name is a relative path with ``/`` that means one and the same file on every system: no
  absolute path, ``..``, ``.``, empty component, backslash, drive letter, colon, control
  character, trailing dot or space, reserved Windows name, component above 255 bytes
  (bad-inputs.md, 8).
- Of two names in one list, neither is the other's directory, and no two differ only in case or
  in Unicode normalization (9, 10).
- An output is never called what the signature leaves out: ``model.sig`` and the four paths that
  a model signature ignores (12; signing.md).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vbuild.errors import InvalidInput

__all__ = [
    "Collision",
    "check_collisions",
    "clean_relative_path",
    "find_collision",
    "output_name_fault",
    "path_fault",
]

MAX_PATH_BYTES = 1024
MAX_COMPONENT_BYTES = 255

_WINDOWS_DEVICE = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
_UNSIGNED = frozenset({"model.sig", ".git", ".gitattributes", ".github", ".gitignore"})
_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def path_fault(text: str) -> str | None:
    """What is wrong with ``text`` as a clean relative path ("has a backslash"), or None."""
    if not text:
        return "is empty"
    if any(unicodedata.category(c) in _CONTROL_CATEGORIES for c in text):
        return "has a control character"
    if "\\" in text:
        return "has a backslash"
    if ":" in text:
        return "has a colon"
    if text.startswith("/"):
        return "is absolute"
    if len(text.encode()) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    for component in text.split("/"):
        fault = _component_fault(component)
        if fault is not None:
            return fault
    return None


def _component_fault(component: str) -> str | None:
    if not component:
        return "has an empty component"
    if component in (".", ".."):
        return f"has a component {component!r}"
    if component[-1] in ". ":
        return "has a component that ends in a dot or a space"
    if len(component.encode()) > MAX_COMPONENT_BYTES:
        return f"has a component longer than {MAX_COMPONENT_BYTES} bytes"
    if _WINDOWS_DEVICE.fullmatch(component):
        return f"has a component that Windows reserves, {component!r}"
    return None


def output_name_fault(text: str) -> str | None:
    """As :func:`path_fault`, and not a name that the signature would leave out."""
    fault = path_fault(text)
    if fault is None and _fold(text.split("/", 1)[0]) in _UNSIGNED:
        return "is a name that no signature covers"
    return fault


def clean_relative_path(text: str, where: str | None = None) -> None:
    """Raise InvalidInput (``bad-path``) unless ``text`` is a clean relative path."""
    fault = path_fault(text)
    if fault is not None:
        raise InvalidInput("bad-path", f"the file name {text!r} {fault}", where=where)


@dataclass(frozen=True, slots=True)
class Collision:
    """Two names that cannot both be files of one directory on every system, and why."""

    first: str
    second: str
    reason: str


def _fold(text: str) -> str:
    """Canonical caseless form (Unicode 3.13, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def find_collision(keys: Iterable[str]) -> Collision | None:
    """Two of ``keys`` that collide, in the order in which they were given, or None.

    The keys are clean. Sorted by folded components, a key stands right before those below it, and
    what shares a directory stands together: so neighbours tell.
    """
    folded = sorted((tuple(_fold(key).split("/")), n, key) for n, key in enumerate(keys))
    for (above, m, one), (below, n, other) in itertools.pairwise(folded):
        same = _common(above, below)
        if same == len(above) < len(below):
            reason = "one of them is a directory of the other's path"
        elif one.split("/")[:same] != other.split("/")[:same]:
            reason = "they differ only in case or normalization"
        elif same == len(above):
            reason = "they are equal"
        else:
            continue
        first, second = (one, other) if m < n else (other, one)
        return Collision(first, second, reason)
    return None


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many components the two have in common from the left."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def check_collisions(keys: Iterable[str], where: str | None = None) -> None:
    """Raise InvalidInput (``path-collision``) where two of ``keys`` collide."""
    collision = find_collision(keys)
    if collision is not None:
        raise InvalidInput(
            "path-collision",
            f"the names {collision.first!r} and {collision.second!r} collide: {collision.reason}",
            where=where,
        )
