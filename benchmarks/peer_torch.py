"""What people do without vbuild: torch adds the delta to the base, hashlib hashes everything.

- The rule is FastChat's: every tensor of the base plus the delta's of the same name, in float16.
- The output has the base's cut, is written by safetensors itself and synced, as a build's is.
- The digests of base, delta and output are printed, as ``sha256sum`` prints them.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = (".safetensors", ".bin")


def weight_files(directory: Path) -> list[Path]:
    """The shards, in order."""
    return sorted(path for path in directory.iterdir() if path.suffix in WEIGHTS)


def load(path: Path) -> dict[str, torch.Tensor]:
    """One shard's state dict."""
    if path.suffix == ".bin":
        state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
        return state
    return load_file(path)


def apply_delta(base: Path, delta: Path, out: Path) -> None:
    """base + delta -> out."""
    shards = [load(path) for path in weight_files(base)]
    change: dict[str, torch.Tensor] = {}
    for path in weight_files(delta):
        change |= load(path)
    out.mkdir()
    for i, shard in enumerate(shards, 1):
        for name, tensor in shard.items():
            tensor += change[name]
        many = f"model-{i:05}-of-{len(shards):05}.safetensors"
        path = out / (many if len(shards) > 1 else "model.safetensors")
        save_file(shard, path, metadata={"format": "pt"})
        with path.open("rb") as f:
            os.fsync(f.fileno())


def main(base: Path, delta: Path, out: Path) -> None:
    """Apply, then hash all that was read and written."""
    apply_delta(base, delta, out)
    for directory in (base, delta, out):
        for path in weight_files(directory):
            with path.open("rb") as f:
                print(hashlib.file_digest(f, "sha256").hexdigest(), path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
