"""Checkpoints in a container that does not exist, and running plans over them in memory.

A file is a few bytes that planning has read, then tensors in the order given, each after a gap,
then a few bytes more: all that a plan may depend on, and nothing of a real format.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vbuild._core import Control, Kernels, run
from vbuild.formats import Checkpoint
from vbuild.manifest import Rule
from vbuild.plan import FileRef, Plan, Request, claim_tensors, make_plan
from vbuild.plan.claim import Ruleset
from vbuild.plan.containers import Container
from vbuild.plan.containers.safetensors import Safetensors
from vbuild.plan.order import InputLayout, Program
from vbuild.table import Mode
from vbuild.tensors import DType, LowRankSpec, TensorSpec, contiguous_strides

__all__ = ["Side", "execute", "plan_of", "side", "spec", "values"]

Array = NDArray[np.generic]
HEAD = b"what planning has read, "
TAIL = b"the end"
DTYPES = {"float16": DType.F16, "float32": DType.F32, "float64": DType.F64, "int64": DType.I64}
DTYPES |= {"uint8": DType.U8, "int16": DType.I16, "uint16": DType.BF16}


def spec(
    name: str, shape: tuple[int, ...] = (4, 3), dtype: DType = DType.F16, file: str = "f"
) -> TensorSpec:
    """A tensor that is described and nothing else."""
    return TensorSpec(name, dtype, shape, file, 0, contiguous_strides(shape))


@dataclass(frozen=True, slots=True)
class Side:
    """A base or a delta: tensors, and contents of files."""

    tensors: dict[str, TensorSpec]
    contents: dict[str, bytes]
    updates: dict[str, LowRankSpec] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Checkpoint:
        headers = {file: ((0, HEAD),) for file in self.contents}
        files = tuple(sorted(self.contents))
        return Checkpoint(self.tensors, files, "safetensors", headers, {}, updates=self.updates)


def side(files: Mapping[str, Mapping[str, Array]], *, gap: int = 0) -> Side:
    """Files of named arrays, in the order given; uint16 stands for bf16, Fortran order is kept."""
    tensors, contents = {}, {}
    for file, arrays in files.items():
        data = bytearray(HEAD)
        for name, array in arrays.items():
            data += b"-" * gap
            strides = tuple(s // array.itemsize for s in array.strides)
            dtype = DTYPES[array.dtype.name]
            tensors[name] = TensorSpec(name, dtype, array.shape, file, len(data), strides)
            data += array.tobytes("A")
        contents[file] = bytes(data + TAIL)
    return Side(tensors, contents)


def _ruleset(rules: Sequence[Rule]) -> Ruleset:
    return Ruleset(tuple(rules))


def plan_of(
    base: Side,
    *deltas: Side,
    rules: Sequence[Rule] | Sequence[Sequence[Rule]],
    output_dtype: DType | None = None,
    max_shard_size: int | None = None,
    containers: Sequence[Container] = (),
) -> Plan:
    """The plan; ``rules`` are those of all deltas, or a list for each.

    Without ``containers`` it is one of safetensors.
    """
    per_delta = [rules] * max(1, len(deltas)) if isinstance(rules[0], Rule) else list(rules)
    inputs = {
        FileRef(group, file): InputLayout(len(content), ((0, content[: len(HEAD)]),))
        for group, one in enumerate((base, *deltas))
        for file, content in one.contents.items()
    }
    claimed = claim_tensors(
        base.checkpoint,
        [delta.checkpoint for delta in deltas],
        [_ruleset(own) for own in per_delta],
    )
    made = containers or (Safetensors(output_dtype, max_shard_size),)
    return make_plan(Request(claimed, base.checkpoint, inputs, tuple(made)))


def _run(program: Program, sides: Sequence[Side], level: str) -> tuple[bytes, dict[FileRef, bytes]]:
    fds, out = [], os.memfd_create("output")
    try:
        for ref in program.files:
            fds.append(os.memfd_create("source"))
            os.write(fds[-1], sides[ref.group].contents[ref.file])
        result = run(program.table.serialize(), fds, out, Kernels(level), Control())
        output = os.pread(out, os.fstat(out).st_size + 1, 0)
    finally:
        for fd in (*fds, out):
            os.close(fd)
    digests = {}
    for ref, digest, (mode, _) in zip(
        program.files, result.sources, program.table.sources, strict=True
    ):
        assert (digest is None) == (mode is Mode.PLAIN)
        if digest is not None:
            digests[ref] = digest
    return output, digests


def execute(plan: Plan, *sides: Side, level: str = "native") -> dict[str, bytes]:
    """Output files by name. Every input file's digest comes out once, and is the right one."""
    files: dict[str, bytes] = {}
    digests: dict[FileRef, bytes] = {}
    for i, program in enumerate(plan.programs):
        output, found = _run(program, sides, level)
        assert not digests.keys() & found.keys()
        digests |= found
        if i < len(plan.outputs):
            files[plan.outputs[i].name] = output
            assert len(output) == plan.outputs[i].size
        else:
            assert output == b""
    assert digests == {
        FileRef(group, file): hashlib.sha256(content).digest()
        for group, one in enumerate(sides)
        for file, content in one.contents.items()
    }
    return files


def values(files: Mapping[str, bytes], plan: Plan) -> dict[str, Array]:
    """The output's tensors as arrays (bf16 as uint16)."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    arrays = {}
    for output in plan.outputs:
        data = files[output.name]
        at = 8 + int.from_bytes(data[:8], "little")
        for recipe in output.recipes:
            part = data[at : at + recipe.nbytes]
            arrays[recipe.name] = np.frombuffer(part, names[recipe.dtype]).reshape(recipe.shape)
            at += recipe.nbytes
        assert at == len(data)
    return arrays
