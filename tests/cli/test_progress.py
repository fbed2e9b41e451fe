"""Rate, time left, and when a log gets a line; the clock is the test's."""

from vbuild.cli._progress import Lines, Meter
from vbuild.report.lines import render

GB = 10**9


def test_the_rate_is_that_of_the_last_seconds():
    meter = Meter(100 * GB, 0.0)
    assert meter.text == "0 B of 100 GB"
    for second in range(1, 41):
        meter.at(second * GB, float(second))
    assert (meter.rate, meter.text) == (GB, "40.0 GB of 100 GB, 1.00 GB/s, 1 min 00 s left")
    for second in range(41, 61):
        meter.at((40 + 2 * (second - 40)) * GB, float(second))
    assert meter.rate == 2 * GB


def test_no_work_is_no_division_by_zero():
    meter = Meter(0, 0.0)
    meter.at(0, 0.0)
    assert (meter.percent, meter.rate, meter.text) == (100, 0.0, "0 B of 0 B")


class Log:
    """Lines with a clock that is set by hand."""

    def __init__(self, total):
        self.now = 0.0
        self.lines = []
        self.progress = Lines(lambda text: self.lines.append(render(text)), lambda: self.now)
        self.progress.begin(total)

    def run(self, seconds, rate):
        for _ in range(seconds * 10):
            self.now += 0.1
            self.progress.at(int(self.now * rate))
        return self.lines


def test_a_short_build_writes_no_line():
    assert Log(9 * GB).run(9, GB) == []


def test_a_long_build_writes_a_line_for_every_tenth():
    lines = Log(500 * GB).run(500, GB)
    assert len(lines) == 10
    assert lines[4].startswith(" 50 %  250 GB of 500 GB, 1.00 GB/s, ")


def test_there_is_at_most_a_line_in_ten_seconds():
    assert len(Log(30 * GB).run(30, GB)) in (2, 3)


def test_a_very_slow_build_writes_a_line_a_minute():
    assert len(Log(10**15).run(300, 1000)) in (4, 5)
