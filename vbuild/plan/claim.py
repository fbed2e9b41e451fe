"""Which rule claims which tensor, and what the claimed tensor is made of.

- Every tensor of base and deltas is claimed by a rule, or the plan fails and lists those that are
  not; rules are read from the top and the first that matches claims (architecture: rules).
- Several deltas are a chain: the rules run for each in turn on what the ones before have made.
- Types or shapes that disagree are errors that name the key of a rule that would allow them.
- The result is symbolic: a :class:`Recipe` per output tensor, in code-point order of names. Nothing
  here reads data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from vbuild.errors import InvalidInput
from vbuild.manifest import Rule, glob_match
from vbuild.table import Op
from vbuild.tensors import DType, Tensor, TensorSpec

__all__ = [
    "Band",
    "Mean",
    "Product",
    "Recipe",
    "Ruleset",
    "Step",
    "View",
    "Zeros",
    "as_type",
    "claim",
    "copied",
]

LISTED = 12
"""How many tensors an error names before it only counts."""


@dataclass(frozen=True, slots=True)
class View:
    """Rows of an input tensor. ``group`` is 0 for the base and i for the i-th delta."""

    group: int
    spec: Tensor
    first_row: int = 0

    @property
    def dtype(self) -> DType:
        """Element type, as stored."""
        return self.spec.dtype


@dataclass(frozen=True, slots=True)
class Zeros:
    """Rows of +0 that no input has (``pad = "zero"``)."""

    dtype: DType


@dataclass(frozen=True, slots=True)
class Mean:
    """Rows that are each the mean of an input tensor's rows, in f32 (``pad = "mean"``).

    The order of the sum is torch's (numerics.md, new rows).
    """

    group: int
    spec: TensorSpec

    @property
    def dtype(self) -> DType:
        """Element type of the mean."""
        return DType.F32


@dataclass(frozen=True, slots=True)
class Product:
    """Rows of ``scale * left @ right``, a low-rank update in f32 (numerics.md, LoRA).

    ``left`` is (rows, rank) and ``right`` (rank, columns); a transposed factor is one whose strides
    are. ``scale`` is a value of f32.
    """

    group: int
    left: TensorSpec
    right: TensorSpec
    scale: float
    first_row: int = 0

    @property
    def dtype(self) -> DType:
        """Element type of the product."""
        return DType.F32


@dataclass(frozen=True, slots=True)
class Step:
    """``op`` with an operand; both sides are first converted to ``compute`` (None: as stored).

    For XOR ``compute`` is the type whose bit patterns the operand is combined with.
    """

    op: Op
    operand: View | Product
    compute: DType | None


@dataclass(frozen=True, slots=True)
class Band:
    """Rows ``[begin, end)`` of an output tensor: a start, then steps."""

    begin: int
    end: int
    start: View | Zeros | Mean
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one output tensor is made. ``rule`` tells a reader which rules claimed it.

    ``dtype`` is the type in the output; ``rounded`` the one that the result has before it is stored
    as that (None: it is the same).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    bands: tuple[Band, ...]
    rule: str = ""
    rounded: DType | None = None

    @property
    def rows(self) -> int:
        """Extent of the first dimension (1 for a scalar)."""
        return self.shape[0] if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the output."""
        return self.dtype.size_of(prod(self.shape))


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The rules of one delta; ``warn_unused`` is off for presets (bad-inputs.md, 15)."""

    rules: tuple[Rule, ...]
    warn_unused: bool = True


class _Disagreement(Exception):
    """One tensor that its rule cannot be applied to."""

    def __init__(self, name: str, why: str, hint: str) -> None:
        super().__init__(why)
        self.name = name
        self.why = why
        self.hint = hint


def copied(group: int, spec: Tensor, rule: str = "copy") -> Recipe:
    """The recipe that takes a tensor as it is."""
    rows = spec.shape[0] if spec.shape else 1
    return Recipe(spec.name, spec.dtype, spec.shape, (Band(0, rows, View(group, spec)),), rule)


def claim(
    base: Mapping[str, Tensor],
    deltas: Sequence[Mapping[str, Tensor]],
    rulesets: Sequence[Ruleset],
    output_dtype: DType | None,
) -> tuple[dict[str, Recipe], list[str]]:
    """Recipes of all output tensors by name, and warnings.

    ``rulesets`` has one entry per delta. Without deltas, a single ruleset (or none) may still copy
    and drop. InvalidInput: ``unclaimed-tensors``, ``tensors-disagree``.
    """
    state = {name: copied(0, spec, "copy-base") for name, spec in base.items()}
    warnings: list[str] = []
    if rulesets and not deltas:
        deltas = [{}]
    for group, (delta, ruleset) in enumerate(zip(deltas, rulesets, strict=True), start=1):
        state, unused = _apply(state, group, delta, ruleset.rules)
        if ruleset.warn_unused:
            warnings += [f"the pattern {pattern!r} claims no tensor" for pattern in unused]
    return as_type({name: state[name] for name in sorted(state)}, output_dtype), warnings


def as_type(recipes: Mapping[str, Recipe], dtype: DType | None) -> dict[str, Recipe]:
    """``recipes`` with results of ``dtype``, where they are numbers; None changes nothing."""
    return {
        name: recipe
        if dtype is None or not recipe.dtype.is_arithmetic
        else replace(recipe, dtype=dtype)
        for name, recipe in recipes.items()
    }


def _apply(
    state: Mapping[str, Recipe], group: int, delta: Mapping[str, Tensor], rules: Sequence[Rule]
) -> tuple[dict[str, Recipe], list[str]]:
    """One delta's rules over everything that is there; and the rules that claimed nothing."""
    made: dict[str, Recipe] = {}
    unclaimed: list[str] = []
    problems: list[_Disagreement] = []
    used: set[int] = set()
    for name in sorted(state.keys() | delta.keys()):
        index = _first_match(rules, name)
        if index is None:
            unclaimed.append(name)
            continue
        used.add(index)
        try:
            recipe = _combine(name, state.get(name), group, delta.get(name), rules[index])
        except _Disagreement as problem:
            problems.append(problem)
            continue
        if recipe is not None:
            made[name] = recipe
    if unclaimed:
        raise InvalidInput(
            "unclaimed-tensors",
            f"no rule claims {len(unclaimed)} tensor(s): {_listed(unclaimed)}",
            hint='add an [[apply.rule]] that matches them, with op = "add", "xor", "copy-base", '
            '"copy-delta" or "drop"',
        )
    if problems:
        raise _disagreements(problems)
    return made, [", ".join(r.patterns) for i, r in enumerate(rules) if i not in used]


