"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.report.units import counted, duration, percent, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_600, "1.00 MB"),
        (13_476_839_424, "13.5 GB"),
        (10**15, "1.00 PB"),
        (10**18, "1000 PB"),
    ],
)
def test_sizes_are_decimal_with_three_digits(count, text):
    assert size(count) == text


@given(st.integers(0, 10**17))
def test_a_size_is_right_to_half_a_per_cent(count):
    number, unit = size(count).split()
    scale = {"B": 0, "kB": 1, "MB": 2, "GB": 3, "TB": 4, "PB": 5}[unit]
    assert abs(float(number) * 1000**scale - count) <= count * 0.005


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (90000, "25 h 00 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_counts_and_per_cents():
    assert (counted(0, "file"), counted(1, "file"), counted(2, "file")) == (
        "0 files",
        "1 file",
        "2 files",
    )
    assert (percent(1, 3), percent(0, 0), percent(7, 5), percent(999, 1000)) == (33, 100, 100, 99)
