"""``vbuild fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, inputs, refetch

if TYPE_CHECKING:
    from vbuild.manifest import LoadedManifest
    from vbuild.sources.fetch import Pending

__all__ = ["command"]


@click.command("fetch", short_help="Download the hf:// inputs of a manifest.")
@click.argument("manifest", type=PATH)
@inputs
@refetch
@common
def command(
    console: Console,
    manifest: Path,
    base: Path | None,
    delta: tuple[Path, ...],
    refetch: bool,
) -> int:
    """Download what is missing of MANIFEST's hf:// inputs into the Hub's cache.

    Every file is compared with its pin as it comes. If the download is interrupted, the same
    command goes on where it stopped. A base or a delta that is given as a PATH is not downloaded.
    """
    from vbuild.commands.fetch import fetch
    from vbuild.report import fetch as report

    def on_start(loaded: LoadedManifest, pending: Pending) -> None:
        console.note(*report.opening(loaded.manifest, pending))

    fetched = fetch(
        manifest,
        base=base,
        delta=delta,
        refetch=refetch,
        progress=console.progress(),
        on_start=on_start,
    )
    console.result(report.lines(fetched))
    console.document(report.document(manifest, fetched))
    return 0
