"""What people do without vbuild: torch adds the delta to the base, openssl hashes everything.

- The rule is FastChat's: every tensor of the base plus the delta's of the same name, in float16.
- The output has the base's cut, is written by safetensors itself and synced, as a build's is.
- The digests of base, delta and output are printed by ``openssl dgst``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def weight_files(directory: Path) -> list[Path]:
    """The shards, in order."""
    return sorted(directory.glob("*.safetensors"))


def apply_delta(base: Path, delta: Path, out: Path) -> None:
    """base + delta -> out."""
    change: dict[str, torch.Tensor] = {}
    for path in weight_files(delta):
        change |= load_file(path)
    out.mkdir()
    for path in weight_files(base):
        shard = load_file(path)
        for name, tensor in shard.items():
            tensor += change[name]
        save_file(shard, out / path.name, metadata={"format": "pt"})
        with (out / path.name).open("rb") as f:
            os.fsync(f.fileno())


def main(base: Path, delta: Path, out: Path) -> None:
    """Apply, then hash all that was read and written."""
    apply_delta(base, delta, out)
    files = [path for directory in (base, delta, out) for path in weight_files(directory)]
    subprocess.run(["openssl", "dgst", "-sha256", *map(str, files)], check=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
