"""docs/reference/cli.md and json.md say what the program does."""

import json
import re

import click
import pytest

from tests.support.commands import ROOT
from vbuild.cli._console import Console
from vbuild.cli._group import group
from vbuild.cli._options import Session

REFERENCE = ROOT / "docs" / "reference"
COMMON = {"--json", "--quiet", "-q", "--no-color"}


def commands():
    context = click.Context(group, obj=Session(Console("")))
    return {name: group.get_command(context, name) for name in group.list_commands(context)}


def sections(name, prefix):
    """The sections of a page whose titles begin with ``prefix``, by the rest of the title."""
    parts = re.split(r"^## ", (REFERENCE / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    titled = (part.partition("\n") for part in parts[1:])
    return {t.removeprefix(prefix): body for t, _, body in titled if t.startswith(prefix)}


def rows(body):
    """The first cells of a section's tables."""
    return re.findall(r"^\| `([^|]*)` \|", body, flags=re.MULTILINE)


def test_the_page_has_every_command_and_no_other():
    assert set(sections("cli.md", "vbuild ")) == set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_page_has_every_option_of_a_command_and_no_other(name):
    options = [p for p in commands()[name].params if isinstance(p, click.Option)]
    spelled = {o for p in options for o in p.opts}
    assert spelled >= COMMON
    listed = {word for row in rows(sections("cli.md", "vbuild ")[name]) for word in row.split("`")}
    listed = {word.split()[0] for word in listed if word.startswith("-")}
    assert listed == spelled - COMMON


def test_the_common_options_and_the_exit_statuses_are_listed():
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    for option in COMMON:
        assert f"`{option}" in page
    statuses = re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)
    assert statuses == ["0", "1", "2", "3", "4", "70", "130"]
    assert (
        re.findall(r"^    (\d+) ", group.get_help(click.Context(group)), re.MULTILINE) == statuses
    )


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_has_a_help_text(name, vb):
    command = commands()[name]
    assert command.help
    assert command.get_short_help_str(100).endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help.endswith("."), parameter.name
    ran = vb(name, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == vb(name, "-h").out
    assert f"Usage: vbuild {name} " in ran.out


def test_the_json_page_lists_exactly_the_fields_that_are_there(model, vb, tmp_path):
    pages = sections("json.md", "vbuild.")
    runs = {
        "error/1": ["verify", "nothing"],
        "apply/1": ["apply", "manifest.toml", "--force"],
        "check/1": ["check", "manifest.toml"],
        "diff/1": ["diff", "base", "delta"],
        "doctor/1": ["doctor"],
        "fetch/1": ["fetch", "manifest.toml"],
        "inspect/1": ["inspect", model],
        "keygen/1": ["keygen", "k.pem"],
        "lock/1": ["lock", "manifest.toml"],
        "make-delta/1": ["make-delta", "base", "base", "--op", "xor", "--out", "d"],
        "plan/1": ["plan", "manifest.toml"],
        "sign/1": ["sign", model, "--force"],
        "verify/1": ["verify", model],
    }
    assert set(pages) == set(runs)
    for schema, arguments in runs.items():
        found = json.loads(vb(*arguments, "--json").out)
        assert next(iter(found)) == "schema"
        assert found.pop("schema") == f"vbuild.{schema}"
        assert rows(pages[schema]) == list(found), schema
