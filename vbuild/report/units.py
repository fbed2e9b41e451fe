"""Numbers for people: sizes, durations, counts. Decimal units, as disks and shard sizes have."""

from __future__ import annotations

__all__ = ["counted", "duration", "percent", "size"]

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """``count`` bytes with three digits: ``13.5 GB``; below 1000 exactly: ``712 B``."""
    if count < 999.5:
        return f"{count:.0f} B"
    value, unit = count / 1000, _UNITS[0]
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def duration(seconds: float) -> str:
    """``0.8 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(part: int, whole: int) -> int:
    """``part`` of ``whole`` in per cent, rounded down; 100 of nothing."""
    return 100 if whole <= 0 else min(100, 100 * part // whole)