def _first_match(rules: Sequence[Rule], name: str) -> int | None:
    for i, rule in enumerate(rules):
        if any(glob_match(pattern, name) for pattern in rule.patterns):
            return i
    return None


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _disagreements(problems: Sequence[_Disagreement]) -> InvalidInput:
    """One error for all tensors that share the first one's reason to fail."""
    first = problems[0]
    same = [p.name for p in problems[1:] if p.hint == first.hint]
    also = f"; so do {len(same)} more: {_listed(same)}" if same else ""
    return InvalidInput("tensors-disagree", f"{first.why}{also}", where=first.name, hint=first.hint)


def _combine(
    name: str, have: Recipe | None, group: int, delta: Tensor | None, rule: Rule
) -> Recipe | None:
    """What becomes of one tensor under its rule; None if it is dropped."""
    label = f"{rule.op} ({rule.patterns[0]})"
    if rule.op == "drop":
        return None
    needs_base = rule.op != "copy-delta"
    needs_delta = rule.op != "copy-base"
    if (needs_base and have is None) or (needs_delta and delta is None):
        return _missing(name, have, group, delta, rule)
    if rule.op == "copy-base":
        return have
    assert delta is not None
    if rule.op == "copy-delta":
        return copied(group, delta, label)
    assert have is not None
    return _arithmetic(have, group, delta, rule, label)


