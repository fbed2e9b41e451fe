"""How far a build is: a bar on a terminal, a line now and then elsewhere.

- The rate is that of the last ten seconds, and the time left follows from it.
- In a log there is a line for every tenth of the work, but at most one in ten seconds, and one a
  minute at least, so that nobody takes a slow build for a hung one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TextIO

from vbuild.report.lines import Line, line
from vbuild.report.units import duration, percent, size

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Bar", "Lines", "Meter"]

WINDOW: Final = 10.0
"""Seconds that the rate is taken over."""

QUIET: Final = 10.0
"""Seconds between two lines, at least."""

REFRESH: Final = 0.1
"""Seconds between two pictures of the bar, at least."""

HEARTBEAT: Final = 60.0
"""Seconds after which a line comes whatever has been done."""

Clock = Callable[[], float]


class Meter:
    """Bytes done of a total, and how fast it goes; times are seconds of any monotonic clock."""

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self.done = 0
        self._seen: deque[tuple[float, int]] = deque([(now, 0)])

    def at(self, done: int, now: float) -> None:
        """``done`` bytes are done."""
        self.done = done
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()

    @property
    def percent(self) -> int:
        """How much is done."""
        return percent(self.done, self.total)

    @property
    def rate(self) -> float:
        """Bytes a second; 0 if nothing is known yet."""
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first else 0.0

    @property
    def text(self) -> str:
        """``8.10 GB of 26.9 GB, 1.20 GB/s, 15.7 s left``."""
        text = f"{size(self.done)} of {size(self.total)}"
        rate = self.rate
        if rate <= 0:
            return text
        return f"{text}, {size(rate)}/s, {duration((self.total - self.done) / rate)} left"


class Lines:
    """Progress for a log."""

    def __init__(self, write: Callable[[Line], None], clock: Clock = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._meter = Meter(0, 0)
        self._last = (0.0, 0)

    def begin(self, total: int) -> None:
        """Start counting."""
        now = self._clock()
        self._meter = Meter(total, now)
        self._last = (now, 0)

    def at(self, done: int) -> None:
        """Write a line if it is time for one."""
        now = self._clock()
        self._meter.at(done, now)
        waited, advanced = now - self._last[0], self._meter.percent - self._last[1]
        if waited >= HEARTBEAT or (waited >= QUIET and advanced >= 10):
            self._last = (now, self._meter.percent)
            self._write(line(f"{self._meter.percent:3} %  {self._meter.text}"))

    def end(self) -> None:
        """Nothing: the result follows."""


class Bar:
    """Progress for a terminal; it disappears when the work has ended."""

    def __init__(self, stream: TextIO, color: bool, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._color = color
        self._clock = clock
        self._meter = Meter(0, 0)
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def begin(self, total: int) -> None:
        """Show the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._meter = Meter(total, self._clock())
        console = Console(
            file=self._stream,
            force_terminal=True,
            color_system="standard" if self._color else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._bar = Progress(
            BarColumn(24, style="dim", complete_style="green", finished_style="green"),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            auto_refresh=False,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._meter.text, total=max(total, 1))
        self._bar.refresh()

    def at(self, done: int) -> None:
        """Move the bar."""
        now = self._clock()
        self._meter.at(done, now)
        if self._bar is None or self._task is None or now - self._shown < REFRESH:
            return
        self._shown = now
        text = self._meter.text
        self._bar.update(self._task, completed=done, description=text, refresh=True)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
