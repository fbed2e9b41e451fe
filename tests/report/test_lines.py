"""Lines and tables stay what they are, whatever is in them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from vbuild.report.lines import line, render, styled, table

TEXT = st.text(st.characters())
STYLES = st.sampled_from(["plain", "good", "bad", "caution", "strong", "faint", "accent"])
SGR = re.compile(r"\x1b\[[0-9;]*m")


@given(st.lists(st.tuples(TEXT, STYLES)))
def test_a_line_is_one_line_and_has_no_control_characters(parts):
    content = line(*(styled(*part) for part in parts))
    plain = render(content)
    assert plain.isprintable()
    assert SGR.sub("", render(content, colour=True)) == plain


@given(st.lists(st.lists(TEXT, min_size=3, max_size=3)), st.sets(st.integers(0, 2)))
def test_the_columns_of_a_table_stand_under_each_other(rows, right):
    marked = [[f"<{a}>", f"<{b}>", f"<{c}>"] for a, b, c in rows]
    shown = [render(row) for row in table(marked, right=right, indent=0)]
    assert len(shown) == len(rows)
    widths = [max((len(render(line(r[i]))) for r in marked), default=0) for i in range(3)]
    for text, row in zip(shown, marked, strict=True):
        cells = [render(line(cell)) for cell in row]
        padded = [
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        assert text == "  ".join(padded).rstrip(" ") or text == "  ".join(padded)


def test_markup_is_only_text():
    assert render(line("[bold]x[/bold]"), colour=True) == "[bold]x[/bold]"


def test_an_empty_cell_leaves_its_column_blank_and_no_space_at_the_end():
    rows = [("a", "", "c"), ("aaa", "b", ""), ("", "bb", "")]
    assert [render(row) for row in table(rows)] == ["  a        c", "  aaa  b", "       bb"]
