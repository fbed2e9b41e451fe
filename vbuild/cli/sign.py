"""``vbuild sign``."""

from __future__ import annotations

from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common, force, key

__all__ = ["command"]


@click.command("sign", short_help="Sign a model directory that is already there.")
@click.argument("directory", type=PATH, metavar="DIR")
@click.option("--name", metavar="NAME", help="The model's name. Default: the directory's.")
@key
@force("an existing signature")
@common
def command(
    console: Console, directory: Path, name: str | None, key: Path | None, force: bool
) -> int:
    """Write model.sig into DIR: the digests of all its files, signed."""
    from vbuild.cli._passphrase import ask_once
    from vbuild.cli.apply import public_key
    from vbuild.commands.sign import sign
    from vbuild.report import sign as report
    from vbuild.report.apply import check_command, new_key_line

    signed = sign(directory, name=name, key=key, force=force, ask_passphrase=ask_once)
    if signed.key.created is not None:
        console.note(new_key_line(signed.key.created, signed.key.fingerprint))
    check = check_command(directory, True, public_key(key))
    console.result(report.lines(signed, check))
    if signed.hint is not None:
        console.hint(signed.hint)
    console.document(report.document(signed, check))
    return 0
