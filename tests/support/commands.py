"""Running the real command line in a process of its own, and reading what it made."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["digests", "load_safetensors", "run_vbuild", "weights_digest"]

ROOT = Path(__file__).parents[2]


def run_vbuild(
    *arguments: object, config: Path, cwd: Path | None = None, umask: int = -1, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``vbuild ARGUMENTS`` with its keys in ``config``; nobody looks at the exit status."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("VBUILD_")}
    return subprocess.run(
        [sys.executable, "-m", "vbuild", *map(str, arguments)],
        cwd=cwd,
        env={**own, "XDG_CONFIG_HOME": str(config), "PYTHONPATH": str(ROOT), **environment},
        umask=umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def digests(directory: Path, leave_out: Iterable[str] = ("model.sig",)) -> dict[str, str]:
    """SHA-256 of every file in ``directory`` by name, as hashlib has it."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in leave_out
    }


def load_safetensors(directory: Path) -> dict[str, NDArray[np.float16]]:
    """Every float16 tensor in the safetensors files of ``directory``, read with numpy alone."""
    tensors: dict[str, NDArray[np.float16]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8:start])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            assert entry["dtype"] == "F16"
            assert name not in tensors
            begin, end = (start + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], "<f2").reshape(entry["shape"])
    return tensors


def weights_digest(tensors: dict[str, NDArray[np.float16]]) -> str:
    """The weights digest of float16 tensors, spelt out with hashlib (numerics.md)."""
    lines = ["vbuild-weights-v1\n"]
    for name in sorted(tensors):
        values = tensors[name]
        head = f"vbuild-tensor-v1\0F16\0{','.join(map(str, values.shape))}\0".encode()
        one = hashlib.sha256(head + np.asarray(values, "<f2").tobytes()).hexdigest()
        lines.append(f"{one}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
