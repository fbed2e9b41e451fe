"""vbuild.tokenizer.json_text: an edit is seen by a parser and by nobody else."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild.tokenizer.json_text import (
    append_items,
    new_document,
    set_members,
    set_members_of_children,
)

Path = tuple[str | int, ...]

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), KEYS
)
FINITE = SCALARS.filter(lambda v: not isinstance(v, float) or abs(v) < 1e300)
VALUES = st.recursive(
    FINITE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


class Writer:
    """Writes a document in random style and remembers where each value stands."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.text = ""
        self.spans: dict[Path, tuple[int, int]] = {}

    def space(self) -> None:
        self.text += self.rng.choice(["", "", " ", "\n", "\r\n    ", "\t", " \r "])

    def scalar(self, value: object) -> str:
        return json.dumps(value, ensure_ascii=self.rng.random() < 0.5)

    def write(self, value: Any, path: Path = ()) -> None:
        begin = len(self.text)
        if isinstance(value, dict):
            self.children([(k, v, self.scalar(k)) for k, v in value.items()], path, "{}")
        elif isinstance(value, list):
            self.children([(i, v, None) for i, v in enumerate(value)], path, "[]")
        else:
            self.text += self.scalar(value)
        self.spans[path] = (begin, len(self.text))

    def children(
        self, items: list[tuple[str | int, Any, str | None]], path: Path, brackets: str
    ) -> None:
        self.text += brackets[0]
        for i, (key, value, written) in enumerate(items):
            self.text += "," if i else ""
            self.space()
            if written is not None:
                self.text += written
                self.space()
                self.text += ":"
                self.space()
            self.write(value, (*path, key))
            self.space()
        if not items:
            self.space()
        self.text += brackets[1]


def containers(value: Any, kind: type, path: Path = ()) -> list[Path]:
    """Paths of all containers of ``kind`` in ``value``."""
    found = [path] if isinstance(value, kind) else []
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, child in items:
        found += containers(child, kind, (*path, key))
    return found


def at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def same(a: Any, b: Any) -> bool:
    """Equal with types and order of keys."""
    return json.dumps(a) == json.dumps(b)


def same_value(a: Any, b: Any) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def has_already(container: dict[str, Any], key: str, value: Any) -> bool:
    return key in container and same_value(container[key], value)


@given(OBJECTS, st.randoms(use_true_random=False), KEYS, VALUES, st.data())
def test_setting_a_member_changes_its_value_and_no_other_byte(
    document: dict[str, Any], rng: random.Random, key: str, value: Any, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(containers(document, dict)))
    container = at(document, path)
    if container and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(list(container)))
    writer = Writer(rng)
    writer.space()
    writer.write(document)
    writer.space()
    text, spans = writer.text, writer.spans
    edited = set_members(text, path, {key: value})
    expected = copy.deepcopy(document)
    at(expected, path)[key] = value
    assert same(json.loads(edited), expected)
    if has_already(container, key, value):
        assert edited == text
    elif key in container:
        begin, end = spans[(*path, key)]
        assert edited[:begin] == text[:begin]
        assert edited.endswith(text[end:])
    else:
        last = list(container)[-1] if container else None
        here = spans[path][0] + 1 if last is None else spans[(*path, last)][1]
        assert edited[:here] == text[:here]
        assert edited.endswith(text[here:])


@given(OBJECTS, st.randoms(use_true_random=False), st.lists(VALUES, max_size=3), st.data())
def test_appending_items_changes_no_other_byte(
    inner: dict[str, Any], rng: random.Random, items: list[Any], data: st.DataObject
) -> None:
    document = {"first": inner, "list": copy.deepcopy(list(inner.values()))}
    path = data.draw(st.sampled_from(containers(document, list)))
    array = at(document, path)
    writer = Writer(rng)
    writer.write(document)
    text, spans = writer.text, writer.spans
    edited = append_items(text, path, items)
    expected = copy.deepcopy(document)
    at(expected, path).extend(items)
    assert same(json.loads(edited), expected)
    here = spans[(*path, len(array) - 1)][1] if array else spans[path][0] + 1
    assert edited[:here] == text[:here]
    assert edited.endswith(text[here:])


