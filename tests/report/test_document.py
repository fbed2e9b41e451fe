"""JSON that every reader can read."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vbuild.errors import Mismatch
from vbuild.report.document import dumps, error_fields

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_a_document_is_ascii_without_lone_surrogates(fields):
    fields.pop("schema", None)
    text = dumps("vbuild.x/1", fields)
    found = json.loads(text.encode("ascii"))
    assert next(iter(found)) == "schema"
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    assert set(found) == {"schema", *fields}


def test_paths_tuples_and_undecodable_names_are_text():
    found = json.loads(dumps("s", {"p": Path("a/b"), "t": ("x", 1), "n": "a\udcff"}))
    assert found == {"schema": "s", "p": "a/b", "t": ["x", 1], "n": "a\\udcff"}


def test_an_error_has_all_its_parts():
    error = Mismatch("c", "what", where="w", expected=1, got=2, hint="h")
    assert error_fields(error) == {
        "code": "c",
        "message": "w: what, expected 1, got 2",
        "what": "what",
        "where": "w",
        "expected": "1",
        "got": "2",
        "hint": "h",
        "exit_status": 1,
    }
