"""A plan: what a build reads, computes and writes, and what it needs.

- Text and document are made from the same :class:`Summary`.
- Tensors are grouped by the rule that made them and their type in the output; inputs say how each
  gets its digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from vbuild.manifest import load_preset
from vbuild.report.apply import license_line
from vbuild.report.document import Value
from vbuild.report.lines import BLANK, Line, Span, line, styled, table
from vbuild.report.units import counted, size
from vbuild.tensors import JoinedSpec

if TYPE_CHECKING:
    from vbuild.build import Prepared
    from vbuild.commands.plan import Planned
    from vbuild.manifest import Rule
    from vbuild.plan import FileRef

__all__ = ["INTERPRETER", "Summary", "document", "lines", "summarize"]

INTERPRETER: Final = 40_000_000
"""Bytes that the interpreter and its modules take, about."""

Hashing: TypeAlias = Literal["in-pass", "beside", "only", "whole"]

_HASHING: Final[Mapping[Hashing, str]] = {
    "in-pass": "hashed as it is used, in one pass",
    "beside": "hashed from its beginning, beside its use",
    "only": "hashed only, no tensor is taken from it",
    "whole": "read whole",
}


@dataclass(frozen=True, slots=True)
class Input:
    """A file that is read, and how it gets its digest."""

    label: str
    size: int
    hashing: Hashing


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a delta, where they come from, and what a preset says of itself."""

    origin: str
    description: str | None
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """What the base or a delta is; ``joined`` tensors lie in several of its weight files."""

    label: str
    format: str
    files: int
    tensors: int
    joined: int


