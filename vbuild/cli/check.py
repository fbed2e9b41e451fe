"""``vbuild check``."""

from __future__ import annotations

from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, inputs

__all__ = ["command"]


@click.command("check", short_help="Build a manifest again and again, and compare the bytes.")
@click.argument("manifest", type=PATH)
@inputs
@click.option(
    "--vary",
    multiple=True,
    metavar="LIST",
    help="What to change, one by one: all, or a list of directory, hashseed, isa, jobs, locale, "
    "timezone, umask. Default: two builds that differ in all of them.",
)
@click.option(
    "--against",
    type=PATH,
    metavar="DIR|SHA256SUMS",
    help="A model directory, or a list of digests, to compare with as well.",
)
@click.option(
    "--work",
    type=PATH,
    metavar="DIR",
    help="Where the builds go before they are removed. Default: the temporary directory.",
)
@common
def command(
    console: Console,
    manifest: Path,
    base: Path | None,
    delta: tuple[Path, ...],
    vary: tuple[str, ...],
    against: Path | None,
    work: Path | None,
) -> int:
    """Build MANIFEST several times under other conditions, and compare the results byte for byte.

    Each build is a process of its own, unsigned, and removed when it has been hashed. Nothing that
    is varied may change a byte; a file that differs is a no (1).
    """
    from vbuild.commands.check import check
    from vbuild.report import check as report

    checked = check(
        manifest,
        base=base,
        delta=delta,
        vary=[name.strip() for item in vary for name in item.split(",")],
        against=against,
        work=work,
        on_start=lambda checking: console.note(report.opening(checking)),
        on_build=lambda checking, number: console.note(report.building_line(number, checking)),
    )
    console.result(report.lines(checked, problems_only=console.quiet), wrong=True)
    console.document(report.document(checked))
    return report.status(checked)