@pytest.mark.parametrize("indent", [None, 1, 2, 4, "\t"])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["spaced", "compact"])
@given(document=OBJECTS.filter(bool), key=KEYS, value=VALUES, data=st.data())
def test_an_edit_of_a_file_that_python_wrote_is_what_python_would_write(
    indent: int | str | None,
    separators: tuple[str, str],
    document: dict[str, Any],
    key: str,
    value: Any,
    data: st.DataObject,
) -> None:
    comma = separators[0] if indent is None else ","

    def write(value: Any) -> str:
        return json.dumps(
            value, indent=indent, separators=(comma, separators[1]), ensure_ascii=False
        )

    path = data.draw(st.sampled_from(containers(document, dict)))
    text = write(document)
    expected = copy.deepcopy(document)
    if not has_already(at(expected, path), key, value):
        at(expected, path)[key] = value
    assert set_members(text, path, {key: value}) == write(expected)


def test_several_members_are_changed_and_inserted_at_once() -> None:
    text = '{\r\n    "a": 1,\r\n    "b": [ 2 ],\r\n    "c": "\\u0063"\r\n}\r\n'
    edited = set_members(text, (), {"z": {"y": [1]}, "b": None, "a": 1, "c": "c", "x": "é"})
    assert edited == (
        '{\r\n    "a": 1,\r\n    "b": null,\r\n    "c": "\\u0063",\r\n    "z": {\r\n'
        '        "y": [\r\n            1\r\n        ]\r\n    },\r\n    "x": "é"\r\n}\r\n'
    )


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ('{"a": 1}', '{"a": 1, "b": 2}'),
        ('{"a":1}', '{"a":1,"b":2}'),
        ('{ "a" : 1 }\n', '{ "a" : 1, "b" : 2 }\n'),
        ("{}", '{\n  "b": 2\n}'),
        ("{\n}\n", '{\n  "b": 2\n}\n'),
        ('{"a": 1,\n "c": 3}', '{"a": 1,\n "c": 3,\n "b": 2}'),
        ('{"a": 1, "b": 2.0}', '{"a": 1, "b": 2}'),
        ('{"b": true}', '{"b": 2}'),
        (f'{{{" " * 999}"a":{" " * 999}1}}', f'{{{" " * 999}"a":{" " * 999}1,\n  "b": 2}}'),
    ],
)
def test_a_member_takes_the_style_of_its_neighbours(text: str, edited: str) -> None:
    assert set_members(text, (), {"b": 2}) == edited


@given(st.lists(OBJECTS, max_size=4), st.randoms(use_true_random=False), KEYS, st.booleans())
def test_members_of_many_children_are_set_as_one_by_one(
    objects: list[dict[str, Any]], rng: random.Random, key: str, value: bool
) -> None:
    writer = Writer(rng)
    writer.write({"list": [0, *objects]})
    edits = {i + 1: {key: value} for i in range(0, len(objects), 2)}
    edited = set_members_of_children(writer.text, ("list",), edits)
    expected = [{**o, key: value} if i % 2 == 0 else o for i, o in enumerate(objects)]
    assert same(json.loads(edited), {"list": [0, *expected]})
    for i in range(1, len(objects), 2):
        begin, end = writer.spans[("list", i + 1)]
        assert writer.text[begin:end] in edited


def test_an_equal_value_in_another_spelling_is_left() -> None:
    text = '{"a":\t"\\u0041", "o": {"y":1,  "x":2}}'
    assert set_members(text, (), {"a": "A", "o": {"x": 2, "y": 1}}) == text


def test_one_true_and_one_point_zero_are_different_values() -> None:
    assert set_members('{"a":1}', (), {"a": True}) == '{"a":true}'
    assert set_members('{"a":1}', (), {"a": 1.0}) == '{"a":1.0}'


def test_a_new_document_has_two_spaces_and_a_final_newline() -> None:
    assert new_document({"é": 1, "a": {}}) == '{\n  "é": 1,\n  "a": {}\n}\n'.encode()
