"""The inputs by number, as plans know them."""

from __future__ import annotations

__all__ = ["BASE", "DELTA", "TARGET", "WANTED"]

BASE, TARGET = 0, 1
"""While a delta is made."""

DELTA, WANTED = 1, 2
"""While it is applied again, and the result is compared with the target."""
