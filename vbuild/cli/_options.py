"""Arguments and options that several commands have, and what they mean.

- ``@common`` comes last before the function: it adds ``--json``, ``--quiet`` and ``--no-color`` and
  passes a :class:`Console` as the first argument.
- Paths are taken as they are; an empty one (an unset variable in a script) is refused instead of
  meaning the current directory.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias

import click

from vbuild.cli._console import Console

__all__ = [
    "PATH",
    "Session",
    "common",
    "force",
    "inputs",
    "jobs",
    "key",
    "preview",
    "refetch",
]

Parameters = ParamSpec("Parameters")
Execute: TypeAlias = Callable[..., int]


@dataclass(slots=True)
class Session:
    """What ``main`` shares with the command: the console that speaks to the user."""

    console: Console


class PathType(click.Path):
    """A path, never empty; whether anything is there is for the command to say."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """``value`` as a path."""
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return Path(value)


PATH = PathType()


def inputs(function: Execute) -> Execute:
    """Add ``--base`` and ``--delta``: where local copies of a manifest's inputs are."""
    base = click.option(
        "--base", type=PATH, help="The directory of the base, instead of the manifest's."
    )
    delta = click.option(
        "--delta",
        type=PATH,
        multiple=True,
        help="The directory of a delta; once for each delta, in the manifest's order.",
    )
    return base(delta(function))


def refetch(function: Execute) -> Execute:
    """Add ``--refetch``: damaged files of the cache are downloaded again."""
    return click.option(
        "--refetch",
        is_flag=True,
        help="Hash the Hub's files in the cache, and download again what is not as pinned.",
    )(function)


def key(function: Execute) -> Execute:
    """Add ``--key``: the private key that signs."""
    return click.option(
        "--key",
        type=PATH,
        metavar="PEM",
        help="The private key that signs. Default: VBUILD_KEY, then your own key, "
        "which is made on first use.",
    )(function)


def jobs(function: Execute) -> Execute:
    """Add ``--jobs``."""
    return click.option(
        "--jobs",
        type=click.IntRange(min=1, max=1024),
        metavar="N",
        help="Threads. The result does not depend on it. Default: all processors.",
    )(function)


def force(what: str) -> Callable[[Execute], Execute]:
    """Add ``--force``, which replaces ``what``."""
    return click.option("--force", is_flag=True, help=f"Replace {what}.")


def common(
    function: Callable[Concatenate[Console, Parameters], int],
) -> Execute:
    """Add the options that all commands have; ``function`` gets the console that they ask for."""

    @click.option(
        "--json",
        "json_to",
        is_flag=False,
        flag_value="-",
        metavar="[FILE]",
        help="Write the result as JSON to FILE, or to standard output, which then has nothing "
        "else. With a FILE write --json=FILE.",
    )
    @click.option(
        "-q", "--quiet", is_flag=True, help="Say nothing but what is wrong, and warnings."
    )
    @click.option("--no-color", is_flag=True, help="No colours. NO_COLOR does the same.")
    @click.pass_context
    @functools.wraps(function)
    def execute(
        context: click.Context,
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> int:
        json_to, quiet, no_color = (kwargs.pop(n) for n in ("json_to", "quiet", "no_color"))
        console = Console(
            context.info_name or "",
            json_to=None if json_to is None else str(json_to),
            quiet=bool(quiet),
            no_color=bool(no_color),
        )
        session = context.find_object(Session)
        if session is not None:
            session.console = console
        console.check_target()
        return function(console, *args, **kwargs)

    return execute


def preview(arguments: Sequence[str]) -> Console:
    """The console for an error in ``arguments`` themselves, before they are parsed.

    A FILE is believed only as ``--json=FILE``: in ``--json m.toml`` the user may have meant the
    manifest, and an error must not overwrite it.
    """
    before = list(arguments)[: list(arguments).index("--")] if "--" in arguments else arguments
    json_to = None
    for i, argument in enumerate(before):
        following = before[i + 1] if i + 1 < len(before) else "-"
        if argument == "--json" and following.startswith("-"):
            json_to = "-"
        elif argument.startswith("--json="):
            json_to = argument.removeprefix("--json=")
    return Console("", json_to=json_to, no_color="--no-color" in before)
