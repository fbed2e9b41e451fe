"""What an output's files are, per container: names, headers, and the tensors in their order.

- A container is a class with :meth:`Container.contents`; to add one, add its module.
- It gets the recipes as the rules made them, and may give its files other names, types and orders
  of rows; the values are the rules' own.
- Pure, as all of planning is: what a header holds beside the tensors is given to the container when
  it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vbuild.formats import Checkpoint
from vbuild.plan.recipe import Recipe

__all__ = ["Container", "Contents", "WeightFile"]


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file to be written: its name, the bytes before its tensors, and these in order.

    Behind each tensor are zeros up to a multiple of ``alignment`` bytes of the file.
    """

    name: str
    header: bytes
    recipes: tuple[Recipe, ...]
    alignment: int = 1

    def padding(self, recipe: Recipe) -> int:
        """Zeros behind a tensor; the header is a multiple of ``alignment``."""
        return -recipe.nbytes % self.alignment

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + sum(r.nbytes + self.padding(r) for r in self.recipes)


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of an output; ``others`` (by name) are not weights; ``warnings`` for the user."""

    files: tuple[WeightFile, ...]
    others: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Container(Protocol):
    """One output of a build. ``allow_nonfinite``: see :class:`vbuild.table.Table`."""

    @property
    def allow_nonfinite(self) -> bool:
        """Whether results of arithmetic may be infinite or NaN."""

    def contents(self, recipes: Mapping[str, Recipe], base: Checkpoint) -> Contents:
        """The files for ``recipes`` (all output tensors, by name); ``base`` is the base's cut."""
