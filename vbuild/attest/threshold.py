"""k of n: the same files, signed by at least k different trusted keys.

- What counts is a key, not a bundle: the same key twice counts once, and so does a key that is
  listed twice among the trusted ones.
- Bundles count together if they list the same names with the same digests: the subject's digest
  alone does not cover names. What a signer calls the model does not matter.
- A bundle that does not verify counts for nothing, and is reported with the reason.
- If two different models both reach the threshold, trusted signers contradict each other, and
  that is a no.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from vbuild.attest.keys import PublicKey, distinct
from vbuild.attest.oms import VerifiedModel, verify_bundle
from vbuild.errors import InvalidInput, Mismatch

__all__ = ["Agreement", "agree", "check_request"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A model, the fingerprints of all trusted keys that signed it, in the bundles' order, and
    why the bundles that do not verify count for nothing.

    ``model`` is what the first of the bundles says; only what all of them leave out is ignored.
    """

    model: VerifiedModel
    fingerprints: tuple[str, ...]
    refused: tuple[InvalidInput | Mismatch, ...]


def check_request(trusted: Sequence[PublicKey], threshold: int) -> None:
    """InvalidInput ``no-trusted-key`` or ``threshold-invalid`` for a request with no answer."""
    count = len(distinct(trusted))
    if count == 0:
        raise InvalidInput(
            "no-trusted-key",
            "there is no key to trust",
            hint="give the signer's public key with --key",
        )
    if threshold < 1:
        raise InvalidInput(
            "threshold-invalid", "the threshold is too low", expected="at least 1", got=threshold
        )
    if threshold > count:
        raise InvalidInput(
            "threshold-invalid",
            "the threshold is higher than the number of different trusted keys",
            expected=f"at most {count}",
            got=threshold,
        )


def agree(
    bundles: Sequence[tuple[str, bytes]],
    trusted: Sequence[PublicKey],
    *,
    threshold: int = 1,
    allow_ignored: Collection[str] = (),
) -> Agreement:
    """What at least ``threshold`` trusted keys say in ``bundles`` of (label, content).

    ``verify_bundle``'s error if the only bundle fails; Mismatch ``threshold-not-met`` or
    ``signers-disagree``; ``check_request``'s errors.
    """
    check_request(trusted, threshold)
    models: dict[tuple[tuple[str, str], ...], list[VerifiedModel]] = {}
    refused: list[InvalidInput | Mismatch] = []
    for where, content in bundles:
        try:
            model = verify_bundle(content, trusted, where=where, allow_ignored=allow_ignored)
        except (InvalidInput, Mismatch) as e:
            refused.append(e)
        else:
            models.setdefault(tuple(model.resources.items()), []).append(model)
    if len(bundles) == 1 and refused:
        raise refused[0]
    return _reaching(threshold, list(models.values()), tuple(refused))


def _reaching(
    threshold: int,
    groups: Sequence[Sequence[VerifiedModel]],
    refused: tuple[InvalidInput | Mismatch, ...],
) -> Agreement:
    """The one group of models with the same files that enough different keys signed."""
    keys = [tuple(dict.fromkeys(model.fingerprint for model in same)) for same in groups]
    enough = [i for i, signers in enumerate(keys) if len(signers) >= threshold]
    if len(enough) > 1:
        raise Mismatch(
            "signers-disagree",
            "trusted keys vouch for different files",
            expected=groups[enough[0]][0].root,
            got=groups[enough[1]][0].root,
        )
    if not enough:
        raise Mismatch(
            "threshold-not-met",
            "too few different trusted keys signed the same files",
            expected=threshold,
            got=max(map(len, keys), default=0),
            hint="; ".join(e.message for e in refused) or None,
        )
    same = groups[enough[0]]
    ignored = set(same[0].ignored).intersection(*(model.ignored for model in same))
    model = replace(same[0], ignored=tuple(sorted(ignored)))
    return Agreement(model, keys[enough[0]], refused)
