"""Building every variant, one after the other, in a directory that does not outlive it.

- Only one build is on the disk at a time: it is hashed, then removed.
- Whatever happens, also Ctrl-C, the children are stopped first and the directory is removed then.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vbuild.build import attest_directory
from vbuild.errors import Interrupted
from vbuild.files import os_error
from vbuild.reproduce.children import Request, run_child
from vbuild.reproduce.compare import Observation, observe_build
from vbuild.reproduce.variants import Variant

__all__ = ["rebuild_all"]


def rebuild_all(
    request: Request,
    variants: Sequence[Variant],
    work: Path,
    on_build: Callable[[Variant], None],
) -> tuple[Observation, ...]:
    """What each of ``variants`` gives.

    ``work`` is where the temporary directory goes; ``on_build`` is called before each build. Raises
    the error of the first child that fails, Unavailable where nothing can be written, Interrupted.
    """
    made = []
    with _temporary(work) as top:
        try:
            for variant in variants:
                on_build(variant)
                made.append(_rebuild(request, variant, top))
        except KeyboardInterrupt as e:
            raise Interrupted("interrupted", "interrupted; nothing is kept") from e
    return tuple(made)


@contextlib.contextmanager
def _temporary(work: Path) -> Iterator[Path]:
    try:
        top = Path(tempfile.mkdtemp(prefix="vbuild-check-", dir=work))
        top.chmod(0o700)
    except OSError as e:
        raise os_error(e, str(work), "write") from e
    try:
        yield top
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _rebuild(request: Request, variant: Variant, top: Path) -> Observation:
    directory = _make(top, variant.directory)
    out = directory / request.name
    run_child(request, variant, directory, out)
    seen = observe_build(out, attest_directory(out), variant.name, variant.conditions)
    shutil.rmtree(directory, ignore_errors=True)
    return seen


def _make(top: Path, directory: str) -> Path:
    """Make ``directory`` in ``top``, open to this user whatever the umask is."""
    path = top
    try:
        for part in Path(directory).parts:
            path /= part
            path.mkdir()
            path.chmod(0o700)
    except OSError as e:
        raise os_error(e, str(path), "create") from e
    return path
