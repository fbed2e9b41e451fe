"""``vbuild diff``."""

from __future__ import annotations

from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, jobs

__all__ = ["command"]


@click.command("diff", short_help="Compare the weights of two checkpoints, tensor by tensor.")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option(
    "--markdown",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write the result as Markdown to FILE, or to standard output. With a FILE write "
    "--markdown=FILE.",
)
@click.option(
    "--html",
    metavar="FILE",
    help="Write a page for a browser to FILE (- for standard output): a picture by layer and "
    "module, and every tensor.",
)
@click.option(
    "--weights-digest", is_flag=True, help="Add the weights digests of both, in a further pass."
)
@jobs
@common
def command(
    console: Console,
    a: Path,
    b: Path,
    markdown: str | None,
    html: str | None,
    weights_digest: bool,
    jobs: int | None,
) -> int:
    """Compare the tensors of A and B: files or directories, of any format and sharding.

    Tensors are matched by name, and compared element by element. The answer is yes (0) if names,
    types, shapes and bits are the same, whatever the container.
    """
    console.check_targets({"--markdown": markdown, "--html": html})
    from vbuild.commands.diff import diff
    from vbuild.report import diff as report

    found = diff(a, b, weights_digest=weights_digest, jobs=jobs, progress=console.progress())
    console.result(report.lines(found), wrong=not found.same)
    if markdown is not None:
        from vbuild.report import diff_markdown

        console.report(markdown, diff_markdown.text(found))
    if html is not None:
        from vbuild.report import diff_html

        console.report(html, diff_html.page(found))
    console.document(report.document(found))
    return report.status(found)
