"""Stands in for ``vbuild apply`` in tests: what it makes depends on its environment, if asked.

``FAKE_DIFFERS`` names an environment variable whose value then gets into the weights,
``FAKE_EXTRA`` one whose value becomes a file's name, ``FAKE_MODE`` one whose first letter decides
a file's mode, ``FAKE_BESIDE`` one whose value gets into the provenance. ``FAKE_FAILS`` is a JSON
object to print, ``FAKE_STATUS`` the exit status that goes with it, ``FAKE_SAYS`` text for stderr.
``FAKE_WAITS`` names a file that gets the process id before the process sleeps.
"""

import os
import signal
import sys
import time
from pathlib import Path

env = os.environ
out = Path(sys.argv[sys.argv.index("--out") + 1])

if "FAKE_WAITS" in env:
    note = Path(env["FAKE_WAITS"])
    note.with_suffix(".new").write_text(str(os.getpid()))
    note.with_suffix(".new").rename(note)
    out.mkdir()
    time.sleep(600)
if "FAKE_KILLED" in env:
    os.kill(os.getpid(), signal.SIGKILL)
if "FAKE_STATUS" in env:
    sys.stdout.write(env.get("FAKE_FAILS", ""))
    sys.stderr.write(env.get("FAKE_SAYS", ""))
    sys.exit(int(env["FAKE_STATUS"]))

files = {
    "config.json": "{}",
    "model.safetensors": "weights" + env.get(env.get("FAKE_DIFFERS", ""), ""),
}
if "FAKE_EXTRA" in env:
    files[f"{env[env['FAKE_EXTRA']]}.txt"] = ""
attest = out.with_name(f"{out.name}.attest")
for directory in (out, attest):
    directory.mkdir()
    directory.chmod(0o755)
for name, text in files.items():
    (out / name).write_text(text)
    (out / name).chmod(0o644)
if "FAKE_MODE" in env:
    (out / "config.json").chmod(0o600 if env[env["FAKE_MODE"]].startswith("C") else 0o644)
(attest / "provenance.json").write_text(env.get(env.get("FAKE_BESIDE", ""), ""))
(attest / "buildinfo.json").write_text(str(time.monotonic_ns()))
for path in attest.iterdir():
    path.chmod(0o644)
