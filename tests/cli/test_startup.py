"""What a command loads: little, so that it is quick; and nothing that it does not need."""

import subprocess
import sys

import pytest

import vbuild
from tests.support.commands import ROOT

HEAVY = {"numpy", "sentencepiece", "Crypto", "msgspec", "tomli", "rich"}


def loaded(program, config, *arguments):
    """The modules in a fresh interpreter after ``program``."""
    report = "\nimport sys; print(*sorted(sys.modules), file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", program + report, *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(config)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stderr.split())


MAIN = "import sys; from vbuild.cli import main; status = main(sys.argv[1:]); assert status == 0"


def test_importing_the_package_loads_nothing_else(tmp_path):
    modules = loaded("import vbuild", tmp_path)
    assert {m for m in modules if m.startswith("vbuild")} == {"vbuild"}


@pytest.mark.parametrize("arguments", [["--help"], ["apply", "--help"], ["--version"]])
def test_help_loads_no_library_but_click(tmp_path, arguments):
    modules = loaded(MAIN, tmp_path, *arguments)
    assert not modules & HEAVY
    assert not {m for m in modules if m.startswith(("vbuild.commands", "vbuild.build"))}


def test_verifying_a_model_loads_nothing_of_a_build(model, config):
    modules = loaded(MAIN, config, "verify", model)
    assert modules & HEAVY == {"Crypto"}
    rooms = ("vbuild.build", "vbuild.manifest", "vbuild.plan", "vbuild.formats")
    assert not {m for m in modules if m.startswith(rooms)}


def test_every_command_is_a_function_of_the_package(tmp_path):
    from vbuild.cli._group import group

    for name in group.list_commands(None):
        own = name.replace("-", "_")
        function = getattr(vbuild, own)
        assert callable(function)
        assert function.__module__ == f"vbuild.commands.{own}"
        assert own in vbuild.__all__


def test_a_room_of_the_same_name_does_not_hide_a_command(tmp_path):
    program = """
import vbuild.plan.claim
from vbuild.plan import make_plan
import vbuild
assert callable(vbuild.plan) and vbuild.plan.__module__ == "vbuild.commands.plan"
from vbuild import plan
assert plan is vbuild.plan
"""
    assert "vbuild.plan.claim" in loaded(program, tmp_path)


def test_the_package_knows_its_version_and_refuses_other_names():
    from vbuild import _core

    assert vbuild.__version__ == _core.VERSION
    assert "apply" in dir(vbuild)
    with pytest.raises(AttributeError, match="no attribute 'aply'"):
        _ = vbuild.aply


def test_the_version_is_shown(vb):
    assert vb("--version").out == f"vbuild {vbuild.__version__}\n"
