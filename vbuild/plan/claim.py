"""Which rule claims which tensor.

- Every tensor of base and deltas is claimed by a rule, or the plan fails and lists those that are
  not; rules are read from the top and the first that matches claims (architecture: rules).
- Several deltas are a chain: the rules run for each in turn on what the ones before have made.
- What a claimed tensor becomes is said in :mod:`vbuild.plan.combine`.
- The result is symbolic: a :class:`Recipe` per output tensor, in code-point order of names. Nothing
  here reads data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vbuild.errors import InvalidInput
from vbuild.manifest import Rule, glob_match
from vbuild.plan.combine import Disagreement, combine
from vbuild.plan.recipe import Recipe, View, copied
from vbuild.tensors import DType, LowRankSpec, Tensor, TensorSpec

__all__ = ["Change", "Ruleset", "claim"]

Change = Tensor | LowRankSpec
"""What a delta has for a tensor."""

LISTED = 12
"""How many tensors an error names before it only counts."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The rules of one delta; ``warn_unused`` is off for presets (bad-inputs.md, 15)."""

    rules: tuple[Rule, ...]
    warn_unused: bool = True


def claim(
    base: Mapping[str, Tensor],
    deltas: Sequence[Mapping[str, Change]],
    rulesets: Sequence[Ruleset],
    output_dtype: DType | None,
) -> tuple[dict[str, Recipe], list[str]]:
    """Recipes of all output tensors by name, and warnings.

    ``rulesets`` has one entry per delta. Without deltas, a single ruleset (or none) may still copy
    and drop. InvalidInput: ``unclaimed-tensors``, ``tensors-disagree``, ``tied-tensors``.
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
    state: Mapping[str, Recipe], group: int, delta: Mapping[str, Change], rules: Sequence[Rule]
) -> tuple[dict[str, Recipe], list[str]]:
    """One delta's rules over everything that is there; and the rules that claimed nothing."""
    made: dict[str, Recipe] = {}
    unclaimed: list[str] = []
    problems: list[Disagreement] = []
    used: set[int] = set()
    for name in sorted(state.keys() | delta.keys()):
        index = _first_match(rules, name)
        if index is None:
            unclaimed.append(name)
            continue
        used.add(index)
        try:
            recipe = combine(name, state.get(name), group, delta.get(name), rules[index])
        except Disagreement as problem:
            problems.append(problem)
            continue
        if recipe is not None:
            made[name] = recipe
    if unclaimed:
        raise InvalidInput(
            "unclaimed-tensors",
            f"no rule claims {len(unclaimed)} tensor(s): {_listed(unclaimed)}",
            hint='add an [[apply.rule]] that matches them, with op = "add", "xor", "merge", '
            '"copy-base", "copy-delta" or "drop"',
        )
    if problems:
        raise _disagreements(problems)
    _check_tied(made, delta)
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


def _disagreements(problems: Sequence[Disagreement]) -> InvalidInput:
    """One error for all tensors that share the first one's reason to fail."""
    first = problems[0]
    same = [p.name for p in problems[1:] if p.hint == first.hint]
    also = f"; so do {len(same)} more: {_listed(same)}" if same else ""
    return InvalidInput("tensors-disagree", f"{first.why}{also}", where=first.name, hint=first.hint)


def _check_tied(made: Mapping[str, Recipe], delta: Mapping[str, Change]) -> None:
    """Refuse to merge into one of two tensors that are one (``tied-tensors``).

    Where a checkpoint stores a matrix under two names, models tie the two: whoever merges into a
    model in memory changes both, and here one would stay behind.
    """
    changed = {name for name in made if isinstance(delta.get(name), LowRankSpec)}
    names: dict[View, list[str]] = defaultdict(list)
    for name in sorted(made) if changed else ():
        start = made[name].bands[0].start
        if isinstance(start, View) and isinstance(start.spec, TensorSpec):
            names[replace(start, spec=replace(start.spec, name=""))].append(name)
    for tied in names.values():
        first = next((name for name in tied if name in changed), None)
        if first is not None and len({made[name].bands[0].steps for name in tied}) > 1:
            other = next(n for n in tied if made[n].bands[0].steps != made[first].bands[0].steps)
            raise InvalidInput(
                "tied-tensors",
                f"the base has one matrix for it and for {other}, and the adapter does not change "
                "both alike",
                where=first,
                hint=f"if the model ties them, leave one out by a rule before the others: "
                f'match = "{other}", op = "drop"',
            )
