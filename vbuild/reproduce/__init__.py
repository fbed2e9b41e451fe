"""Rebuilding under varied conditions, and comparing what comes out.

- A rebuild is a child process: a condition such as the locale or the hash seed is one of the
  process, and a fault in one build cannot hide in the memory of the next.
- What differs is data; whether there is a difference is the answer, not an error. A rebuild that
  fails is an error: the child's own, with its exit status.
"""

from vbuild.reproduce.against import parse_sums, reference
from vbuild.reproduce.children import Request, vbuild_command
from vbuild.reproduce.compare import Difference, Observation, differences
from vbuild.reproduce.rebuild import rebuild_all
from vbuild.reproduce.variants import CONDITIONS, Variant, variants

__all__ = [
    "CONDITIONS",
    "Difference",
    "Observation",
    "Request",
    "Variant",
    "differences",
    "parse_sums",
    "rebuild_all",
    "reference",
    "variants",
    "vbuild_command",
]
