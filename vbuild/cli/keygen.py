"""``vbuild keygen``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vbuild.cli._console import Console
from vbuild.cli._options import PATH, common

__all__ = ["command"]


@click.command("keygen", short_help="Make a key pair for signing.")
@click.argument("path", type=PATH)
@click.option("--passphrase-file", type=PATH, metavar="FILE", help="Encrypt the private key.")
@click.option("--passphrase-prompt", is_flag=True, help="Ask for a passphrase to encrypt it with.")
@common
def command(
    console: Console, path: Path, passphrase_file: Path | None, passphrase_prompt: bool
) -> int:
    """Write a new P-256 private key to PATH (mode 0600), and its public half beside it.

    The public half is PATH with .pub in place of .pem, or appended. VBUILD_KEY_PASSPHRASE, too,
    encrypts the private key. An existing file is never replaced.
    """
    from vbuild.cli._passphrase import new_passphrase
    from vbuild.commands.keygen import keygen
    from vbuild.report import keygen as report

    passphrase = new_passphrase(passphrase_file, passphrase_prompt, os.environ)
    key = keygen(path, passphrase=passphrase)
    encrypted = passphrase is not None
    console.result(report.lines(key, encrypted=encrypted))
    console.document(report.document(key, encrypted=encrypted))
    return 0
