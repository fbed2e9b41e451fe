"""``vbuild make-delta``: what has to be added to a base to get a target, ready to publish."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from vbuild.delta import DeltaOp, Made, Wanted, make
from vbuild.diff import Side, open_side
from vbuild.errors import InvalidInput
from vbuild.formats.registry import FORMATS
from vbuild.manifest.schema import NAME_PATTERN, SIZE_PATTERN
from vbuild.progress import Progress
from vbuild.sources import check_uri

__all__ = ["DeltaMade", "make_delta"]


@dataclass(frozen=True, slots=True)
class DeltaMade:
    """A published delta, and how it was asked for."""

    wanted: Wanted
    made: Made
    seconds: float


def make_delta(
    base: Path,
    target: Path,
    *,
    op: DeltaOp,
    out: Path,
    name: str | None = None,
    license: str | None = None,
    base_uri: str | None = None,
    pin_weights: bool = False,
    max_shard_size: str = "5GB",
    jobs: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> DeltaMade:
    """Write the delta from ``base`` to ``target`` and its pinned ``manifest.toml`` into ``out``.

    ``name`` is the model's that comes out (default: that of the target's file or directory),
    ``base_uri`` the base's in the manifest (default: its path, relative to ``out``). Errors: see
    :func:`vbuild.delta.publish.make`; InvalidInput for a name, URI or size that is none.
    """
    start = time.monotonic()
    where = Path(os.path.abspath(out))
    sides = open_side(base, "base", FORMATS), open_side(target, "target", FORMATS)
    wanted = Wanted(
        op=op,
        name=_name(name, target),
        base_uri=_uri(base_uri, sides[0], where),
        license=license,
        pin_weights=pin_weights,
        max_shard_size=_size(max_shard_size),
    )
    made = make(*sides, wanted, where, jobs=jobs, force=force, progress=progress)
    return DeltaMade(wanted, made, time.monotonic() - start)


def _name(name: str | None, target: Path) -> str:
    found = Path(os.path.abspath(target)).name if name is None else name
    found = found.removesuffix(".safetensors") if name is None else found
    if re.search(NAME_PATTERN, found) is None:
        raise InvalidInput(
            "bad-name",
            "a model cannot have this name",
            expected="letters, digits, '.', '_' and '-', beginning with a letter or digit",
            got=found,
            hint="give it one with --name NAME",
        )
    return found


def _uri(uri: str | None, base: Side, out: Path) -> str:
    if uri is None:
        path = os.path.relpath(os.path.abspath(base.directory), out)
        uri = f"file:{path}"
    check_uri(uri, "--base-uri")
    return uri


def _size(text: str) -> str:
    if re.search(SIZE_PATTERN, text) is None:
        raise InvalidInput(
            "usage",
            "--max-shard-size is not a size",
            expected='a number of bytes, or of decimal KB, MB, GB or TB, such as "5GB"',
            got=text,
        )
    return text
