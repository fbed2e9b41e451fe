"""Floating-point environments that a caller may be in when it calls a kernel."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

__all__ = ["Environment", "every_environment"]

UPWARD = {"x86_64": 0x800, "aarch64": 0x400000, "s390x": 2}.get(platform.machine())
MXCSR_OFFSET, FLUSH_TO_ZERO = 28, 0x8040  # in glibc's fenv_t for x86-64: FTZ and DAZ

Environment = Callable[[], AbstractContextManager[None]]


def _libm() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("m"))


@contextmanager
def rounding_upward() -> Iterator[None]:
    libm = _libm()
    mode = libm.fegetround()
    assert libm.fesetround(UPWARD) == 0
    try:
        yield
    finally:
        libm.fesetround(mode)


@contextmanager
def flushing_to_zero() -> Iterator[None]:
    libm = _libm()
    before = ctypes.create_string_buffer(64)
    libm.fegetenv(before)
    flushing = ctypes.create_string_buffer(before.raw, 64)
    mxcsr = struct.unpack_from("<I", before.raw, MXCSR_OFFSET)[0]
    struct.pack_into("<I", flushing, MXCSR_OFFSET, mxcsr | FLUSH_TO_ZERO)
    libm.fesetenv(flushing)
    try:
        yield
    finally:
        libm.fesetenv(before)


every_environment = pytest.mark.parametrize(
    "environment",
    [
        pytest.param(
            rounding_upward,
            marks=pytest.mark.skipif(UPWARD is None, reason="FE_UPWARD is not known here"),
        ),
        pytest.param(
            flushing_to_zero,
            marks=pytest.mark.skipif(
                platform.machine() != "x86_64", reason="the layout of fenv_t is x86-64's"
            ),
        ),
    ],
    ids=["rounding-upward", "flushing-to-zero"],
)
