"""``vbuild plan``."""

from __future__ import annotations

from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, inputs, jobs

__all__ = ["command", "show"]


@click.command("plan", short_help="Show what a build would read, compute and write.")
@click.argument("manifest", type=PATH)
@inputs
@click.option("--out", type=PATH, metavar="DIR", help="Where the output would go.")
@jobs
@common
def command(
    console: Console,
    manifest: Path,
    base: Path | None,
    delta: tuple[Path, ...],
    out: Path | None,
    jobs: int | None,
) -> int:
    """Show what the build of MANIFEST would read, compute and write, and what it needs.

    Only the headers of the weight files are read.
    """
    return show(console, manifest, base, delta, out, jobs)


def show(
    console: Console,
    manifest: Path,
    base: Path | None,
    delta: tuple[Path, ...],
    out: Path | None,
    jobs: int | None,
) -> int:
    """Plan and print; also what ``apply --dry-run`` does."""
    from vbuild.commands.plan import plan
    from vbuild.report import plan as report

    planned = plan(manifest, base=base, delta=delta, out=out, jobs=jobs)
    summary = report.summarize(planned)
    console.result(report.lines(planned, summary))
    for warning in summary.warnings:
        console.warn(warning)
    console.document(report.document(planned, summary))
    return 0
