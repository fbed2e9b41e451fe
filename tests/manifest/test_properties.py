"""Whatever the text: it is read as another TOML library reads it, or refused in one line."""

import tomllib

import msgspec
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from tomlkit.exceptions import TOMLKitError

from vbuild.errors import InvalidInput, VbuildError
from vbuild.manifest import Manifest, parse_manifest
from vbuild.manifest.outline import format_path, scan

PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
FILE = st.from_regex(r"[a-z]{1,6}(\.[a-z]{1,3})?", fullmatch=True).filter(
    lambda n: n.split(".")[0] not in ("con", "prn", "aux", "nul")
)
SHA256 = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
PIN = st.fixed_dictionaries({}, optional={"size": st.integers(0, 2**63 - 1), "sha256": SHA256})
FILES = st.dictionaries(FILE, PIN, min_size=1, max_size=4)
GLOB = st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs", "Cc"]), min_size=1)
RULE = st.fixed_dictionaries(
    {"match": GLOB | st.lists(GLOB, min_size=1, max_size=3), "op": st.just("add")},
    optional={
        "pad": st.sampled_from(["zero", "delta"]),
        "on_missing": st.sampled_from(["error", "copy", "drop"]),
        "compute": st.sampled_from(["float16", "bfloat16", "float32"]),
    },
)
RULES = st.lists(RULE, min_size=1, max_size=3)
DELTA = st.fixed_dictionaries(
    {"uri": st.integers(0, 99).map(lambda n: f"file:d{n}")},
    optional={"files": FILES.map(lambda files: {n: {"size": 1} for n in files}), "rule": RULES},
)
MANIFEST = st.fixed_dictionaries(
    {
        "schema": st.just("vbuild/1"),
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "base": st.fixed_dictionaries({"uri": st.just("file:base")}, optional={"files": FILES}),
        "apply": st.just({"preset": "fastchat-v0"}) | st.fixed_dictionaries({"rule": RULES}),
    },
    optional={
        "license": PLAIN,
        "description": PLAIN,
        "delta": st.lists(DELTA, max_size=3),
        "output": st.fixed_dictionaries(
            {}, optional={"dtype": st.just("float16"), "weights": SHA256}
        ),
    },
)


@given(document=MANIFEST)
@settings(max_examples=60, deadline=None)
def test_a_manifest_survives_the_way_through_text(document):
    text = tomlkit.dumps(document)
    loaded = parse_manifest(text.encode(), "m.toml")
    assert loaded.manifest == msgspec.convert(document, Manifest)
    assert len(loaded.rules_for(0)) >= 1


def paths(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from paths(item, (*path, key))


def last_key(path):
    return next(part for part in reversed(path) if isinstance(part, str))


@given(document=MANIFEST)
@settings(max_examples=60, deadline=None)
def test_the_outline_has_every_key_on_the_line_that_shows_it(document):
    text = tomlkit.dumps(document)
    outline = scan(text, "m.toml")
    lines = text.split("\n")
    empty = {path for path in outline.lines if path not in set(paths(tomllib.loads(text)))}
    assert not empty
    for path in paths(tomllib.loads(text)):
        assert path in outline.lines, format_path(path)
        assert str(last_key(path)) in lines[outline.line_of(path) - 1]


AWKWARD = '''\
# a comment with [brackets] and = signs
a = """
b = 1
\\""" still inside """""
c = \'\'\'
d = [\'\'\'
"e.f" . 'g"h' = [ # comment ]
  "x]", 'y#',
  { k = 1, "l\\u0041" = { m = [ [], [1979-05-27 07:32:00] ] } }, # , ]
  -1.5e3, 0xff, true,
]
[ t . "u.v" ]
w = {}
[[n]]
[n.o]
p.q.r = ""
[[n]]
[[n.s]]
[[n.s]]
z = \'\'
[t]
late = 1
'''


def test_the_outline_follows_every_way_of_writing_a_key():
    outline = scan(AWKWARD, "m.toml")
    assert set(outline.lines) == set(paths(tomllib.loads(AWKWARD)))
    expected = {
        ("a",): 2,
        ("c",): 5,
        ("e.f", 'g"h'): 7,
        ("e.f", 'g"h', 0): 8,
        ("e.f", 'g"h', 1): 8,
        ("e.f", 'g"h', 2, "lA", "m", 1, 0): 9,
        ("e.f", 'g"h', 5): 10,
        ("t", "u.v", "w"): 13,
        ("n", 0): 14,
        ("n", 0, "o", "p", "q", "r"): 16,
        ("n", 1): 17,
        ("n", 1, "s", 1, "z"): 20,
        ("t",): 21,
        ("t", "late"): 22,
    }
    assert {path: outline.lines[path] for path in expected} == expected
    assert format_path(("e.f", 'g"h', 2, "k")) == '"e.f"."g\\"h"[2].k'


GOOD = b"""schema = "vbuild/1"
name = "x"
base = { uri = "file:b", files."a.bin" = { size = 1 } }
[[delta]]
uri = "file:d"
[[apply.rule]]
match = ["*"]
op = "add"
[tokenizer]
source = "delta"
[[tokenizer.add]]
piece = '''[PAD]'''
type = "control"
[output]
max_shard_size = "5GB"
"""


def parse_or_refuse(data: bytes) -> None:
    try:
        parse_manifest(data, "m.toml")
    except VbuildError as e:
        assert isinstance(e, InvalidInput) and e.exit_status == 2
        assert e.message.isprintable() and e.message.startswith("m.toml")
        assert len(e.message) < 1000


@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(GOOD)),
            st.integers(0, 6),
            st.binary(max_size=3) | st.sampled_from([b"[", b"{", b'"""', b"'", b"\n[[", b"9" * 30]),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=400, deadline=None)
def test_random_changes_never_raise_anything_but_our_errors(edits):
    data = GOOD
    for at, cut, new in edits:
        data = data[:at] + new + data[at + cut :]
    parse_or_refuse(data)


def test_every_truncation_is_read_or_refused():
    for end in range(len(GOOD)):
        parse_or_refuse(GOOD[:end])


def test_every_flipped_bit_is_read_or_refused():
    for at in range(len(GOOD)):
        for bit in range(8):
            parse_or_refuse(GOOD[:at] + bytes([GOOD[at] ^ 1 << bit]) + GOOD[at + 1 :])


@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    parse_or_refuse(data)


VALUE = st.recursive(
    st.none().map(lambda _: True)
    | st.integers()
    | st.floats()
    | PLAIN
    | st.dates()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=6,
)
KEYS = ["schema", "name", "license", "base", "delta", "apply", "tokenizer", "config", "output"]


@given(document=MANIFEST, key=st.sampled_from(KEYS), value=VALUE)
@settings(max_examples=200, deadline=None)
def test_a_value_of_another_shape_is_read_or_refused(document, key, value):
    try:
        text = tomlkit.dumps({**document, key: value})
        tomllib.loads(text)
    except (ValueError, TypeError, TOMLKitError):  # tomlkit cannot write every value as TOML
        return
    parse_or_refuse(text.encode())
