"""vbuild.plan.strides: dimensions that several layouts share, compared with numpy's own strides."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.plan.strides import joint_dims, split_axes
from vbuild.table import RANK


def _positions(extents: Sequence[int], strides: Sequence[int]) -> list[int]:
    """The offset of every element, in C order."""
    found = np.zeros(1, np.int64)
    for extent, stride in zip(extents, strides, strict=True):
        found = (found[:, None] + np.arange(extent, dtype=np.int64) * stride).ravel()
    return found.tolist()


@st.composite
def cut(draw, count):
    """Extents whose product is ``count``, extents of 1 among them."""
    extents = []
    while count > 1:
        extents.append(draw(st.sampled_from([n for n in range(2, count + 1) if count % n == 0])))
        count //= extents[-1]
    return (*extents, *[1] * draw(st.integers(0, 2)))


@st.composite
def layouts(draw):
    count = draw(st.sampled_from([1, 2, 6, 8, 12, 24, 36]))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        extents = draw(cut(count))
        strides = tuple(draw(st.integers(0, 50)) for _ in extents)
        if draw(st.booleans()):
            strides = tuple(prod(extents[i + 1 :]) for i in range(len(extents)))
        found.append((extents, strides))
    return found


@given(layouts())
def test_the_elements_come_in_the_order_of_every_layout(found):
    joint = joint_dims(found)
    if joint is None:
        return
    dims, strides = joint
    assert len(dims) == RANK
    for layout, own in zip(found, strides, strict=True):
        assert _positions(dims, own) == _positions(*layout)


@given(st.sampled_from([1, 2, 6, 8, 24]), st.data())
def test_dense_layouts_are_one_axis_however_they_are_cut(count, data):
    found = []
    for _ in range(3):
        extents = data.draw(cut(count))
        found.append((extents, tuple(prod(extents[i + 1 :]) for i in range(len(extents)))))
    dims, strides = joint_dims(found)
    assert dims == (1, 1, 1, count)
    assert {own[-1] for own in strides} == {0 if count == 1 else 1}


@given(layouts(), st.integers(1, 5), st.integers(0, 5))
def test_columns_stay_the_last_axis(found, columns, step):
    wider = [((*extents, columns), (*strides, step)) for extents, strides in found]
    joint = joint_dims(wider, columns=True)
    if joint is None:
        return
    dims, strides = joint
    assert dims[-1] == columns
    for layout, own in zip(wider, strides, strict=True):
        assert _positions(dims, own) == _positions(*layout)


def test_the_permuted_rows_of_a_head_meet_rows_that_are_not_permuted():
    heads, half, columns = 4, 3, 5
    rows = np.arange(heads * 2 * half * columns).reshape(heads, half, 2, columns)
    permuted = rows.transpose(0, 2, 1, 3)
    joint = joint_dims(
        [
            (permuted.shape, tuple(s // rows.itemsize for s in permuted.strides)),
            ((heads * 2 * half, columns), (columns, 1)),
        ]
    )
    assert joint is not None
    dims, (own, plain) = joint
    assert dims == (heads, 2, half, columns)
    assert _positions(dims, own) == permuted.ravel().tolist()
    assert _positions(dims, plain) == list(range(rows.size))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (((6, 4), (5, 1)), ((4, 6), (7, 1))),  # the cuts do not fit
        (((2, 2, 2, 2, 2), (99, 7, 49, 3, 11)), ((32,), (1,))),  # five axes remain
    ],
)
def test_layouts_that_share_no_four_dimensions_are_told(one, other):
    assert joint_dims([one, other]) is None


def test_columns_that_differ_are_told():
    assert joint_dims([((2, 6), (6, 1)), ((4, 3), (3, 1))], columns=True) is None


@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=4), st.data())
def test_axes_are_split_at_the_asked_for_extents(extents, data):
    """Any way of cutting the same elements gives the same offsets, in the same order."""
    flat = [n for n in extents for n in ([2, n // 2] if n in (4, 6) else [n])]
    steps = data.draw(st.lists(st.integers(0, 50), min_size=len(extents), max_size=len(extents)))
    groups = split_axes((extents, steps), flat)
    assert groups is not None
    assert [prod(n for n, _ in group) for group in groups] == flat
    axes = [axis for group in groups for axis in group]
    assert _positions([n for n, _ in axes], [step for _, step in axes]) == _positions(
        extents, steps
    )


@pytest.mark.parametrize(
    ("extents", "wanted"), [((6,), (2, 4)), ((4,), (3,)), ((2, 3), (3, 2)), ((2,), (2, 2))]
)
def test_axes_that_cannot_be_split_there_are_told(extents, wanted):
    assert split_axes((extents, (1,) * len(extents)), wanted) is None
