"""A job that takes long enough to be stopped in the middle, and takes no room on the disk."""

from __future__ import annotations

from pathlib import Path

from tests.support.builds import Job
from vbuild.formats.safetensors import header
from vbuild.tensors import DType

__all__ = ["SLOW", "SLOW_SHARDS", "write_slow_job"]

SLOW = {"VBUILD_ISA": "portable"}
"""The environment that makes a build slow."""

SLOW_SHARDS = 40


def write_slow_job(root: Path) -> Job:
    """A locked manifest whose inputs are sparse files of zeros; 80 MB in 40 shards come out."""
    job = Job(root, output='max_shard_size = "2MB"')
    specs = [(f"layer.{i:02}.weight", DType.F16, (1000, 1000)) for i in range(SLOW_SHARDS)]
    head = header(specs)
    for side in ("base", "delta"):
        (root / side).mkdir(parents=True)
        with (root / side / "model.safetensors").open("wb") as f:
            f.write(head)
            f.truncate(len(head) + SLOW_SHARDS * 2_000_000)
    job.pin()
    return job