@dataclass(frozen=True, slots=True)
class Group:
    """Output tensors of one type that the same rule makes."""

    rule: str
    dtype: str
    tensors: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Output:
    """A file that is written; ``tensors`` is None for one that is not weights."""

    name: str
    size: int
    tensors: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a plan is, for people and programs. ``rules`` has an entry per delta."""

    inputs: tuple[Input, ...]
    sides: tuple[Side, ...]
    rules: tuple[Rules, ...]
    groups: tuple[Group, ...]
    dropped: tuple[str, ...]
    outputs: tuple[Output, ...]
    warnings: tuple[str, ...]


def summarize(planned: Planned) -> Summary:
    """The summary of a plan."""
    prepared = planned.prepared
    warnings = list(prepared.plan.warnings)
    if planned.free < planned.write:
        warnings.append(
            f"the disk is too small: the output needs {size(planned.write)}, "
            f"and {size(planned.free)} are free"
        )
    return Summary(
        inputs=tuple(_inputs(prepared)),
        sides=tuple(_sides(prepared)),
        rules=_rules(prepared),
        groups=_groups(prepared),
        dropped=_dropped(prepared),
        outputs=_outputs(prepared),
        warnings=tuple(warnings),
    )


def _inputs(prepared: Prepared) -> Iterator[Input]:
    how = _hashing(prepared)
    for ref, material in sorted(prepared.materials.items()):
        yield Input(material.label, material.size, how.get(ref, "whole"))


def _sides(prepared: Prepared) -> Iterator[Side]:
    for label, checkpoint in prepared.sides:
        files = len(checkpoint.files)
        if files:  # of files that are XORed whole nobody looks at the tensors
            joined = sum(isinstance(tensor, JoinedSpec) for tensor in checkpoint.tensors.values())
            count = len(checkpoint.tensors.keys() | checkpoint.updates.keys())
            yield Side(label, checkpoint.format, files, count, joined)


def _hashing(prepared: Prepared) -> dict[FileRef, Hashing]:
    """How the files that tables read get their digests."""
    how: dict[FileRef, Hashing] = {}
    for output in prepared.plan.outputs:
        program = output.program
        for ref, (mode, _) in zip(program.files, program.table.sources, strict=True):
            if mode.name != "PLAIN":
                how[ref] = "in-pass" if mode.name == "ORDERED" else "beside"
    rest = prepared.plan.rest
    return how | dict.fromkeys(() if rest is None else rest.files, "only")


def _rules(prepared: Prepared) -> tuple[Rules, ...]:
    loaded = prepared.loaded
    found = []
    for i in range(max(1, len(loaded.manifest.delta))):
        preset = loaded.preset_for(i)
        origin = "of the manifest" if preset is None else f"of the preset {preset}"
        if preset is None and not (loaded.manifest.apply or loaded.manifest.delta):
            origin = "none given"
        description = None if preset is None else load_preset(preset).description
        rules = tuple(_rule_text(rule) for rule in loaded.rules_for(i))
        found.append(Rules(origin, description, rules))
    return tuple(found)


def _rule_text(rule: Rule) -> str:
    """``add, compute float16, pad zero: NAME NAME``."""
    extras: list[str] = [rule.op]
    if rule.compute is not None:
        extras.append(f"compute {rule.compute}")
    if rule.pad is not None:
        extras.append(f"pad {rule.pad}")
    if rule.on_missing != "error":
        extras.append(f"on_missing {rule.on_missing}")
    if rule.on_shape_mismatch != "error":
        extras.append(f"on_shape_mismatch {rule.on_shape_mismatch}")
    return f"{' '.join(rule.patterns)}: {', '.join(extras)}"


def _groups(prepared: Prepared) -> tuple[Group, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for recipe in (r for output in prepared.plan.outputs for r in output.recipes):
        key = (recipe.rule, recipe.dtype.code)
        counts[key] += 1
        sizes[key] += recipe.nbytes
    return tuple(Group(*key, counts[key], sizes[key]) for key in sorted(counts))


def _dropped(prepared: Prepared) -> tuple[str, ...]:
    checkpoints = [checkpoint for _, checkpoint in prepared.sides]
    names = {n for checkpoint in checkpoints for n in (*checkpoint.tensors, *checkpoint.updates)}
    return tuple(sorted(names - prepared.plan.recipes.keys()))


def _outputs(prepared: Prepared) -> tuple[Output, ...]:
    weights = [Output(o.name, o.size, len(o.recipes) or None) for o in prepared.plan.outputs]
    others = [Output(n, len(data), None) for n, data in prepared.side_files.items()]
    return tuple(sorted([*weights, *others], key=lambda output: output.name))


def lines(planned: Planned, summary: Summary) -> Iterator[Line]:
    """The plan for a person."""
    manifest = planned.prepared.loaded.manifest
    yield line(styled(manifest.name, "strong"))
    yield license_line(manifest.license)
    yield from _section("read", f"{counted(len(summary.inputs), 'file')}, {size(planned.read)}")
    yield from table(
        [(i.label, size(i.size), styled(_HASHING[i.hashing], "faint")) for i in summary.inputs],
        right={1},
    )
    yield from table([(s.label, _side_text(s)) for s in summary.sides])
    for number, found in enumerate(summary.rules, 1):
        which = f" for delta {number}" if len(summary.rules) > 1 else ""
        described = f": {found.description}" if found.description else ""
        yield from _section("rules", f"{found.origin}{which}{described}")
        yield from table([(str(i), text) for i, text in enumerate(found.rules, 1)], right={0})
    yield from _computed(summary)
    written = f"{counted(len(summary.outputs), 'file')}, {size(planned.write)}, into {planned.out}"
    yield from _section("write", written)
    yield from table([_output_row(o) for o in summary.outputs], right={1, 2})
    yield from _needs(planned)


def _side_text(side: Side) -> str:
    """``safetensors, 291 tensors``; where they are joined, of how many files."""
    joined = f", {side.joined} of them joined from {counted(side.files, 'file')}"
    return f"{side.format}, {counted(side.tensors, 'tensor')}{joined if side.joined else ''}"


def _section(title: str, text: str) -> Iterator[Line]:
    yield BLANK
    yield line(styled(title, "strong"), "  ", text)


def _computed(summary: Summary) -> Iterator[Line]:
    total = sum(group.tensors for group in summary.groups)
    nbytes = sum(group.bytes for group in summary.groups)
    yield from _section("compute", f"{counted(total, 'tensor')}, {size(nbytes)}")
    rows: list[tuple[str | Span, ...]] = [
        (str(g.tensors), g.dtype, size(g.bytes), g.rule) for g in summary.groups
    ]
    if summary.dropped:
        rows.append((str(len(summary.dropped)), "", "", "dropped"))
    yield from table(rows, right={0, 2})


def _output_row(output: Output) -> tuple[str, ...]:
    tensors = "" if output.tensors is None else counted(output.tensors, "tensor")
    return output.name, size(output.size), tensors


def _needs(planned: Planned) -> Iterator[Line]:
    yield BLANK
    memory = (
        f"about {size(planned.memory + INTERPRETER)}: {size(planned.memory)} of buffers with "
        f"{counted(planned.jobs, 'thread')}, and the interpreter"
    )
    disk = f"{size(planned.write)}, {size(planned.free)} are free"
    yield from table(
        [(styled("memory", "strong"), memory), (styled("disk", "strong"), disk)], indent=0
    )


def document(planned: Planned, summary: Summary) -> dict[str, Value]:
    """The fields of ``vbuild.plan/1``."""
    manifest = planned.prepared.loaded.manifest
    return {
        "name": manifest.name,
        "license": manifest.license,
        "manifest_sha256": planned.prepared.loaded.digest,
        "out": planned.out,
        "inputs": [{"name": i.label, "size": i.size, "hashing": i.hashing} for i in summary.inputs],
        "checkpoints": [
            {"name": s.label, "format": s.format, "tensors": s.tensors, "joined": s.joined}
            for s in summary.sides
        ],
        "rules": [
            {"origin": r.origin, "description": r.description, "rules": list(r.rules)}
            for r in summary.rules
        ],
        "tensors": [
            {"rule": g.rule, "dtype": g.dtype, "count": g.tensors, "bytes": g.bytes}
            for g in summary.groups
        ],
        "dropped": list(summary.dropped),
        "outputs": [
            {"name": o.name, "size": o.size, "tensors": o.tensors} for o in summary.outputs
        ],
        "read_bytes": planned.read,
        "write_bytes": planned.write,
        "hashed_bytes": planned.prepared.plan.hashed_bytes,
        "jobs": planned.jobs,
        "memory_bytes": planned.memory + INTERPRETER,
        "free_bytes": planned.free,
        "warnings": list(summary.warnings),
    }
