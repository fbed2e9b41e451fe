"""``buildinfo.json``: the machine that a build ran on. Unsigned, and never read by ``verify``.

- No host name, no user name, no absolute path, no date; ``seconds`` is a duration.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

from vbuild import _core
from vbuild.digest import kernels

__all__ = ["build_info", "cpu_model"]


def cpu_model() -> str:
    """The processor's own name, or its architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def build_info(*, seconds: float) -> bytes:
    """The file's bytes."""
    info = {
        "schema": "vbuild.buildinfo/1",
        "vbuild": _core.VERSION,
        "kernels": list(kernels().features),
        "cpu": cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "seconds": round(seconds, 3),
    }
    return (json.dumps(info, indent=2, sort_keys=True) + "\n").encode()
