"""``vbuild lock``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, inputs

__all__ = ["command"]


@click.command("lock", short_help="Pin the inputs of a manifest, in place.")
@click.argument("manifest", type=PATH)
@click.option("--check", is_flag=True, help="Write nothing; say whether it is pinned and true.")
@inputs
@common
def command(
    console: Console, manifest: Path, check: bool, base: Path | None, delta: tuple[Path, ...]
) -> int:
    """Write the size and the digest of every input into MANIFEST, in place.

    Of a repository of the Hub, it asks for the commit, sizes and digests, and downloads no weights.
    Comments and order are kept. What is pinned already is compared and never replaced.
    """
    from vbuild.commands.lock import lock
    from vbuild.report import lock as report

    result = lock(manifest, base=base, delta=delta, check=check, progress=console.progress())
    status = report.exit_status(result)
    console.result(report.lines(manifest, result, check=check), wrong=status != 0)
    if status == 4:
        console.hint(f"vbuild lock {shlex.quote(str(manifest))}")
    console.document(report.document(manifest, result, check=check))
    return status
