"""The passes of making a delta: plans run over files that are pinned, and small files stored.

- The bytes used are the bytes hashed, also where a file is read twice: tags are compared at the end
  of each pass (:class:`vbuild.build.weigh.Guard`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from vbuild import _core
from vbuild.build.materials import Material
from vbuild.build.run import Task, run_tasks
from vbuild.build.staging import Staging
from vbuild.build.weigh import Guard
from vbuild.files import Identity
from vbuild.plan import FileRef, Plan
from vbuild.progress import Progress

__all__ = ["Inputs", "Run", "store"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files that a run reads and checks (:class:`vbuild.build.run.Pinned`)."""

    materials: Mapping[FileRef, Material]
    identities: Mapping[FileRef, Identity]


@dataclass(frozen=True, slots=True)
class Run:
    """What all passes share."""

    staging: Staging
    jobs: int | None
    progress: Progress
    kernels: _core.Kernels

    def tasks(
        self, files: Inputs, plan: Plan, *, store: bool, tensors: bool = False
    ) -> tuple[dict[str, str], dict[str, bytes]]:
        """Run a plan; the digests of its outputs, and of their tensors."""
        guard = Guard()
        outputs: dict[str, str] = {}
        found: dict[str, bytes] = {}

        def done(task: Task, result: _core.Result) -> None:
            guard.add(task.program, result)
            if task.output is not None and result.output is not None:
                outputs[task.output.name] = result.output.hex()
                if tensors:
                    names = [recipe.name for recipe in task.output.recipes]
                    found.update(zip(names, result.tensors, strict=True))

        todo = [Task(output.program, output) for output in plan.outputs]
        if plan.rest is not None:
            todo.append(Task(plan.rest, None))
        run_tasks(
            files,
            todo,
            create=self.staging.create_part if store else lambda name: -1,
            scratch=self.staging.root,
            done=done,
            kernels=self.kernels,
            jobs=self.jobs,
            progress=self.progress,
            tag_key=os.urandom(_core.TAG_KEY_SIZE),
            tensor_digests=[output.name for output in plan.outputs] if tensors else (),
        )
        guard.check(files)
        return outputs, found


def store(staging: Staging, name: str, data: bytes) -> None:
    """Write a small file as a part of the output, synced."""
    fd = staging.create_part(name)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
