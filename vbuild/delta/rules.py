"""What a delta consists of, and the rules of the manifest that apply it again.

- A tensor that both have, in one shape: ``target - base`` (rounded to nearest even, numerics.md) or
  the XOR of the bit patterns. Types without arithmetic are always XORed.
- More rows in the target (new pieces of the vocabulary): the new rows stand in the delta as they
  are (``pad = "delta"``), so they come back exactly.
- Any other shape, or types that cannot be added: the target's tensor, whole (``copy-delta``).
- In the target only: copied into the delta. In the base only: dropped by a rule.
- Types that differ are added in the target's type, which then is the output's; that needs a target
  of one type. There is no exact delta between types.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vbuild.delta.groups import BASE, TARGET
from vbuild.errors import InvalidInput
from vbuild.manifest import Rule, glob_match
from vbuild.plan.recipe import Band, Recipe, Step, View, copied
from vbuild.table import Op
from vbuild.tensors import DType, Tensor

__all__ = ["DeltaOp", "DeltaRule", "Drafted", "draft"]

DeltaOp = Literal["add", "xor"]

MAX_GLOB: Final = 1000
"""Characters; a longer name cannot stand in a manifest."""

_OUTPUT_TYPES = (DType.F16, DType.BF16, DType.F32)
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is done with a tensor: the keys of the rule that claims it."""

    op: Literal["add", "xor", "copy-delta", "drop"]
    pad: bool = False
    compute: DType | None = None


@dataclass(frozen=True, slots=True)
class DeltaRule:
    """A rule of the manifest, and how many tensors it claims."""

    rule: Rule
    tensors: int


@dataclass(frozen=True, slots=True)
class Drafted:
    """``recipes`` of the delta's tensors by name (group 0 is the base, 1 the target); the rules
    that apply it; and the output's element type, where the base's has to change."""

    recipes: Mapping[str, Recipe]
    rules: tuple[DeltaRule, ...]
    output_dtype: DType | None


def draft(base: Mapping[str, Tensor], target: Mapping[str, Tensor], op: DeltaOp) -> Drafted:
    """The delta from ``base`` to ``target``.

    InvalidInput: ``delta-types`` where types differ in a way that no rule can express,
    ``delta-name`` for a name that no rule can match, ``nothing-in-common``.
    """
    shared = base.keys() & target.keys()
    if not shared:
        raise InvalidInput(
            "nothing-in-common",
            "base and target have no tensor in common",
            hint="give both in one naming; a delta would be the target itself",
        )
    dtype = _output_dtype(base, target, op)
    kinds: dict[str, _Kind] = {}
    recipes: dict[str, Recipe] = {}
    for name in sorted(base.keys() | target.keys()):
        if name not in target:
            kinds[name] = _Kind("drop")
            continue
        one, other = base.get(name), target[name]
        kinds[name] = _Kind("copy-delta") if one is None else _kind(one, other, op)
        recipes[name] = _recipe(kinds[name], one, other)
    return Drafted(recipes, _rules(kinds, op), dtype)


def _output_dtype(
    base: Mapping[str, Tensor], target: Mapping[str, Tensor], op: DeltaOp
) -> DType | None:
    """The target's type, where it is not the base's; None where every tensor keeps its own."""
    changed = [
        name
        for name in sorted(base.keys() & target.keys())
        if base[name].dtype is not target[name].dtype
        and base[name].dtype.is_arithmetic
        and target[name].dtype.is_arithmetic
    ]
    if not changed:
        return None
    types = {t.dtype for t in target.values() if t.dtype.is_arithmetic}
    first = changed[0]
    found = f"{base[first].dtype} in the base and {target[first].dtype} in the target"
    if op == "xor":
        raise InvalidInput(
            "delta-types",
            "there is no exact delta between two element types",
            where=first,
            got=found,
            hint="convert one of the two first, or use --op add",
        )
    (only, *more) = sorted(types, key=lambda t: t.rank)
    if more or only not in _OUTPUT_TYPES:
        raise InvalidInput(
            "delta-types",
            "where base and target differ in type, the target has to have one type only",
            where=first,
            expected=" or ".join(map(str, _OUTPUT_TYPES)),
            got=f"{found}; in the target {', '.join(map(str, (only, *more)))}",
            hint="convert the target to one type first",
        )
    return only