def _missing(
    name: str, have: Recipe | None, group: int, delta: Tensor | None, rule: Rule
) -> Recipe | None:
    side = "the base" if have is None else "the delta"
    if rule.on_missing == "drop":
        return None
    if rule.on_missing == "copy":
        return have if delta is None else copied(group, delta, "copy-delta (on_missing)")
    raise _Disagreement(
        name,
        f"{side} has no such tensor, and the rule for {rule.patterns[0]!r} has to {rule.op} it",
        'allow it with on_missing = "copy" or "drop" in the rule, or claim it by a rule of its own',
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _arithmetic(have: Recipe, group: int, delta: Tensor, rule: Rule, label: str) -> Recipe:
    """``have`` with an add or xor step, padded where the rule says so."""
    if have.shape != delta.shape and rule.on_shape_mismatch == "copy-delta":
        return copied(group, delta, "copy-delta (on_shape_mismatch)")
    compute = _check_types(have, delta, rule)
    _check_shapes(have, delta, rule)
    step = Op.ADD if rule.op == "add" else Op.XOR
    bands = [
        replace(
            band,
            steps=(*band.steps, Step(step, View(group, delta, band.begin), compute)),
        )
        for band in have.bands
    ]
    if have.shape != delta.shape:
        begin, end = have.rows, delta.shape[0]
        new = View(group, delta, begin)
        if rule.pad == "zero":
            bands.append(Band(begin, end, Zeros(have.dtype), (Step(step, new, compute),)))
        else:
            bands.append(Band(begin, end, new))
        label += f", rows {begin}..{end - 1} from {rule.pad}"
    return replace(have, shape=delta.shape, bands=tuple(bands), rule=label)


def _check_types(have: Recipe, delta: Tensor, rule: Rule) -> DType | None:
    """``Step.compute`` for the step that ``rule`` asks for."""
    if rule.op == "xor":
        if have.dtype.itemsize != delta.dtype.itemsize:
            raise _Disagreement(
                have.name,
                f"cannot xor {have.dtype} with {delta.dtype}: the element sizes differ",
                'use op = "copy-base" or "copy-delta" for it',
            )
        return have.dtype
    for side, dtype in (("base", have.dtype), ("delta", delta.dtype)):
        if not dtype.is_arithmetic:
            raise _Disagreement(
                have.name,
                f"addition is not defined for the {side}'s type {dtype}",
                'claim it by a rule with op = "copy-base", "copy-delta", "xor" or "drop"',
            )
    if rule.compute is None and have.dtype is not delta.dtype:
        raise _Disagreement(
            have.name,
            f"the base has {have.dtype} and the delta has {delta.dtype}",
            'if this is meant, say how to add them: compute = "float16", "bfloat16", "float32" or '
            '"as-stored" in the rule',
        )
    if rule.compute is None:  # the type that both have, also where an earlier delta left another
        return have.dtype
    return None if rule.compute == "as-stored" else DType.from_long_name(rule.compute)


def _check_shapes(have: Recipe, delta: Tensor, rule: Rule) -> None:
    if have.shape == delta.shape:
        return
    more_rows = (
        len(have.shape) == len(delta.shape) > 0
        and have.shape[1:] == delta.shape[1:]
        and have.shape[0] < delta.shape[0]
    )
    if rule.pad is not None and more_rows:
        return
    hint = (
        "the base is probably not the one that the delta was made for; if it is, allow it with "
        'on_shape_mismatch = "copy-delta" in the rule, or claim it by another rule'
    )
    if more_rows:
        hint = (
            f"the delta has {delta.shape[0] - have.shape[0]} more row(s); say what they start "
            'from: pad = "zero" or "delta" in the rule'
        )
    raise _Disagreement(
        have.name,
        f"the base has shape {_shape(have.shape)} and the delta has {_shape(delta.shape)}",
        hint,
    )
