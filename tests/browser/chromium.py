"""A headless Chromium: the DOM that it makes of a page, and what the page looks like."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np

__all__ = ["available", "dom", "pdf", "read_png", "screenshot"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def available() -> str | None:
    """The program, or None."""
    return shutil.which("chromium")


def _run(page: Path, *flags: str) -> str:
    program = available()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        command = [program, *_FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
        ran = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=120, check=True
        )
    return ran.stdout


def dom(page: Path, *flags: str) -> str:
    """The document after it was loaded, as HTML."""
    return _run(page, "--dump-dom", *flags)


def screenshot(page: Path, width: int, height: int, *, dark: bool = False) -> np.ndarray:
    """What a window of that size shows: height x width x 3 bytes."""
    target = page.with_suffix(".png")
    colours = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    _run(page, f"--screenshot={target}", f"--window-size={width},{height}", *colours)
    return read_png(target.read_bytes())


def pdf(page: Path) -> bytes:
    """The page on paper."""
    target = page.with_suffix(".pdf")
    _run(page, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    return target.read_bytes()


def read_png(data: bytes) -> np.ndarray:
    """The pixels of a PNG of 8 bits a channel, RGB or RGBA; height x width x 3."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, head = 8, b"", b""
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        head = body if kind == b"IHDR" else head
        packed += body if kind == b"IDAT" else b""
        at += 12 + size
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    assert head[8] == 8
    channels = {2: 3, 6: 4}[head[9]]
    pixels = _unfiltered(zlib.decompress(packed), width * channels, channels)
    return np.frombuffer(pixels, np.uint8).reshape(height, width, channels)[:, :, :3]


def _unfiltered(data: bytes, stride: int, channels: int) -> bytes:
    """The filters of PNG undone, line by line."""
    out = bytearray()
    above = bytes(stride)
    for at in range(0, len(data), stride + 1):
        kind, line = data[at], bytearray(data[at + 1 : at + 1 + stride])
        if kind == 2:
            summed = np.frombuffer(line, np.uint8) + np.frombuffer(above, np.uint8)
            line = bytearray(summed.tobytes())
        elif kind:
            _undo(kind, line, above, channels)
        out += line
        above = bytes(line)
    return bytes(out)


def _undo(kind: int, line: bytearray, above: bytes, channels: int) -> None:
    """Filters 1, 3 and 4: from the left, the mean of left and above, Paeth's guess."""
    for i in range(len(line)):
        left = line[i - channels] if i >= channels else 0
        if kind == 1:
            guess = left
        elif kind == 3:
            guess = (left + above[i]) // 2
        else:
            up, corner = above[i], above[i - channels] if i >= channels else 0
            a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            guess = left if a <= b and a <= c else up if b <= c else corner
        line[i] = (line[i] + guess) & 255
