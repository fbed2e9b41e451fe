"""The ``vbuild`` command: finds its commands by listing this package."""

from __future__ import annotations

import difflib
import pkgutil
from importlib import import_module
from pathlib import Path

import click

from vbuild.errors import InvalidInput

__all__ = ["Group", "group"]

_EXIT_STATUSES = """\b
Exit status:
  0    yes, done
  1    checked, and the answer is no
  2    the request or an input is malformed
  3    could not find out: a missing file, a permission, the disk, the network
  4    the manifest is not locked
  70   a bug in vbuild
  130  interrupted
"""


class Group(click.Group):
    """Commands that are modules: ``make_delta.py`` is ``vbuild make-delta``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, sorted; no module is imported."""
        found = pkgutil.iter_modules([str(Path(__file__).parent)])
        return sorted(m.name.replace("_", "-") for m in found if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, with what its module imports; None if there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"vbuild.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; but an unknown command is our error, and names the nearest one."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], names, n=1)
            raise InvalidInput(
                "usage",
                f"no such command {args[0]!r}",
                hint=f"did you mean vbuild {near[0]}?" if near else "vbuild --help",
            )
        return super().resolve_command(ctx, args)


def _version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import vbuild

        click.echo(f"vbuild {vbuild.__version__}")
        context.exit()


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_STATUSES,
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def group() -> None:
    """Build the weights of a model the way a reproducible build makes a binary.

    One manifest says what goes in, which rule applies to each tensor and what must come out; the
    same manifest gives the same bytes on every machine, signed so that others can check them.
    """
