"""``vbuild inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common
from vbuild.errors import InvalidInput

__all__ = ["command"]


@click.command("inspect", short_help="List the tensors of a weight file or a directory.")
@click.argument("path", type=PATH)
@click.option("--digests", is_flag=True, help="Add the digests of all tensors and files.")
@click.option("--weights-digest", is_flag=True, help="Print the weights digest and nothing else.")
@common
def command(console: Console, path: Path, digests: bool, weights_digest: bool) -> int:
    """List the tensors of PATH: a safetensors or PyTorch file, or a directory of them.

    Only headers are read, unless digests are asked for. No pickle is executed. The weights digest
    does not depend on the container: the same tensors have the same digest in any of them.
    """
    if digests and weights_digest:
        raise InvalidInput("usage", "--digests and --weights-digest exclude each other")
    from vbuild.commands.inspect import inspect
    from vbuild.report import inspect as report
    from vbuild.report.lines import line

    found = inspect(path, digests=digests, weights_digest=weights_digest)
    if weights_digest:
        console.result([line(str(found.weights))])
    else:
        console.result(report.lines(found))
    console.document(report.document(found))
    return 0
