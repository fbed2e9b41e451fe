"""The benchmark's JSON, its tables, and the documents that they are written into."""

from __future__ import annotations

import json

import pytest

from benchmarks.cases import COPY, TWO
from benchmarks.documents import blocks, picture, rewrite
from benchmarks.lines import LINES, MAIN
from benchmarks.results import dumps, loads
from benchmarks.run import DOCUMENTS, PICTURE, RESULTS, ROOT, written_documents
from benchmarks.tables import table
from tests.benchmarks.made_up import report, results, sample


def test_the_json_gives_the_report_back():
    before = report()
    assert loads(dumps(before)) == before


def test_the_json_has_every_line_with_its_verdict():
    lines = json.loads(dumps(report()))["lines"]
    assert [each["line"] for each in lines] == [line.what for line in LINES]
    assert {each["verdict"] for each in lines} <= {"met", "missed", "not judged"}


def test_another_document_is_refused():
    with pytest.raises(ValueError, match="not vbuild"):
        loads('{"schema": "vbuild.apply/1"}')


def test_a_table_is_markdown():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_a_missed_line_stands_out_and_a_skipped_one_says_why():
    found = results()
    found[MAIN].samples[TWO] = [sample(wall=2.3)]
    del found[MAIN].samples["vbuild diff"]
    found[MAIN].skipped["vbuild diff"] = "no such command"
    text = blocks(report(found))["lines"]
    assert (
        "| 2 threads, of `cp` + sync of the base | <= 2.2 x | 2.30 x | 2.30 x | **missed** |"
        in text
    )
    assert "| `vbuild diff`, of `cat` of both |  |  |  | skipped: no such command |" in text


def test_growth_is_told_per_gigabyte_and_per_copy():
    found = results()
    found["4 GB"].bytes = 4 * 10**9
    found["4 GB"].samples = {TWO: [sample(wall=6.0, user=8.0)], COPY: [sample(wall=3.0)]}
    text = blocks(report(found))["growth"]
    assert "| 4 GB | 4.00 | 6.00 | 1.50 | 2.00 | 2.00 | 30 |" in text


def test_the_reader_is_told_how_much_others_used_the_machine():
    found = results()
    found[MAIN].others = 0.42
    assert "others used up to 42% of the processors" in blocks(report(found))["machine"]


def test_what_was_not_measured_is_left_out():
    found = {MAIN: results()[MAIN]}
    made = blocks(report(found))
    assert made["shards"].count("\n") == 3
    assert "By GB" in picture(report(found))
    assert "By GB" not in picture(report({}))


def test_only_the_blocks_of_a_document_are_rewritten():
    text = "before\n<!-- benchmark: machine -->\nold\n<!-- benchmark end -->\nafter\n"
    once = rewrite(text, report())
    assert once.startswith("before\n<!-- benchmark: machine -->\n2 cores of a processor (SHA-NI)")
    assert once.endswith("<!-- benchmark end -->\nafter\n")
    assert "old" not in once
    assert rewrite(once, report()) == once


def test_a_block_of_an_unknown_name_is_an_error():
    with pytest.raises(KeyError):
        rewrite("<!-- benchmark: nothing -->\n<!-- benchmark end -->", report())


def test_every_document_has_blocks():
    for name in DOCUMENTS:
        assert "<!-- benchmark: " in (ROOT / name).read_text(encoding="utf-8")


def test_the_documents_show_the_results_that_are_there():
    for path, text in written_documents(loads(RESULTS.read_text(encoding="utf-8"))).items():
        shown = path.read_text(encoding="utf-8")
        assert shown == text, f"{path.name}: python -m benchmarks.run --write-docs"
    assert f"]({PICTURE})" in (ROOT / "README.md").read_text(encoding="utf-8")
