"""``vbuild doctor``."""

from __future__ import annotations

import click

from vbuild.cli._console import Console
from vbuild.cli._options import common

__all__ = ["command"]


@click.command("doctor", short_help="Show what this machine can do, and what is missing.")
@common
def command(console: Console) -> int:
    """Show which kernels run here, which packages are there, and where the keys are."""
    from vbuild.commands.doctor import doctor
    from vbuild.report import doctor as report

    findings = doctor()
    status = report.exit_status(findings)
    console.result(report.lines(findings, problems_only=console.quiet), wrong=status != 0)
    console.document(report.document(findings))
    return status
