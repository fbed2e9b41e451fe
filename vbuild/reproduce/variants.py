"""The conditions that a rebuild varies: none of them may change a byte (bad-inputs.md, 86, 87).

- Every variant sets every condition, so that what is compared does not depend on the caller's own
  environment.
- Without a choice there are two: one that is as most machines are, and one in which everything is
  different at once. With a choice there is one per other value, each changing a single condition,
  so that a difference names its cause.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from vbuild.errors import InvalidInput

__all__ = ["CONDITIONS", "Variant", "variants"]

CONDITIONS: Final = ("directory", "hashseed", "isa", "jobs", "locale", "timezone", "umask")
"""What can be varied, sorted."""

ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Variant:
    """The conditions of one rebuild.

    ``directory`` is relative and is the child's working directory and where it writes; ``isa`` as
    ``VBUILD_ISA`` takes it.
    """

    name: str
    directory: str
    hashseed: int
    isa: str
    jobs: int
    locale: str
    timezone: str
    umask: int

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """The environment ``own``, with the variant's conditions."""
        return {
            **own,
            "LC_ALL": self.locale,
            "PYTHONHASHSEED": str(self.hashseed),
            "TZ": self.timezone,
            "VBUILD_ISA": self.isa,
        }

    @property
    def conditions(self) -> dict[str, str]:
        """Every condition as text, by name."""
        return {name: self._text(name) for name in CONDITIONS}

    def _text(self, condition: str) -> str:
        value = getattr(self, condition)
        return f"{value:04o}" if condition == "umask" else str(value)


def variants(
    vary: Collection[str], features: Collection[str], processors: int
) -> tuple[Variant, ...]:
    """The rebuilds to make, the one that the others are compared with first.

    ``vary`` has names of :data:`CONDITIONS`, or ``all``; ``features`` is what this processor has.
    InvalidInput (``unknown-condition``) for another name.
    """
    usual = Variant("usual", "usual", 0, "native", processors, "C.UTF-8", "UTC0", 0o022)
    others = _others(usual, features)
    if not vary:
        return usual, _all_at_once(others)
    for name in sorted(vary):
        if name not in (*CONDITIONS, ALL):
            raise InvalidInput(
                "unknown-condition",
                "no such condition to vary",
                where="--vary",
                expected=", ".join((ALL, *CONDITIONS)),
                got=name,
            )
    chosen = CONDITIONS if ALL in vary else sorted(set(vary))
    changed = [(condition, v) for condition in chosen for v in others[condition]]
    return usual, *(replace(v, name=f"{c} {v.conditions[c]}") for c, v in changed)


def _others(usual: Variant, features: Collection[str]) -> dict[str, tuple[Variant, ...]]:
    """``usual`` with another value of each condition; the value that differs most comes first."""
    single = sorted(features) if len(features) > 1 else []  # a single one is what native is
    return {
        "directory": (replace(usual, directory="another place/\u00fcnusual"),),
        "hashseed": (replace(usual, hashseed=20230414),),
        "isa": tuple(replace(usual, isa=isa) for isa in ("portable", *single)),
        "jobs": tuple(replace(usual, jobs=n) for n in (1, 2, 5) if n != usual.jobs),
        # In a Turkish locale the lower case of I is not i; where it is not installed, C is used.
        "locale": tuple(replace(usual, locale=name) for name in ("tr_TR.UTF-8", "C")),
        "timezone": (replace(usual, timezone="<+14>-14"),),  # POSIX: needs no database
        "umask": (replace(usual, umask=0o777),),
    }


def _all_at_once(others: Mapping[str, tuple[Variant, ...]]) -> Variant:
    """The variant in which every condition is another one."""
    return Variant(
        name="other",
        directory=others["directory"][0].directory,
        hashseed=others["hashseed"][0].hashseed,
        isa=others["isa"][0].isa,
        jobs=others["jobs"][0].jobs,
        locale=others["locale"][0].locale,
        timezone=others["timezone"][0].timezone,
        umask=others["umask"][0].umask,
    )
