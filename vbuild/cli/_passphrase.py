"""Passphrases: from the environment, a file or a prompt; never an argument, which others see."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vbuild.errors import InvalidInput
from vbuild.files import os_error

__all__ = ["ask_once", "new_passphrase"]

VARIABLE: Final = "VBUILD_KEY_PASSPHRASE"
LONGEST: Final = 4096
"""Bytes."""


def new_passphrase(file: Path | None, prompt: bool, environment: Mapping[str, str]) -> bytes | None:
    """The passphrase for a new key, None for none; InvalidInput if it is empty."""
    if file is not None and prompt:
        raise InvalidInput("usage", "--passphrase-file and --passphrase-prompt exclude each other")
    if file is not None:
        return _checked(_read(file), str(file))
    if prompt:
        return _checked(_ask_twice(), "the prompt")
    text = environment.get(VARIABLE)
    return None if text is None else _checked(text.encode("utf-8", "surrogateescape"), VARIABLE)


def _checked(passphrase: bytes, where: str) -> bytes:
    if not passphrase or len(passphrase) > LONGEST:
        raise InvalidInput(
            "passphrase-invalid",
            "not a passphrase",
            where=where,
            expected=f"1 to {LONGEST} bytes",
            got=f"{len(passphrase)} bytes" if len(passphrase) <= LONGEST else "more",
        )
    return passphrase


def _read(file: Path) -> bytes:
    """The file's first line; a pipe (``<(pass show key)``) will do."""
    try:
        with file.open("rb") as stream:
            return stream.read(LONGEST + 2).split(b"\n")[0].removesuffix(b"\r")
    except OSError as e:
        raise os_error(e, str(file), "read") from e


def _hidden(prompt: str) -> bytes:
    if not sys.stdin.isatty():
        raise InvalidInput(
            "no-terminal",
            "there is no terminal to ask for the passphrase",
            hint=f"set {VARIABLE}",
        )
    import getpass

    try:
        return getpass.getpass(prompt).encode("utf-8", "surrogateescape")
    except EOFError as e:
        raise InvalidInput("no-terminal", "no passphrase was typed") from e


def ask_once(where: str) -> bytes:
    """Ask for the passphrase of the key ``where``."""
    return _hidden(f"Passphrase for {where}: ")


def _ask_twice() -> bytes:
    """Ask for a new passphrase, twice."""
    first = _hidden("New passphrase: ")
    if _hidden("Again: ") != first:
        raise InvalidInput("passphrase-invalid", "the two passphrases differ")
    return first
