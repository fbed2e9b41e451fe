"""XOR of whole files, whatever is in them (OpenAssistant's xor_codec).

- Every file of the delta is XORed with the base's file of its name, byte by byte; the base counts
  as zero beyond its end, and what it has beyond the delta's end is only hashed.
- A file that the base does not have is an error: the original passes over it in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from vbuild.errors import InvalidInput
from vbuild.plan.lower import Draft, FileRef
from vbuild.plan.order import InputLayout
from vbuild.table import BYTES, Op, Segment, dense

__all__ = ["xor_drafts"]


def xor_drafts(inputs: Mapping[FileRef, InputLayout]) -> dict[str, Draft]:
    """How each output file is made, by name, in order. InvalidInput: ``no-base-file``."""
    drafts = {}
    for ref in sorted(inputs):
        if ref.group == 1:
            drafts[ref.file] = _draft(ref, inputs)
    return drafts


def _draft(payload: FileRef, inputs: Mapping[FileRef, InputLayout]) -> Draft:
    base = FileRef(0, payload.file)
    if base not in inputs:
        raise InvalidInput(
            "no-base-file",
            "the base has no file of this name to XOR it with",
            where=f"delta/{payload.file}",
            hint="list the base's file under [base.files], or leave this one out of [delta.files]",
        )
    draft = Draft()
    whole = inputs[payload].size
    shared = min(whole, inputs[base].size)
    if shared:
        a, dims = dense(draft.source(base), 0, shared)
        b, _ = dense(draft.source(payload), 0, shared)
        draft.segments.append(Segment(Op.XOR, dims, a, BYTES, BYTES, b, BYTES))
    if shared < whole:
        rest, dims = dense(draft.source(payload), shared, whole)
        draft.segments.append(Segment(Op.COPY, dims, rest, BYTES, BYTES))
    return draft
