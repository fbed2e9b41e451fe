"""What one tensor becomes under the rule that claims it.

- An operand is the delta's tensor, or the product that an adapter has for it; both are taken row by
  row, so that new rows can be made of something else (numerics.md, new rows).
- An adapter's saved modules replace the base's, in the base's type; its low-rank updates are added
  with one rounding (numerics.md, LoRA).
- Types or shapes that disagree are errors that name the key of a rule that would allow them.
"""

from __future__ import annotations

from dataclasses import replace

from vbuild.manifest import Rule
from vbuild.plan.recipe import Band, Mean, Product, Recipe, Step, View, Zeros, copied
from vbuild.table import Op
from vbuild.tensors import DType, LowRankSpec, Tensor, TensorSpec

__all__ = ["Disagreement", "combine"]


class Disagreement(Exception):
    """One tensor that its rule cannot be applied to."""

    def __init__(self, name: str, why: str, hint: str) -> None:
        """``why`` and ``hint`` are those of the error that it becomes."""
        super().__init__(why)
        self.name = name
        self.why = why
        self.hint = hint


def combine(
    name: str, have: Recipe | None, group: int, delta: Tensor | LowRankSpec | None, rule: Rule
) -> Recipe | None:
    """What becomes of one tensor under its rule; None if it is dropped.

    ``have`` is what the base and the deltas before have made of it, ``delta`` what the delta
    ``group`` has for it. Raises Disagreement.
    """
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
    if rule.op == "merge":
        assert have is not None
        return _merge(have, group, delta, rule, label)
    if isinstance(delta, LowRankSpec):
        raise Disagreement(
            name,
            f"the delta has a low-rank update of it, and the rule for {rule.patterns[0]!r} has to "
            f"{rule.op} a tensor",
            'take op = "merge" for it',
        )
    if rule.op == "copy-delta":
        return copied(group, delta, label)
    assert have is not None
    return _arithmetic(have, group, delta, rule, label)


