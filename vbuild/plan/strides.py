"""Dimensions that several layouts share.

- A layout is extents and strides, in C order of the elements; what it addresses is no matter.
- Axes are cut where another layout's are finer, and merged where every layout allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from vbuild.table import RANK

__all__ = ["Layout", "joint_dims", "split_axes"]

Layout = tuple[Sequence[int], Sequence[int]]
"""Extents, and the stride of each in any unit."""


def joint_dims(
    layouts: Sequence[Layout], *, columns: bool = False
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]] | None:
    """RANK dimensions that all ``layouts`` share, and each one's strides over them.

    The layouts have equally many elements (at least 1) in C order, but their axes may be cut
    differently. Axes are split where another layout's are finer and merged where every one allows
    it; None where the cuts do not fit, or more than RANK axes remain. With ``columns`` the last
    axis, which then all have, stays as it is.
    """
    last: list[_Axis] = []
    if columns:
        extents = {extents[-1] for extents, _ in layouts}
        if len(extents) > 1:
            return None
        last = [(extents.pop(), tuple(steps[-1] for _, steps in layouts))]
        layouts = [(extents[:-1], steps[:-1]) for extents, steps in layouts]
    axes = _refined([_simplified(layout) for layout in layouts])
    if axes is None:
        return None
    axes = [*_merged(axes), *last]
    if len(axes) > RANK:
        return None
    padding = RANK - len(axes)
    dims = (1,) * padding + tuple(extent for extent, _ in axes)
    per_layout = tuple(
        (0,) * padding + tuple(steps[i] for _, steps in axes) for i in range(len(layouts))
    )
    return dims, per_layout


def split_axes(layout: Layout, extents: Sequence[int]) -> list[tuple[tuple[int, int], ...]] | None:
    """The axes, (extent, stride) and outermost first, that each of ``extents`` is made of.

    An axis of ``layout`` that reaches over several of the extents is split; None where the cuts do
    not fit. Axes of extent 1 are left out.
    """
    rest = [axis for axis in zip(*layout, strict=True) if axis[0] > 1]
    groups: list[tuple[tuple[int, int], ...]] = []
    for wanted in reversed(extents):
        group: list[tuple[int, int]] = []
        while wanted > 1:
            if not rest:
                return None
            extent, step = rest.pop()
            taken = min(extent, wanted)
            if extent % taken or wanted % taken:
                return None
            if extent > taken:
                rest.append((extent // taken, step * taken))
            group.append((taken, step))
            wanted //= taken
        groups.append(tuple(group[::-1]))
    return None if rest else groups[::-1]


_Axis = tuple[int, tuple[int, ...]]  # an extent, and every layout's stride


def _simplified(layout: Layout) -> Layout:
    """The same elements with as few axes as possible, which need the fewest cuts."""
    axes = _merged([(extent, (step,)) for extent, step in zip(*layout, strict=True) if extent > 1])
    return [extent for extent, _ in axes], [steps[0] for _, steps in axes]


def _refined(layouts: Sequence[Layout]) -> list[_Axis] | None:
    """The axes, outermost first, that all layouts' axes are made of; None where there are none."""
    cuts = sorted({prod(extents[i:]) for extents, _ in layouts for i in range(len(extents) + 1)})
    if any(outer % inner for inner, outer in pairwise(cuts)):
        return None
    steps = [_steps(layout, cuts) for layout in layouts]
    axes = [
        (outer // inner, tuple(own[i] for own in steps))
        for i, (inner, outer) in enumerate(pairwise(cuts))
    ]
    return axes[::-1]


def _steps(layout: Layout, cuts: Sequence[int]) -> list[int]:
    """A layout's stride over the axis that begins at each cut but the last, innermost first."""
    steps = []
    inner = 1
    for extent, stride in zip(reversed(layout[0]), reversed(layout[1]), strict=True):
        steps += [stride * (cut // inner) for cut in cuts if inner <= cut < inner * extent]
        inner *= extent
    return steps


def _merged(axes: Sequence[_Axis]) -> list[_Axis]:
    merged: list[_Axis] = []
    for extent, steps in axes:
        if merged and merged[-1][1] == tuple(step * extent for step in steps):
            merged[-1] = (merged[-1][0] * extent, steps)
        else:
            merged.append((extent, steps))
    return merged
