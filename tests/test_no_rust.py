"""An offline apply, verify and sign load no library that the Rust compiler has made.

Every shared object that the process has mapped is looked at for what Rust leaves in it, not for
names; a library that is known to be Rust shows that the search finds one.
"""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.commands import ROOT, run_vbuild
from tests.support.llama import make_base, make_delta_v0, manifest_text

MARKS = (b"/rustc/", b"rust_begin_unwind", b"rust_panic", b"RUST_BACKTRACE", b"rust_eh_personality")

REPORT = """
import json, sys
from pathlib import Path
modules = [getattr(m, "__file__", None) for m in list(sys.modules.values())]
mapped = [l.split(maxsplit=5)[5:] for l in Path("/proc/self/maps").read_text().splitlines()]
files = {f for f in modules if f} | {m[0].strip() for m in mapped if m}
objects = [f for f in files if f.startswith("/") and not f.endswith((".py", ".pyc"))]
Path(sys.argv[1]).write_text(json.dumps({"objects": objects, "modules": sorted(sys.modules)}))
"""

COMMANDS = """
import sys
from vbuild.cli import main
top = sys.argv[2]
for arguments in (
    ["apply", f"{top}/m.toml", "--out", f"{top}/out"],
    ["verify", f"{top}/out"],
    ["verify", f"{top}/m.toml"],
    ["sign", f"{top}/out", "--force"],
    ["verify", f"{top}/out"],
):
    try:
        status = main(arguments)
    except SystemExit as e:
        status = e.code
    assert not status, (arguments, status)
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="the system does not say what is mapped"
)


def marks(path):
    """The traces of Rust in the file."""
    data = Path(path).read_bytes()
    return [mark.decode() for mark in MARKS if mark in data]


def loaded(program, tmp_path, *arguments, **environment):
    """What a fresh interpreter has loaded when it has run ``program``."""
    note = tmp_path / "loaded.json"
    subprocess.run(
        [sys.executable, "-c", program + REPORT, str(note), *map(str, arguments)],
        check=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment},
        stdout=subprocess.DEVNULL,
    )
    found = json.loads(note.read_text())
    return [path for path in found["objects"] if Path(path).is_file()], set(found["modules"])


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The shared objects and modules of a process that has done the whole job."""
    top = tmp_path_factory.mktemp("job")
    make_delta_v0(top / "delta", make_base(top / "base", hidden=32, layers=1))
    (top / "m.toml").write_text(manifest_text("mini"))
    assert run_vbuild("lock", top / "m.toml", config=top / "config").returncode == 0
    objects, modules = loaded(COMMANDS, top, top)
    assert (top / "out" / "model.sig").is_file()
    return objects, modules


def test_apply_verify_and_sign_load_no_rust(seen):
    objects, modules = seen
    assert {"vbuild._core", "sentencepiece", "Crypto"} <= modules
    assert any("sentencepiece" in path for path in objects)
    assert any(Path(path).name.startswith("_core") for path in objects)
    assert {path: marks(path) for path in objects if marks(path)} == {}


def test_apply_verify_and_sign_load_no_library_that_they_do_not_need(seen):
    _, modules = seen
    heavy = {"torch", "transformers", "safetensors", "tokenizers", "cryptography", "pydantic_core"}
    assert not modules & (heavy | {"huggingface_hub", "hf_xet", "rpds", "orjson", "jsonschema"})


def compiled(distribution):
    """The shared objects of an installed package."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    found = [Path(str(f.locate())) for f in files if f.name.endswith(".so")]
    if not found:
        pytest.skip(f"{distribution} is not installed with a compiled part")
    return found


def test_the_search_finds_the_rust_of_hypothesis(tmp_path):
    """Since 6.156 it has a part in Rust, which is fine for a test library."""
    compiled("hypothesis")
    objects, _ = loaded("import hypothesis._native", tmp_path)
    assert [path for path in objects if marks(path)]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("distribution", "program"),
    [
        ("safetensors", "import safetensors"),
        ("tokenizers", "import tokenizers"),
        ("cryptography", "from cryptography.hazmat.bindings import _rust"),
    ],
)
def test_the_search_finds_known_rust(distribution, program, tmp_path):
    assert any(marks(path) for path in compiled(distribution))
    objects, _ = loaded(program, tmp_path)
    assert [path for path in objects if marks(path) and distribution in path]


def test_the_search_does_not_take_c_for_rust():
    for distribution in ("numpy", "sentencepiece", "pycryptodome", "msgspec"):
        assert {str(path): marks(path) for path in compiled(distribution) if marks(path)} == {}
