"""Running a table over sources in memory, and comparing all that comes of it with the model."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import fields

import pytest

from tests.support.kernel_models import Differing
from tests.support.machine_kernels import differences
from tests.support.machine_model import run_model
from vbuild._core import TAG_KEY_SIZE, Control, Fault, Kernels, Result, run

__all__ = ["KEY", "assert_as_the_model", "control_with", "execute", "opened"]

KEY = hashlib.shake_128(b"a key").digest(TAG_KEY_SIZE)


@contextlib.contextmanager
def opened(contents: Sequence[bytes]) -> Iterator[list[int]]:
    """Descriptors of unnamed files in memory that hold ``contents``."""
    fds = []
    try:
        for content in contents:
            fds.append(os.memfd_create("source"))
            with os.fdopen(os.dup(fds[-1]), "wb") as f:
                f.write(content)
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def control_with(threads: int) -> Control:
    """The control of a run that may use so many threads."""
    control = Control()
    control.lend(threads - 1)
    return control


def execute(
    table: bytes, sources: Sequence[bytes], level: str = "native", threads: int = 1
) -> tuple[Result, bytes]:
    """Run a table; the result and what it wrote."""
    out = os.memfd_create("output")
    try:
        with opened(sources) as fds:
            result = run(
                table,
                fds,
                out,
                Kernels(level),
                control_with(threads),
                tensor_digests=True,
                tag_key=KEY,
            )
        return result, os.pread(out, os.fstat(out).st_size + 1, 0)
    finally:
        os.close(out)


def _compared(result: Result) -> dict[int, Differing]:
    """What a run has found of the tensors that it compared."""
    return {
        i: Differing(**{f.name: getattr(d, f.name) for f in fields(Differing)})
        for i, d in enumerate(result.differences)
        if d is not None
    }


def assert_as_the_model(
    table: bytes, sources: Sequence[bytes], level: str, threads: int = 1
) -> None:
    expected = run_model(table, sources)
    if expected.fault is not None:
        with pytest.raises(Fault) as caught:
            execute(table, sources, level, threads)
        fault = caught.value
        found = (fault.status, fault.segment, fault.index, fault.bits)
        wanted = expected.fault
        assert found == ("nonfinite", wanted.segment, wanted.index, wanted.bits)
        return
    result, output = execute(table, sources, level, threads)
    assert output == expected.output
    assert _compared(result) == {t: differences(d) for t, d in expected.compared.items()}
    assert result.output == hashlib.sha256(expected.output).digest()
    assert result.sources == tuple(expected.sources)
    assert result.tensors == tuple(expected.tensors)
    assert result.regions == tuple(Kernels(level).tag(KEY, data) for data in expected.regions)
