"""A diff as text, as Markdown and as a page: what they say, and that no name can speak."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from tests.support.checkpoints import f16, f32, write_model
from tests.support.differing import HOSTILE, LAYERS, write_pair
from vbuild.commands.diff import diff
from vbuild.errors import printable
from vbuild.report import diff as report
from vbuild.report import diff_html, diff_markdown
from vbuild.report.diff_picture import LEVELS, Scale, scale, share_level
from vbuild.report.differences import brief, grouped, position, share, value
from vbuild.report.lines import render
from vbuild.tensors import DType

VOID = {"meta", "input", "br", "img", "link"}


@pytest.fixture
def found(tmp_path):
    return diff(*write_pair(tmp_path))


@pytest.fixture
def hostile(tmp_path):
    return diff(*write_pair(tmp_path, hostile=True))


class Page(HTMLParser):
    """A page as a browser's parser takes it apart; unbalanced elements are an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.elements if name in attrs]

    def text_of(self, tag):
        return [data for where, data in self.texts if where == tag]


def text_of(found):
    return "".join(render(line) + "\n" for line in report.lines(found))


def test_the_text_says_what_differs(found):
    text = text_of(found)
    assert "only in a\n  model.layers.2.self_attn.rotary_emb.inv_freq  F32 [4]\n" in text
    assert "only in b\n  model.mm_projector.weight  F16 [2, 2]\n" in text
    lines = [re.sub("   +", "  ", line) for line in text.splitlines()]
    assert "  model.norm.weight  F16 [8]  F32 [8]  compared as F32: 0 % differ" in lines
    assert "  model.embed_tokens.weight  F16 [10, 8]  F16 [11, 8]  not compared" in lines
    assert "model.layers.*, 6 layers\n" in text
    assert re.search(r"^  attn norm +0 of 6 +0 % +0 +0$", text, re.MULTILINE)
    first = text.split("changed most\n")[1].splitlines()[1]
    assert "model.layers.4.self_attn." in first
    assert text.splitlines()[-1].startswith("DIFFERS: ")


def test_the_text_of_two_that_are_the_same_is_short(tmp_path):
    base, _ = write_pair(tmp_path)
    text = text_of(diff(base, base))
    assert len(text.splitlines()) == 5
    assert text.splitlines()[-1].startswith("SAME: ")


def test_the_text_counts_what_it_does_not_list(tmp_path):
    a = write_model(tmp_path / "a", {f"t{i:02}": f16([1.0]) for i in range(20)})
    b = write_model(tmp_path / "b", {f"t{i:02}": f16([2.0]) for i in range(20)})
    assert "  and 8 more\n" in text_of(diff(a, b))


def test_no_name_steers_a_terminal(hostile):
    assert all(c.isprintable() or c == "\n" for c in text_of(hostile))


def test_markdown_says_what_differs(found):
    text = diff_markdown.text(found)
    assert text.startswith("**The weights differ:** ")
    assert "| `model.mm_projector.weight` | b | F16 [2, 2] |\n" in text
    assert "### Changed most" in text


def test_every_row_of_a_markdown_table_has_its_cells(hostile):
    columns = None
    for line in diff_markdown.text(hostile).splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        columns = columns or line.count("|")
        assert line.count("|") == columns, line


def test_no_name_means_anything_in_markdown(hostile):
    text = diff_markdown.text(hostile)
    assert set(re.findall(r"<[^>]*>", text)) == {"<code>", "</code>"}
    for name in HOSTILE:
        assert name not in text
    for code in re.findall(r"<code>(.*?)</code>", text):
        assert re.fullmatch(r"([A-Za-z0-9._/-]|&#[0-9]+;)*", code), code


def test_the_page_is_well_formed_and_says_what_differs(found):
    text = diff_html.page(found)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n")
    assert page.text_of("h1") == ["The weights differ"]
    assert page.text_of("caption") == [f"model.layers.*: {LAYERS} layers"]
    labels = page.attributes("aria-label")
    assert any(
        label.startswith("model.layers.4.self_attn.v_proj.weight: ") and "100 %" in label
        for label in labels
    )
    assert any("inv_freq: only in a" in label for label in labels)
    assert any("embed_tokens.weight: another shape" in label for label in labels)


def test_the_page_loads_and_runs_nothing(hostile):
    text = diff_html.page(hostile)
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "svg"}
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "style")], (
            tag
        )
    assert all(target.startswith("#") for target in page.attributes("href"))
    (style,) = page.text_of("style")
    assert "url(" not in style
    assert "@import" not in style
    policies = [a["content"] for t, a in page.elements if "http-equiv" in a]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policies == [
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]


