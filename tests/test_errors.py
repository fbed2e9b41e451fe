"""The errors: their one line, their exit statuses, and the page that lists every code.

- The codes are read from the sources, not from a list: the first argument of every error class,
  and what ``WRAPPERS`` turn into one.
- A code that is neither a literal nor handed on by a listed wrapper fails the test, so the list
  cannot silently fall behind.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbuild import errors
from vbuild.errors import VbuildError, printable

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vbuild"
PAGE = ROOT / "docs" / "reference" / "errors.md"
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, VbuildError)
}


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A callable that makes an error of one of its arguments, in the files ``within``."""

    name: str
    index: int | None
    within: tuple[str, ...] = ("",)
    form: str = "{}"
    default: str | None = None
    statuses: tuple[int, ...] = (2,)


WRAPPERS = (
    *(Wrapper(name, 0, statuses=(c.exit_status,)) for name, c in CLASSES.items()),
    Wrapper("key_error", 0, ("attest/",)),
    Wrapper("Value", 2, ("attest/",)),
    Wrapper("_refuse", 0, ("formats/index.py",), form="index-{}"),
    Wrapper("_refuse", 1, ("formats/safetensors.py",), form="safetensors-{}"),
    Wrapper("_refuse", 1, ("formats/gguf.py",), form="gguf-{}"),
    Wrapper("_refuse_page", 1, ("formats/registry.py",), form="{}-page"),
    Wrapper("Problem", 0, ("formats/",)),
    Wrapper("error", 0, ("formats/torch_pickle.py", "manifest/")),
    Wrapper("refuse", 0, ("manifest/outline.py",)),
    # What a rebuild reports is raised with its own class; one without a report is no verdict.
    Wrapper("kind", 0, ("reproduce/children.py",), statuses=(2, 3, 4, 70, 130)),
    Wrapper("_Document", 1, ("strict_json.py",)),
    Wrapper("loads", None, ("attest/", "formats/", "tokenizer/"), default="json-malformed"),
    Wrapper(
        "error",
        2,
        ("tokenizer/sentencepiece_model.py", "tokenizer/wire.py"),
        default="tokenizer-model-malformed",
    ),
)

HANDED_ON = {("reproduce/children.py", "_child_error")}
"""Functions that may raise a code that they got from elsewhere, as it is."""


@dataclass(frozen=True, slots=True)
class Raised:
    """One way in which the sources raise ``code``."""

    code: str
    room: str
    status: int


def wrapper_for(name: str, file: str) -> Wrapper | None:
    found = [w for w in WRAPPERS if w.name == name and file.startswith(w.within)]
    assert len(found) <= 1, f"{name} in {file} is listed twice"
    return found[0] if found else None


def calls(
    tree: ast.AST, scope: ast.FunctionDef | None = None
) -> Iterator[tuple[ast.Call, ast.FunctionDef | None]]:
    """Every call in ``tree`` with the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield node, scope
        yield from calls(node, node if isinstance(node, ast.FunctionDef) else scope)


def assigned(name: str, scope: ast.FunctionDef) -> list[ast.expr]:
    """What ``scope`` assigns to the local variable ``name``."""
    values = []
    for node in ast.walk(scope):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name) and target.id == name:
                values.append(node.value)
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
                values += [v for t, v in pairs if isinstance(t, ast.Name) and t.id == name]
    return values


def form_of(value: ast.expr) -> str:
    """``value`` with ``{}`` for what is not literal."""
    if isinstance(value, ast.JoinedStr):
        return "".join(form_of(part) for part in value.values)
    return str(value.value) if isinstance(value, ast.Constant) else "{}"


def literals(value: ast.expr, scope: ast.FunctionDef | None, file: str) -> set[str]:
    """The strings that ``value``, a code, may be; none where a wrapper hands its argument on."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return {value.value}
    if isinstance(value, ast.IfExp):
        return literals(value.body, scope, file) | literals(value.orelse, scope, file)
    if isinstance(value, ast.Attribute) and value.attr == "code":
        return set()  # it was given to a listed constructor
    assert scope is not None, f"{file}:{value.lineno}: no literal code"
    if isinstance(value, ast.Name) and (local := assigned(value.id, scope)):
        return set().union(*(literals(v, scope, file) for v in local))
    own = wrapper_for(scope.name, file)
    is_listed = own is not None and own.form == form_of(value)
    # The function that parses strictly gets its code by keyword and is called in other files.
    is_parser = (file, scope.name) == ("strict_json.py", "loads")
    assert is_listed or is_parser or (file, scope.name) in HANDED_ON, (
        f"{file}:{value.lineno}: {scope.name} makes an error of {ast.unparse(value)}: "
        "write the code as a literal, or add the function to WRAPPERS"
    )
    return set()