def _missing(
    name: str, have: Recipe | None, group: int, delta: Tensor | LowRankSpec | None, rule: Rule
) -> Recipe | None:
    side, other = ("base", "delta") if have is None else ("delta", "base")
    if rule.on_missing == "drop":
        return None
    if isinstance(delta, LowRankSpec):
        raise Disagreement(
            name,
            "the adapter changes a tensor that the base does not have",
            "look for the base that the adapter was made for; if the base ties this one to "
            'another, leave it out: op = "drop" in a rule',
        )
    if rule.on_missing in ("copy", f"copy-{other}"):
        return have if delta is None else copied(group, delta, "copy-delta (on_missing)")
    raise Disagreement(
        name,
        f"the {side} has no such tensor, and the rule for {rule.patterns[0]!r} has to {rule.op} it",
        'allow it with on_missing = "copy" or "drop" in the rule, or claim it by a rule of its own',
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


# ---- op = "add", op = "xor" ----


def _arithmetic(have: Recipe, group: int, delta: Tensor, rule: Rule, label: str) -> Recipe:
    """``have`` with an add or xor step, padded where the rule says so."""
    grows = rule.pad is not None and _has_more_rows(have.shape, delta.shape)
    if have.shape != delta.shape and not grows and rule.on_shape_mismatch == "copy-delta":
        return copied(group, delta, "copy-delta (on_shape_mismatch)")
    compute = _check_types(have, delta, rule)
    if have.shape != delta.shape and not grows:
        raise _shapes_differ(have, delta)
    op = Op.ADD if rule.op == "add" else Op.XOR
    bands = [
        replace(band, steps=(*band.steps, Step(op, View(group, delta, band.begin), compute)))
        for band in have.bands
    ]
    if grows:
        begin, end = have.rows, delta.shape[0]
        new = View(group, delta, begin)
        if rule.pad == "delta":
            bands.append(Band(begin, end, new))
        else:
            start = Zeros(have.dtype) if rule.pad == "zero" else _mean(have)
            bands.append(Band(begin, end, start, (Step(op, new, compute),)))
        label += f", rows {begin}..{end - 1} from {rule.pad}"
    return replace(have, shape=delta.shape, bands=tuple(bands), rule=label)


def _check_types(have: Recipe, delta: Tensor, rule: Rule) -> DType | None:
    """``Step.compute`` for the step that ``rule`` asks for."""
    if rule.op == "xor":
        if have.dtype.itemsize != delta.dtype.itemsize:
            raise Disagreement(
                have.name,
                f"cannot xor {have.dtype} with {delta.dtype}: the element sizes differ",
                'use op = "copy-base" or "copy-delta" for it',
            )
        return have.dtype
    for side, dtype in (("base", have.dtype), ("delta", delta.dtype)):
        if not dtype.is_arithmetic:
            raise Disagreement(
                have.name,
                f"addition is not defined for the {side}'s type {dtype}",
                'claim it by a rule with op = "copy-base", "copy-delta", "xor" or "drop"',
            )
    if rule.compute is None and have.dtype is not delta.dtype:
        raise Disagreement(
            have.name,
            f"the base has {have.dtype} and the delta has {delta.dtype}",
            'if this is meant, say how to add them: compute = "float16", "bfloat16", "float32" or '
            '"as-stored" in the rule',
        )
    if rule.compute is None:  # the type that both have, also where an earlier delta left another
        return have.dtype
    return _compute(rule)


def _compute(rule: Rule) -> DType | None:
    """The type that both operands are converted to, or None where they are not."""
    as_stored = rule.compute in (None, "as-stored")
    return None if as_stored else DType.from_long_name(str(rule.compute))


def _has_more_rows(have: tuple[int, ...], delta: tuple[int, ...]) -> bool:
    return len(have) == len(delta) > 0 and have[1:] == delta[1:] and have[0] < delta[0]


def _shapes_differ(have: Recipe, delta: Tensor) -> Disagreement:
    hint = (
        "the base is probably not the one that the delta was made for; if it is, allow it with "
        'on_shape_mismatch = "copy-delta" in the rule, or claim it by another rule'
    )
    if _has_more_rows(have.shape, delta.shape):
        hint = (
            f"the delta has {delta.shape[0] - have.shape[0]} more row(s); say what they start "
            'from: pad = "zero", "mean" or "delta" in the rule, or a preset that does'
        )
    elif _has_more_rows(delta.shape, have.shape):
        hint = (
            f"the base has {have.shape[0] - delta.shape[0]} more row(s): somebody has added or "
            "padded them; take the base as it was published"
        )
    return Disagreement(
        have.name,
        f"the base has shape {_shape(have.shape)} and the delta has {_shape(delta.shape)}",
        hint,
    )


def _mean(have: Recipe) -> Mean:
    """The mean of all rows of ``have``, which has to be a matrix as one input stores it."""
    first = have.bands[0]
    if len(have.bands) == 1 and not first.steps and isinstance(first.start, View):
        spec = first.start.spec
        plain = isinstance(spec, TensorSpec) and len(spec.shape) == 2 and not spec.dims
        if isinstance(spec, TensorSpec) and plain and spec.count and spec.dtype is not DType.F64:
            return Mean(first.start.group, spec)
    raise Disagreement(
        have.name,
        "the mean of its rows is not to be had: they are not one matrix of one file, not empty, in "
        "float16, bfloat16 or float32, that no delta before has changed",
        'take pad = "zero" or "delta", or convert the base to Hugging Face files first',
    )


# ---- op = "merge" ----


def _merge(have: Recipe, group: int, delta: Tensor | LowRankSpec, rule: Rule, label: str) -> Recipe:
    """``have`` with what an adapter has for it."""
    if not isinstance(delta, LowRankSpec):
        return _replaced(have, group, delta, f"{label}: saved module")
    if delta.weight is not None:
        if delta.weight.dtype is not have.dtype and rule.compute is None:
            raise Disagreement(
                have.name,
                f"the base has {have.dtype} and the adapter's own copy has {delta.weight.dtype}",
                'if this is meant, say how to merge: compute = "float32" or "as-stored" in the '
                "rule",
            )
        have = _replaced(have, group, delta.weight, label)
    if have.shape != delta.shape:
        raise Disagreement(
            have.name,
            f"the base has shape {_shape(have.shape)} and the adapter's update has "
            f"{_shape(delta.shape)}",
            "the adapter was made for another base, or fan_in_fan_out in its configuration is not "
            "what it says",
        )
    if not have.dtype.is_arithmetic:
        raise Disagreement(
            have.name,
            f"addition is not defined for the base's type {have.dtype}",
            "take the base as it was before it was quantized",
        )
    compute = _compute(rule)
    bands = []
    for band in have.bands:
        product = Product(group, delta.left, delta.right, delta.scale, band.begin)
        bands.append(replace(band, steps=(*band.steps, Step(Op.ADD, product, compute))))
    rank = delta.left.shape[1]
    return replace(have, bands=tuple(bands), rule=f"{label}: rank {rank}")


def _replaced(have: Recipe, group: int, saved: Tensor, label: str) -> Recipe:
    """``saved`` in the place of ``have``, in its type; it may have more rows."""
    if have.shape != saved.shape and not _has_more_rows(have.shape, saved.shape):
        raise Disagreement(
            have.name,
            f"the base has shape {_shape(have.shape)} and the adapter's saved module has "
            f"{_shape(saved.shape)}",
            'the adapter was made for another base; if not, take op = "copy-delta" for it',
        )
    convertible = have.dtype.is_arithmetic and saved.dtype.is_arithmetic
    if have.dtype is not saved.dtype and not convertible:
        raise Disagreement(
            have.name,
            f"{saved.dtype} cannot be converted to the base's type {have.dtype}",
            'take op = "copy-delta" for it',
        )
    return replace(copied(group, saved, label), name=have.name, dtype=have.dtype)
