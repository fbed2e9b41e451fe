"""Running a command and saying what it cost; and where that was.

- Wall time is ours; CPU time and peak memory are what the kernel says of the child (``wait4``).
- A child's peak begins with its parent's, so nothing large is imported in the measuring process.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "Failed",
    "Quantity",
    "Sample",
    "Statistic",
    "busy",
    "machine",
    "measure",
    "summarize",
]

Quantity = Literal["wall", "user", "system", "memory"]
Statistic = Literal["best", "median"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one command: seconds, and bytes of peak memory."""

    wall: float
    user: float
    system: float
    memory: int


class Failed(Exception):
    """A command has ended with a status other than 0."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        super().__init__(f"{' '.join(command)} ended with {status}:\n{output}")
        self.status = status
        self.output = output


def measure(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Sample:
    """Run ``command`` to its end; its output goes to ``log``. Failed if it fails."""
    with log.open("wb") as out:
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), fd) for fd in (1, 2)]
        begin = time.perf_counter()
        pid = os.posix_spawnp(command[0], command, environment, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - begin
    if status:
        raise Failed(command, os.waitstatus_to_exitcode(status), log.read_text(errors="replace"))
    return Sample(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)


def summarize(samples: Sequence[Sample], quantity: Quantity, statistic: Statistic) -> float:
    """The least or the median of a quantity."""
    values: list[float] = [getattr(sample, quantity) for sample in samples]
    return min(values) if statistic == "best" else statistics.median(values)


def busy(seconds: float = 1.0) -> float:
    """The part of all processors, from 0 to 1, that others use while this process waits."""

    def ticks() -> tuple[int, int]:
        first = Path("/proc/stat").read_text().splitlines()[0]
        # user nice system idle iowait irq softirq steal
        values = [int(word) for word in first.split()[1:9]]
        return values[3] + values[4], sum(values)

    idle, total = ticks()
    time.sleep(seconds)
    idle_then, total_then = ticks()
    return 1 - (idle_then - idle) / max(total_then - total, 1)


def machine() -> dict[str, str]:
    """Where the figures come from."""
    processor, flags = platform.machine(), set[str]()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            processor = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
    wanted = {"sha_ni": "SHA-NI", "avx512bw": "AVX-512", "sha2": "SHA2", "asimdhp": "FP16"}
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True)
    return {
        "processor": processor,
        "instructions": ", ".join(name for flag, name in wanted.items() if flag in flags),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "openssl": openssl.stdout.split()[1],
    }
