"""Rates of the core's kernels on one core, in bytes per second: what a whole build is bound by.

    python -m benchmarks.kernels

- Data are in the second-level cache, so a rate is the kernel's own; the best of many short runs
  counts. SHA-256 by one stream is beside what hashlib, and so OpenSSL, gives.
- Printed as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable

from vbuild._core import TAG_KEY_SIZE, Kernels

STREAMS = (1, 2, 3, 4, 16)
BLOCK = 1 << 16
REPETITIONS = 200


def rate(run: Callable[[], object], size: int) -> float:
    """Bytes per second of the quickest of many runs over ``size`` bytes."""
    least = float("inf")
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - begin)
    return size / least


def rates() -> dict[str, float]:
    """Bytes per second by operation; an addition's are those of its result."""
    own = Kernels()
    block, key = os.urandom(BLOCK), os.urandom(TAG_KEY_SIZE)
    numbers = bytes(2 * BLOCK)
    found = {"hashlib": rate(lambda: hashlib.sha256(block).digest(), BLOCK)}
    for n in STREAMS:
        messages = [block] * n
        found[f"sha256 x {n}"] = rate(lambda m=messages: own.sha256(m), n * BLOCK)
    found["f16 add"] = rate(lambda: own.add(0, numbers, 0, numbers), 2 * BLOCK)
    found["bf16 add"] = rate(lambda: own.add(1, numbers, 1, numbers), 2 * BLOCK)
    found["xor"] = rate(lambda: own.xor(numbers, numbers), 2 * BLOCK)
    found["tag"] = rate(lambda: own.tag(key, block), BLOCK)
    return found


if __name__ == "__main__":
    print(json.dumps(rates()))
