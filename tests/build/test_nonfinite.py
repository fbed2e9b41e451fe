"""vbuild.build.nonfinite: where and how a result became one that is not finite."""

from __future__ import annotations

import pytest

from vbuild._core import Fault
from vbuild.build.nonfinite import nonfinite_error
from vbuild.plan import OutputFile
from vbuild.plan.recipe import Recipe
from vbuild.plan.order import Program
from vbuild.table import AS_STORED, BLOCK_TYPES, NOTHING, Op, Operand, Segment, Table
from vbuild.tensors import DType

F16, BF16, F32 = 0, 1, 2
ZERO = Operand(Operand.ZERO)


def output(*segments: Segment) -> OutputFile:
    """A tensor ``t`` of shape [4, 32] that these segments make."""
    table = Table((), segments)
    return OutputFile("f", 0, Program(table, ()), (Recipe("t", DType.F16, (4, 32), ()),), 0)


def segment(op: Op, a_type: int, out: int, b_type: int = F16, rows: int = 4) -> Segment:
    b = NOTHING if op is Op.COPY else ZERO
    return Segment(op, (1, 1, rows, 32), ZERO, a_type, out, b, b_type, AS_STORED, 0)


CASES = [
    (segment(Op.ADD, F16, F16), (0x7BFF, 0x7BFF, 0x7C00), "65504 + 65504 = inf"),
    (segment(Op.SUB, F16, BF16, F32), (0x7BFF, 0x7F800000, 0xFF80), "65504 - inf = -inf"),
    (segment(Op.COPY, F32, F16), (0x47C35000, 0, 0x7C00), "100000 converted = inf"),
    (segment(Op.COPY, F32, BLOCK_TYPES["Q8_0"]), (0x7F800000, 0, 0x7E00),
     "inf in a block whose scale = nan"),
    (segment(Op.COPY, F16, BLOCK_TYPES["Q4_1"]), (0x7BFF, 0, 0x7C00),
     "65504 in a block whose scale = inf"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "bits", "formula"), CASES)
def test_the_element_is_named_with_its_operands_and_its_result(
    one: Segment, bits: tuple[int, int, int], formula: str
) -> None:
    error = nonfinite_error(output(one), Fault("nonfinite", 0, 0, 0, 70, bits))
    assert (error.code, error.where) == ("nonfinite-result", "t")
    assert error.message.startswith(f"t: element [2, 6] is not finite: {formula}")


def test_an_index_counts_the_chains_before_it() -> None:
    copied = segment(Op.COPY, F16, F16, rows=1)
    added = segment(Op.ADD, F16, F16, rows=2)
    bits = (0x7BFF, 0x7BFF, 0x7C00)
    error = nonfinite_error(output(copied, copied, added), Fault("nonfinite", 0, 0, 2, 33, bits))
    assert "element [3, 1] is not finite" in error.message
