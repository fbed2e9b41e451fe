"""What differs between two checkpoints of any container and sharding, as data.

- ``side`` opens one of them; ``compare`` matches tensors and holds the result; ``measure`` runs the
  core over those that both have; ``names`` knows layers and modules, for whoever shows the result.
- A difference is a result, not an error.
"""

from vbuild.diff.compare import Comparison, Measured, Pair, Status, Summary
from vbuild.diff.measure import compare
from vbuild.diff.names import Place, Stack, arrange, place
from vbuild.diff.side import Side, open_side

__all__ = [
    "Comparison",
    "Measured",
    "Pair",
    "Place",
    "Side",
    "Stack",
    "Status",
    "Summary",
    "arrange",
    "compare",
    "open_side",
    "place",
]
