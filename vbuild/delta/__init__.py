"""Deltas from the publisher's side: base and target in, a pinned delta out.

- ``rules`` says what is done with each tensor, ``text`` writes the manifest, ``again`` applies the
  delta and compares, ``publish`` is the front.
"""

from vbuild.delta.publish import MANIFEST_NAME, Made, Wanted, make
from vbuild.delta.rules import DeltaOp, DeltaRule

__all__ = ["MANIFEST_NAME", "DeltaOp", "DeltaRule", "Made", "Wanted", "make"]
