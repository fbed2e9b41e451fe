"""``vbuild make-delta``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, force, jobs

__all__ = ["command"]


@click.command("make-delta", short_help="Make the delta from a base to a target, ready to publish.")
@click.argument("base", type=PATH)
@click.argument("target", type=PATH)
@click.option(
    "--op",
    type=click.Choice(["add", "xor"]),
    required=True,
    help="add: target - base, rounded; most elements come back. xor: all of them do.",
)
@click.option("--out", type=PATH, required=True, metavar="DIR", help="The delta's directory.")
@click.option("--name", help="The name of the model that comes out. Default: TARGET's.")
@click.option("--license", help="The licence that is shown before the delta is applied.")
@click.option(
    "--base-uri", metavar="URI", help="Where the manifest finds the base. Default: file: and BASE."
)
@click.option(
    "--pin",
    type=click.Choice(["files", "weights"]),
    default="files",
    help="How the manifest pins the base: by its files, or by its weights digest, so that any "
    "container and sharding of it will do. Default: files.",
)
@click.option(
    "--max-shard-size",
    default="5GB",
    metavar="SIZE",
    help="The largest shard of the delta, and of what comes out. Default: 5GB.",
)
@jobs
@force("a delta that was made before")
@common
def command(
    console: Console,
    base: Path,
    target: Path,
    op: Literal["add", "xor"],
    out: Path,
    name: str | None,
    license: str | None,
    base_uri: str | None,
    pin: str,
    max_shard_size: str,
    jobs: int | None,
    force: bool,
) -> int:
    """Write what turns BASE into TARGET, and a pinned manifest.toml, into a directory to publish.

    The delta is applied again before it appears: the manifest pins what comes out, and the answer
    says how many elements do not come back. Configuration and tokenizer are TARGET's.
    """
    from vbuild.commands.make_delta import make_delta
    from vbuild.report import make_delta as report

    made = make_delta(
        base,
        target,
        op=op,
        out=out,
        name=name,
        license=license,
        base_uri=base_uri,
        pin_weights=pin == "weights",
        max_shard_size=max_shard_size,
        jobs=jobs,
        force=force,
        progress=console.progress(),
    )
    console.result(report.lines(made, out))
    console.document(report.document(made, out))
    return 0