def test_a_name_on_the_page_is_text_and_nothing_else(hostile):
    page = Page(diff_html.page(hostile))
    shown = page.text_of("th") + page.text_of("span")
    for name in HOSTILE:
        assert printable(name) in shown, name
    clean = Page(diff_html.page(diff(hostile.a.path, hostile.a.path)))
    assert {tag for tag, _ in page.elements} - {tag for tag, _ in clean.elements} == set()


def test_every_link_of_the_page_leads_to_a_row(hostile):
    page = Page(diff_html.page(hostile))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {target.removeprefix("#") for target in page.attributes("href")} <= set(ids)
    rows = {i for i in ids if re.fullmatch("[to][0-9]+", i)}
    comparison = hostile.comparison
    wanted = len(comparison.pairs) + len(comparison.only_a) + len(comparison.only_b)
    assert len(rows) == wanted


def test_the_same_result_gives_the_same_page(tmp_path):
    base, tuned = write_pair(tmp_path)
    assert diff_html.page(diff(base, tuned, jobs=1)) == diff_html.page(diff(base, tuned, jobs=2))


def test_the_page_of_two_that_are_the_same(tmp_path):
    base, _ = write_pair(tmp_path)
    page = Page(diff_html.page(diff(base, base)))
    assert page.text_of("h1") == ["The same weights"]
    cells = [label for label in page.attributes("aria-label") if label.endswith(" changed")]
    assert len(cells) == 6 * 9 + 3
    assert all(": 0 of " in label for label in cells)


def test_weights_digests_are_shown_where_they_were_asked_for(tmp_path):
    base, tuned = write_pair(tmp_path)
    found = diff(base, tuned, weights_digest=True)
    for text in (text_of(found), diff_markdown.text(found), diff_html.page(found)):
        assert all(digest in text for digest in found.weights)


@pytest.mark.parametrize(
    ("bits", "dtype", "shown", "short"),
    [
        (0x3C00, DType.F16, "1.0", "1"),
        (0x2E66, DType.F16, "0.0999755859375", "0.0999756"),
        (0x3F80, DType.BF16, "1.0", "1"),
        (0x7F800000, DType.F32, "inf", "inf"),
        (0x7E01, DType.F16, "nan", "nan"),
        (0xFFFFFFFFFFFFFFFF, DType.I64, "-1", "-1"),
        (0xFF, DType.U8, "255", "255"),
        (1, DType.BOOL, "true", "true"),
        (2, DType.BOOL, "0x02", "0x02"),
        (0x3C, DType.F8_E4M3, "0x3c", "0x3c"),
    ],
)
def test_how_a_value_is_shown(bits, dtype, shown, short):
    assert (value(bits, dtype), brief(bits, dtype)) == (shown, short)


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(0, 10, "0 %"), (10, 10, "100 %"), (1, 10**6, "<0.1 %"), (1, 3, "33.3 %"),
     (10**6 - 1, 10**6, ">99.9 %"), (0, 0, "0 %")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_nothing_or_all(part, whole, shown):
    assert share(part, whole) == shown


def test_a_position_is_the_index_by_dimension():
    assert position(0, ()) == ()
    assert [position(i, (2, 3)) for i in (0, 3, 5)] == [(0, 0), (1, 0), (1, 2)]
    assert grouped(1234567) == "1 234 567"


def test_levels_cover_what_is_between_the_least_and_the_most():
    found = scale([0.0, 1e-6, 1.0, float("inf")])
    assert (found.least, found.most) == (1e-6, 1.0)
    assert [found.level(x) for x in (0.0, 1e-6, 1.0, float("inf"))] == [0, 1, LEVELS, LEVELS]
    assert sorted({found.level(10.0**-k) for k in range(7)}) == [1, 2, 4, 5, 7, 8, 9]
    assert Scale(3, 3).level(3) == LEVELS
    assert [share_level(x) for x in (0, 1e-9, 0.05, 1.0)] == [0, 1, 3, LEVELS]


def test_a_document_has_only_numbers_that_json_has(tmp_path):
    a = write_model(tmp_path / "a", {"x": f16([1.0]), "y": f32([1.0])})
    b = write_model(tmp_path / "b", {"x": f16([float("inf")]), "y": f32([2.0])})
    x, y = report.document(diff(a, b))["tensors"]
    assert x["max_abs"]["value"] == "inf"
    assert y["max_abs"] == {"value": 1.0, "index": 0, "position": [0]}
    assert y["first"] == {
        "index": 0, "position": [0], "a": "1.0", "b": "2.0",
        "a_bits": "0x3f800000", "b_bits": "0x40000000",
    }  # fmt: skip