def raised_in(path: Path) -> Iterator[Raised]:
    file = path.relative_to(PACKAGE).as_posix()
    room = file.split("/")[0].removesuffix(".py")
    for call, scope in calls(ast.parse(path.read_text(encoding="utf-8"))):
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
        wrapper = wrapper_for(name, file)
        if wrapper is None:
            continue
        given = [k.value for k in call.keywords if k.arg == "code"]
        if wrapper.index is not None and len(call.args) > wrapper.index:
            given.append(call.args[wrapper.index])
        assert len(given) == 1 or wrapper.default, f"{file}:{call.lineno}: no code"
        found = literals(given[0], scope, file) if given else {wrapper.default}
        for code in sorted(found):
            for status in wrapper.statuses:
                yield Raised(wrapper.form.format(code), room, status)


def raised() -> set[Raised]:
    return {r for path in sorted(PACKAGE.rglob("*.py")) for r in raised_in(path)}


def documented() -> list[tuple[str, str, set[int], list[str]]]:
    """Code, room, exit statuses and texts of every row of the page."""
    rows = []
    room = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            room = line.removeprefix("## ").strip("`")
        elif line.startswith("| `"):
            code, statuses, *texts = (cell.strip() for cell in line.strip("|").split("|"))
            rows.append((code.strip("`"), room, set(map(int, statuses.split(", "))), texts))
    return rows


def test_every_code_is_documented_and_no_other() -> None:
    assert {r.code for r in raised()} == {code for code, *_ in documented()}


def test_a_code_is_documented_once() -> None:
    codes = [code for code, *_ in documented()]
    assert len(codes) == len(set(codes))


def test_a_code_is_documented_with_its_exit_statuses() -> None:
    statuses = defaultdict(set)
    for r in raised():
        statuses[r.code].add(r.status)
    assert {code: found for code, _, found, _ in documented()} == statuses


def test_a_code_is_documented_in_a_room_that_raises_it() -> None:
    places = {(r.code, r.room) for r in raised()}
    assert [(code, room) for code, room, *_ in documented() if (code, room) not in places] == []


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    for code, _, _, texts in documented():
        assert len(texts) == 2, code
        assert all(texts), code


def test_every_code_is_in_kebab_case() -> None:
    assert [r for r in raised() if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", r.code)] == []


def test_every_wrapper_in_the_list_is_called() -> None:
    used = set()
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE).as_posix()
        for call, _ in calls(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(call.func, "attr", None) or getattr(call.func, "id", "")
            used |= {wrapper_for(name, file)}
    assert {w.name for w in WRAPPERS if w not in used} == set()


def test_only_the_module_of_errors_defines_errors() -> None:
    bases = {
        (path.relative_to(PACKAGE).as_posix(), node.name)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in CLASSES
    }
    assert {file for file, _ in bases} == {"errors.py"}


def test_only_the_children_of_a_check_raise_a_class_from_a_variable() -> None:
    # A class under another name would hide its codes from this file.
    found = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        values = [n.value for n in ast.walk(tree) if isinstance(n, (ast.Assign, ast.AnnAssign))]
        names = [n for value in values if value is not None for n in ast.walk(value)]
        renamed = [n for n in ast.walk(tree) if isinstance(n, ast.alias) and n.asname]
        if any(isinstance(n, ast.Name) and n.id in CLASSES and n not in called for n in names):
            found.add(path.relative_to(PACKAGE).as_posix())
        assert not any(alias.name in CLASSES for alias in renamed), path
    assert found == {"reproduce/children.py"}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("Mismatch", 1),
        ("InvalidInput", 2),
        ("Unavailable", 3),
        ("NotLocked", 4),
        ("VbuildError", 70),
        ("Interrupted", 130),
    ],
)
def test_the_class_decides_the_exit_status(name: str, status: int) -> None:
    assert CLASSES[name]("some-code", "what").exit_status == status


def test_every_class_has_an_exit_status_of_its_own() -> None:
    assert len({c.exit_status for c in CLASSES.values()}) == len(CLASSES) == 6


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "it is wrong"),
        ({"where": "a.toml:3"}, "a.toml:3: it is wrong"),
        ({"expected": 1}, "it is wrong, expected 1"),
        ({"got": "b"}, "it is wrong, got b"),
        ({"where": "f", "expected": 0, "got": ""}, "f: it is wrong, expected 0, got "),
        ({"where": "f", "hint": "try"}, "f: it is wrong"),
    ],
)
def test_the_message_says_where_what_expected_and_got(
    parts: dict[str, object], message: str
) -> None:
    error = VbuildError("some-code", "it is wrong", **parts)
    assert error.message == str(error) == message
    assert error.code == "some-code"
    assert error.hint == parts.get("hint")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 模型", "naïve 模型"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
        ("", ""),
    ],
)
def test_what_would_act_on_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(codec=None)))
def test_what_is_shown_is_printable_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode("utf-8")


@given(st.text(st.characters(codec=None)))
def test_every_part_of_an_error_is_one_printable_line(text: str) -> None:
    error = VbuildError("some-code", text, where=text, expected=text, got=text, hint=text)
    for part in (error.message, error.what, error.where, error.expected, error.got, error.hint):
        assert part is not None
        assert part.isprintable()
