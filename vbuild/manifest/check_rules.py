"""What rules, presets and kinds of deltas must satisfy together.

- Every delta has rules: its own, or those of ``[apply]``, or its kind's default preset; a preset or
  a list, never both.
- A key without effect is an error, not a surprise: ``pad`` belongs to an addition, and so on.
- A preset is for deltas of one kind; ``merge`` is for adapters.
- Files that are XORed whole have no rules of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable

from vbuild.manifest.explain import nearest, quote
from vbuild.manifest.outline import KeyPath, Outline
from vbuild.manifest.presets import load_preset, preset_names
from vbuild.manifest.schema import DEFAULT_PRESETS, Apply, Delta, Manifest, Rule

__all__ = ["check_rules", "preset_of", "rules_of"]

_THAT_TAKE = ("add", "xor", "merge", "copy-base", "copy-delta")
"""Operations that take something, which may be missing."""


def rules_of(manifest: Manifest, delta_index: int) -> Delta | Apply | None:
    """The table that has the rules of a delta; None where no table has any."""
    if delta_index < len(manifest.delta):
        delta = manifest.delta[delta_index]
        if delta.preset is not None or delta.rule is not None:
            return delta
    return manifest.apply


def preset_of(manifest: Manifest, delta_index: int) -> str | None:
    """The preset of a delta, if only its kind's; None for rules that are written out."""
    chosen = rules_of(manifest, delta_index)
    if chosen is None and delta_index < len(manifest.delta):
        return DEFAULT_PRESETS.get(manifest.delta[delta_index].kind)
    return None if chosen is None else chosen.preset


def check_rules(manifest: Manifest, outline: Outline) -> None:
    """Raise InvalidInput, with file, line and key, for the first thing that is wrong."""
    apply = manifest.apply
    if apply is not None:
        _check_choice(apply.preset, apply.rule, ("apply",), outline)
        if apply.preset is None and not apply.rule:
            raise outline.error(
                "no-rules", ("apply",), "has no rules", expected="preset or [[apply.rule]]"
            )
    for i, delta in enumerate(manifest.delta):
        path: KeyPath = ("delta", i)
        _check_choice(delta.preset, delta.rule or (), path, outline)
        if rules_of(manifest, i) is None and preset_of(manifest, i) is None:
            raise outline.error(
                "no-rules",
                path,
                "nothing says how the delta is applied",
                expected="[apply] with a preset or rules",
                hint=f"the presets are {', '.join(_presets_for(delta.kind))}",
            )
        _check_kind(manifest, i, outline)


def _presets_for(kind: str) -> list[str]:
    return [name for name in preset_names() if load_preset(name).kind == kind]


def _check_choice(
    preset: str | None, rules: Iterable[Rule], path: KeyPath, outline: Outline
) -> None:
    if preset is not None and rules:
        raise outline.error(
            "preset-and-rules",
            (*path, "rule"),
            "a preset is a whole list of rules, nothing can be added to it",
            expected="preset or rule",
            hint="write the preset's rules out and change them",
        )
    if preset is not None and preset not in preset_names():
        raise outline.error(
            "unknown-preset",
            (*path, "preset"),
            "unknown preset",
            expected=" or ".join(map(quote, preset_names())),
            got=quote(preset),
            hint=nearest(preset, preset_names()),
        )
    for i, rule in enumerate(rules):
        _check_rule(rule, (*path, "rule", i), outline)


def _check_rule(rule: Rule, path: KeyPath, outline: Outline) -> None:
    for key, used, ops in (
        ("pad", rule.pad is not None, ("add",) if rule.pad == "mean" else ("add", "xor")),
        ("compute", rule.compute is not None, ("add", "merge")),
        ("on_shape_mismatch", rule.on_shape_mismatch != "error", ("add", "xor")),
        ("on_missing", rule.on_missing != "error", _THAT_TAKE),
    ):
        if used and rule.op not in ops:
            raise outline.error(
                "no-effect",
                (*path, key),
                f'has no effect with op = "{rule.op}"',
                expected=" or ".join(f'op = "{op}"' for op in ops),
            )


def _check_kind(manifest: Manifest, index: int, outline: Outline) -> None:
    """The rules of a delta are for its kind."""
    kind = manifest.delta[index].kind
    chosen, preset = rules_of(manifest, index), preset_of(manifest, index)
    path: KeyPath = ("delta", index) if chosen is manifest.delta[index] else ("apply",)
    if preset is not None and load_preset(preset).kind != kind:
        raise outline.error(
            "wrong-preset",
            (*path, "preset"),
            f'the preset {quote(preset)} is not for a delta of kind = "{kind}"',
            expected=" or ".join(map(quote, _presets_for(kind))),
        )
    if preset is not None or chosen is None:
        return
    for i, rule in enumerate(chosen.rule or ()):
        if kind == "xor-file" or (rule.op == "merge" and kind != "lora"):
            merge = rule.op == "merge"
            raise outline.error(
                "no-effect",
                (*path, "rule", i, "op"),
                f'has no effect on delta[{index}], which is of kind = "{kind}"',
                expected='kind = "lora"' if merge else "no rules: they are of tensors",
                hint="give this delta rules of its own: [[delta.rule]]" if merge else None,
            )