def _kind(base: Tensor, target: Tensor, op: DeltaOp) -> _Kind:
    arithmetic = base.dtype.is_arithmetic and target.dtype.is_arithmetic
    if base.dtype is not target.dtype and not arithmetic:
        return _Kind("copy-delta")
    how: DeltaOp = op if arithmetic else "xor"
    compute = target.dtype if base.dtype is not target.dtype else None
    if base.shape == target.shape:
        return _Kind(how, compute=compute)
    more_rows = (
        len(base.shape) == len(target.shape) > 0
        and base.shape[1:] == target.shape[1:]
        and 0 < base.shape[0] < target.shape[0]
    )
    return _Kind(how, pad=True, compute=compute) if more_rows else _Kind("copy-delta")


def _recipe(kind: _Kind, base: Tensor | None, target: Tensor) -> Recipe:
    """How the delta's tensor is made; what is not changed keeps the target's type and shape."""
    if base is None or kind.op == "copy-delta":
        return copied(TARGET, target)
    op = Op.SUB if kind.op == "add" else Op.XOR
    rows = base.shape[0] if base.shape else 1
    step = Step(op, View(BASE, base), target.dtype)
    bands = [Band(0, rows, View(TARGET, target), (step,))]
    if kind.pad:
        bands.append(Band(rows, target.shape[0], View(TARGET, target, rows)))
    return Recipe(target.name, target.dtype, target.shape, tuple(bands))


def _rules(kinds: Mapping[str, _Kind], op: DeltaOp) -> tuple[DeltaRule, ...]:
    """Rules that claim every tensor as ``kinds`` says; the last one claims what is left."""
    counts = Counter(kinds.values())
    usual = max(counts, key=lambda k: (k.op == op, not k.pad, counts[k], repr(k)))
    special = sorted((kind for kind in counts if kind != usual), key=_order)
    rules = [
        _rule(kind, _patterns([n for n in kinds if kinds[n] == kind], kinds)) for kind in special
    ]
    rules.append(_rule(usual, ("*",)))
    _check(rules, [*special, usual], kinds)
    return tuple(
        DeltaRule(rule, counts[kind]) for rule, kind in zip(rules, [*special, usual], strict=True)
    )


def _order(kind: _Kind) -> tuple[int, bool, str]:
    return ("drop", "copy-delta", "xor", "add").index(kind.op), kind.pad, str(kind.compute)


def _rule(kind: _Kind, patterns: Sequence[str]) -> Rule:
    return Rule(
        match=patterns[0] if len(patterns) == 1 else tuple(patterns),
        op=kind.op,
        pad="delta" if kind.pad else None,
        compute=None if kind.compute is None or kind.op != "add" else kind.compute.long_name,  # type: ignore[arg-type] # one of _OUTPUT_TYPES
    )


def _patterns(names: Sequence[str], every: Mapping[str, _Kind]) -> list[str]:
    """Globs for ``names``, all of one kind: layers by ``*`` where that claims no other."""
    wanted = every[names[0]]
    patterns: dict[str, None] = {}
    refused: set[str] = set()
    for name in names:
        pattern = _NUMBER.sub("*", name)
        if pattern != name and pattern not in patterns and pattern not in refused:
            claimed = (kind for other, kind in every.items() if glob_match(pattern, other))
            if any(kind != wanted for kind in claimed):
                refused.add(pattern)
        patterns[name if pattern in refused else pattern] = None
    return list(patterns)


def _check(rules: Sequence[Rule], meant: Sequence[_Kind], kinds: Mapping[str, _Kind]) -> None:
    """Names are from strangers: one may read as a glob, or be no legal one."""
    for rule, kind in zip(rules, meant, strict=True):
        for pattern in rule.patterns:
            if len(pattern) > MAX_GLOB or any(c in "[]" for c in pattern):
                raise _bad_name(pattern)
            if pattern == "*" and rule is rules[-1]:
                continue
            plain = "*" not in pattern and "?" not in pattern
            for name in () if plain else kinds:
                if glob_match(pattern, name) and kinds[name] != kind:
                    raise _bad_name(pattern)


def _bad_name(name: str) -> InvalidInput:
    return InvalidInput(
        "delta-name",
        "no rule of a manifest can name this tensor alone",
        where=name,
        expected=f"no brackets, * or ?, and at most {MAX_GLOB} characters",
        hint="rename the tensor in base and target",
    )
