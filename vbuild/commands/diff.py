"""``vbuild diff``: what differs between two checkpoints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vbuild.build.weigh import weigh
from vbuild.diff import Comparison, Side, compare, open_side
from vbuild.diff.side import inputs
from vbuild.progress import Progress

__all__ = ["Differed", "diff"]


@dataclass(frozen=True, slots=True)
class Differed:
    """Two checkpoints and what differs; ``weights`` are their digests, where asked for."""

    a: Side
    b: Side
    comparison: Comparison
    weights: tuple[str, str] | None
    seconds: float

    @property
    def same(self) -> bool:
        """Whether the two are the same weights."""
        return self.comparison.same


def diff(
    a: Path,
    b: Path,
    *,
    weights_digest: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Differed:
    """Compare the weights of two files or directories, each of any format and sharding.

    ``weights_digest`` adds the weights digest of both, in a further pass. A difference is a result.
    Errors: those of the formats room; Unavailable for a missing file, Mismatch for one that changes
    while it is read, Interrupted.
    """
    start = time.monotonic()
    sides = open_side(a, "a"), open_side(b, "b")
    comparison = compare(*sides, jobs=jobs, progress=progress)
    weights = None
    if weights_digest:
        files = inputs(*sides)
        one, other = (
            weigh(side.checkpoint, files, group, jobs=jobs, progress=progress).weights
            for group, side in enumerate(sides)
        )
        weights = one, other
    return Differed(*sides, comparison, weights, time.monotonic() - start)
