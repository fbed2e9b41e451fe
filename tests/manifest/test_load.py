"""A manifest is read as it is written, or refused with the line that is wrong."""

import hashlib
import os
import stat

import pytest

from vbuild.errors import InvalidInput, NotLocked, Unavailable
from vbuild.manifest import load_manifest, parse_manifest, require_locked, unpinned
from vbuild.manifest.load import MAX_MANIFEST_SIZE
from vbuild.manifest.schema import FilePin, OutputPin, Rule, TokenizerAdd

A, B = "a" * 64, "b" * 64

FULL = f'''\
schema = "vbuild/1"
name = "vicuna-7b-v0"  # the subject
license = "as LLaMA's"
description = """
two
lines"""

[base]
uri = "file:../llama-7b-hf"
format = "torch"
[base.files]
"pytorch_model-00001-of-00002.bin" = {{ size = 9976634558, sha256 = "{A}" }}
"sub/config.json" = {{ sha256 = "{A}" }}

[[delta]]
uri = "hf://lmsys/vicuna-7b-delta-v0@{"0" * 40}"
kind = "dense"
[delta.files]
"model.safetensors" = {{ size = 1, sha256 = "{B}" }}

[[delta]]
uri = "file:/abs/second"
files."a.bin" = {{ sha256 = "{B}" }}
files.LICENSE = {{ size = 0, sha256 = "{B}" }}
[[delta.rule]]
match = "lm_head.*"
op = "xor"
on_shape_mismatch = "copy-delta"

[apply]
[[apply.rule]]
match = "*.inv_freq"
op = "drop"
[[apply.rule]]
match = [
  "model.embed_tokens.weight",  # grows
  "lm_head.weight",
]
op = "add"
pad = "zero"
compute = "float32"
on_missing = "copy"
[[apply.rule]]
match = "*"
op = "add"

[tokenizer]
source = "delta"
rows = 32064
[[tokenizer.add]]
piece = "[PAD]"
type = "control"
role = "pad"

[config]
source = "base"

[output]
format = "safetensors"
dtype = "float16"
max_shard_size = "5GB"
nonfinite = "allow"
weights = "{A}"
copy = ["LICENSE"]
[output.files]
"model-00001-of-00003.safetensors" = {{ sha256 = "{A}" }}
'''

SMALL = """\
schema = "vbuild/1"
name = "small"
[base]
uri = "file:base"
[base.files]
"model.bin" = { size = 1 }
[[delta]]
uri = "file:delta"
[apply]
preset = "fastchat-v0"
"""


def refused(text: str | bytes) -> InvalidInput:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InvalidInput) as caught:
        parse_manifest(data, "m.toml")
    error = caught.value
    assert error.exit_status == 2
    assert error.where is not None and error.where.startswith("m.toml")
    assert "\n" not in error.message
    return error


def changed(old: str, new: str) -> str:
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new)


def test_every_key_is_read_as_it_is_written():
    loaded = parse_manifest(FULL.encode(), "dir/m.toml")
    m = loaded.manifest
    assert (m.schema, m.name, m.license) == ("vbuild/1", "vicuna-7b-v0", "as LLaMA's")
    assert m.description == "two\nlines"
    assert m.base.uri == "file:../llama-7b-hf" and m.base.format == "torch"
    assert m.base.files["pytorch_model-00001-of-00002.bin"] == FilePin(size=9976634558, sha256=A)
    assert [d.kind for d in m.delta] == ["dense", "dense"]
    assert [d.format for d in m.delta] == ["auto", "auto"]
    assert m.delta[1].files == {"a.bin": FilePin(sha256=B), "LICENSE": FilePin(size=0, sha256=B)}
    assert m.delta[1].rule == (Rule(match="lm_head.*", op="xor", on_shape_mismatch="copy-delta"),)
    assert m.apply is not None and len(m.apply.rule) == 3
    assert m.apply.rule[1].patterns == ("model.embed_tokens.weight", "lm_head.weight")
    assert (m.apply.rule[1].pad, m.apply.rule[1].compute) == ("zero", "float32")
    assert (m.apply.rule[1].on_missing, m.apply.rule[0].on_missing) == ("copy", "error")
    assert m.apply.rule[2].patterns == ("*",)
    assert m.tokenizer is not None and m.tokenizer.rows == 32064
    assert m.tokenizer.add == (TokenizerAdd(piece="[PAD]", type="control", role="pad"),)
    assert m.tokenizer.update_trainer_vocab_size is False
    assert (m.files_source, m.config_source) == ("delta", "base")
    assert m.side("delta") is m.delta[1] and m.side("base") is m.base
    assert m.output.max_shard_bytes == 5_000_000_000
    assert (m.output.dtype, m.output.nonfinite, m.output.weights) == ("float16", "allow", A)
    assert m.output.copy == ("LICENSE",)
    assert m.output.files == {"model-00001-of-00003.safetensors": OutputPin(sha256=A)}


def test_the_exact_bytes_and_their_digest_are_kept(tmp_path):
    path = tmp_path / "m.toml"
    data = SMALL.replace("\n", "\r\n").encode()
    path.write_bytes(data)
    loaded = load_manifest(path)
    assert loaded.data == data and loaded.path == path
    assert loaded.digest == hashlib.sha256(data).hexdigest()
    assert loaded.manifest == parse_manifest(SMALL.encode(), "x").manifest


def test_a_key_path_leads_to_its_line_or_to_the_nearest_one():
    loaded = parse_manifest(FULL.encode(), "m.toml")
    lines = FULL.splitlines()
    for path, text in (
        (("name",), "name ="),
        (("base",), "[base]"),
        (("base", "files", "sub/config.json"), '"sub/config.json"'),
        (("base", "files", "sub/config.json", "sha256"), '"sub/config.json"'),
        (("delta", 1), "[[delta]]"),
        (("delta", 1, "files", "a.bin", "sha256"), 'files."a.bin"'),
        (("apply", "rule", 1, "match", 1), '  "lm_head.weight"'),
        (("apply", "rule", 2), "[[apply.rule]]"),
        (("apply", "rule", 2, "compute"), "[[apply.rule]]"),
        (("output", "files"), "[output.files]"),
    ):
        assert lines[loaded.line_of(path) - 1].startswith(text)
    assert loaded.line_of(("delta", 0)) < loaded.line_of(("delta", 1))
    assert loaded.line_of(("nothing", "here")) == 1
    assert loaded.place(("name",)) == "m.toml:2"


def test_rules_are_the_deltas_own_or_those_of_apply_with_presets_resolved():
    loaded = parse_manifest(FULL.encode(), "m.toml")
    assert [r.op for r in loaded.rules_for(0)] == ["drop", "add", "add"]
    assert [r.op for r in loaded.rules_for(1)] == ["xor"]
    assert loaded.preset_for(1) is None
    loaded = parse_manifest(SMALL.encode(), "m.toml")
    assert [r.pad for r in loaded.rules_for(0)] == [None, "zero", None]
    assert loaded.preset_for(0) == "fastchat-v0"


def test_without_a_delta_the_base_is_copied_or_goes_through_the_rules_of_apply():
    alone = 'schema = "vbuild/1"\nname = "x"\nbase = { uri = "file:b" }\n'
    loaded = parse_manifest(alone.encode(), "m.toml")
    assert loaded.rules_for() == (Rule(match="*", op="copy-base"),)
    ruled = alone + '[[apply.rule]]\nmatch = "a"\nop = "drop"\n'
    assert [r.op for r in parse_manifest(ruled.encode(), "m.toml").rules_for()] == ["drop"]


def test_what_is_not_pinned_is_listed_and_named_with_the_command_that_pins_it():
    loaded = parse_manifest(SMALL.encode(), "dir/m.toml")
    assert unpinned(loaded.manifest) == ['base.files."model.bin"', "delta[0].files"]
    with pytest.raises(NotLocked) as caught:
        require_locked(loaded)
    assert caught.value.exit_status == 4
    assert caught.value.where == "dir/m.toml:6"
    assert caught.value.hint == "vbuild lock dir/m.toml"
    with pytest.raises(NotLocked) as caught:
        require_locked(parse_manifest(SMALL.encode(), "my models/m.toml"))
    assert caught.value.hint == "vbuild lock 'my models/m.toml'"
    locked = parse_manifest(FULL.encode(), "m.toml")
    require_locked(locked)
    assert unpinned(locked.manifest) == []


def test_a_list_of_tokens_is_pinned_too():
    text = SMALL + '[tokenizer]\nsource = "delta"\ntokens = "list.txt"\n'
    loaded = parse_manifest(text.encode(), "m.toml")
    assert loaded.manifest.tokenizer is not None and loaded.manifest.tokenizer.tokens == "list.txt"
    assert unpinned(loaded.manifest)[-1] == "tokenizer.tokens_sha256"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("999", 999),
        ("5KB", 5_000),
        ("7MB", 7_000_000),
        ("5GB", 5 * 10**9),
        ("2TB", 2 * 10**12),
    ],
)
def test_shard_sizes_are_decimal(text, size):
    loaded = parse_manifest(f'{SMALL}[output]\nmax_shard_size = "{text}"\n'.encode(), "m.toml")
    assert loaded.manifest.output.max_shard_bytes == size


# bad-inputs.md, Manifest


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b'\xef\xbb\xbfschema = "vbuild/1"\n', 1),
        ("schema = 1".encode("utf-16"), 1),
        (b'schema = "vbuild/1"\nname = "\xff"\n', 2),
        (b'schema = "vbuild/1"\n\nname = "\xed\xa0\x80"\n', 3),
        (b'schema = "vbuild/1"\nname = "\0"\n', 2),
    ],
    ids=["byte_order_mark", "utf_16", "not_utf_8", "surrogate", "nul"],
)
def test_case_01_text_that_is_not_plain_utf_8(data, line):
    error = refused(data)
    assert error.code == "manifest-encoding"
    assert error.where == f"m.toml:{line}"


def test_case_02_a_manifest_larger_than_4_mib(tmp_path):
    data = SMALL.encode() + b"#" * MAX_MANIFEST_SIZE
    assert refused(data).code == "file-too-large"
    (tmp_path / "m.toml").write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        load_manifest(tmp_path / "m.toml")
    assert caught.value.code == "file-too-large" and "m.toml" in caught.value.message
    assert parse_manifest(data[:MAX_MANIFEST_SIZE], "m.toml").manifest.name == "small"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('name = "small"', 'name = "a"\nname = "b"', 3),
        ("[apply]", "[base]\n[apply]", 9),
        ("{ size = 1 }", "{ size = 1, size = 2 }", 6),
        ("[[delta]]", '"model.bin" = {}\n[[delta]]', 7),
        ("[[delta]]", '"model.\\u0062in" = {}\n[[delta]]', 7),
        ("[[delta]]", "[[base]]", 7),
    ],
    ids=["key", "table", "inline", "file", "escaped", "table_and_array"],
)
def test_case_03_a_duplicate_key_or_table(old, new, line):
    error = refused(changed(old, new))
    assert error.code == "duplicate-key"
    assert error.where == f"m.toml:{line}"


@pytest.mark.parametrize(
    "value",
    [
        "x = " + "[" * 100_000,
        "x = " + "[" * 300 + "]" * 300,
        "x = " + "{ x = " * 100_000,
        "x." * 100_000 + "x = 1",
        "[" + "x." * 100_000 + "x]",
        "[[" + "x." * 500 + "x]]",
        "\n".join(f"k{i}." + "x." * 900 + "x = 1" for i in range(2000)),
    ],
    ids=["open_arrays", "arrays", "tables", "dotted", "header", "array_header", "many_dotted"],
)
def test_case_04_deep_nesting(value):
    error = refused(f'schema = "vbuild/1"\n{value}\n')
    assert error.code == "manifest-too-deep"
    assert error.where == "m.toml:2"


def test_case_04_many_values_are_refused_before_they_cost_memory():
    assert refused("x = [" + "1," * 1_000_000 + "]").code == "manifest-too-large"
    assert refused("[[x]]\n" * 200_000).code == "manifest-too-large"


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "hint"),
    [
        ("[apply]", "[ouput]\n[apply]", 9, "ouput", "output"),
        ("{ size = 1 }", '{ sha265 = "x" }', 6, 'base.files."model.bin".sha265', "sha256"),
        ("[base.files]", "[base.file]", 5, "base.file", "files"),
        ('uri = "file:delta"', 'url = "file:delta"', 8, "delta[0].url", "uri"),
        ('preset = "f', 'pre_set = "f', 10, "apply.pre_set", "preset"),
    ],
)
def test_case_05_an_unknown_key_suggests_the_nearest(old, new, line, path, hint):
    error = refused(changed(old, new))
    assert error.code == "unknown-key"
    assert error.where == f"m.toml:{line}"
    assert error.what == f"{path}: unknown key"
    assert error.hint == f'did you mean "{hint}"?'
    assert error.expected is not None and hint in error.expected


def test_case_05_an_unquoted_file_name_is_explained():
    error = refused(changed('"model.bin" =', "model.bin ="))
    assert error.code == "unknown-key" and error.where == "m.toml:6"
    assert error.hint is not None and '"model.bin"' in error.hint


def test_case_05_an_unknown_schema_version_is_told_before_anything_else():
    error = refused(changed("vbuild/1", "vbuild/2") + "\n[new.table]\n")
    assert (error.code, error.where) == ("schema-version", "m.toml:1")
    assert error.expected == '"vbuild/1"' and error.got == '"vbuild/2"'


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ('name = "small"\n', "", "missing-key", 1),
        ('schema = "vbuild/1"\n', "", "missing-key", 1),
        ('uri = "file:delta"\n', "", "missing-key", 7),
        ('name = "small"', "name = 1", "wrong-type", 2),
        ('name = "small"', "name = 1979-05-27 07:32:00", "wrong-type", 2),
        ('name = "small"', 'name = ["small"]', "wrong-type", 2),
        ('name = "small"', 'name = "small\\n"', "bad-value", 2),
        ('name = "small"', 'name = ".small"', "bad-value", 2),
        ('name = "small"', f'name = "{"x" * 201}"', "bad-value", 2),
        ("schema =", "license = true\nschema =", "wrong-type", 1),
        ("size = 1", 'size = "1"', "wrong-type", 6),
        ("size = 1", "size = 1.0", "wrong-type", 6),
        ("size = 1", "size = true", "wrong-type", 6),
        ("size = 1", "size = nan", "wrong-type", 6),
        ("size = 1", "size = -1", "bad-value", 6),
        ("size = 1", "size = 9223372036854775808", "bad-value", 6),
        ("size = 1", "size = 18446744073709551617", "bad-value", 6),
        ("size = 1", "size = 0x" + "f" * 190, "bad-value", 6),
        ("size = 1", "size = " + "9" * 5000, "manifest-syntax", 6),
        ("size = 1", "size = 0x" + "f" * 100_000, "manifest-syntax", 6),
        ("{ size = 1 }", '"x"', "wrong-type", 6),
        ("[[delta]]", "[delta]", "wrong-type", 7),
        ("[apply]", "[[apply]]", "wrong-type", 9),
        ("[apply]", "[output]\ncopy = 'x'\n[apply]", "wrong-type", 10),
        ("[apply]", "[output]\ncopy = ['x', 1]\n[apply]", "wrong-type", 10),
        ("[apply]", "[output]\ndtype = 'float61'\n[apply]", "bad-value", 10),
        ("[apply]", "[output]\nformat = 1\n[apply]", "wrong-type", 10),
        ("[apply]", "[output]\nmax_shard_size = '5GiB'\n[apply]", "bad-value", 10),
        ("[apply]", "[output]\nmax_shard_size = '9999999999999GB'\n[apply]", "bad-value", 10),
        ("[apply]", "[tokenizer]\nsource='delta'\nrows = 0\n[apply]", "bad-value", 11),
        (
            "[apply]",
            "[tokenizer]\nsource='delta'\nupdate_trainer_vocab_size = 1\n[apply]",
            "wrong-type",
            11,
        ),
        ("[apply]", "[apply", "manifest-syntax", 9),
        ("[apply]", "[apply]\nx = 1979-13-45", "manifest-syntax", 10),
    ],
)
def test_case_06_a_missing_field_or_a_wrong_type(old, new, code, line):
    error = refused(changed(old, new))
    assert (error.code, error.where) == (code, f"m.toml:{line}")
    assert len(error.message) < 400


def test_case_06_one_table_and_an_array_of_tables_are_told_apart():
    assert refused(changed("[[delta]]", "[delta]")).hint == "write [[delta]], once for each"
    assert refused(changed("[apply]", "[[apply]]")).hint == "write [apply]: there is only one"


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("A" * 64, "lower case"),
        ("a" * 63, None),
        ("a" * 65, None),
        ("a" * 64 + "\\n", None),
        ("g" * 64, None),
        ("sha256:" + "a" * 64, "before the colon"),
        ("sha512:" + "a" * 128, "only digest"),
        ("", None),
        ("٣" * 64, None),
    ],
)
def test_case_07_a_digest_that_is_not_64_lowercase_hex_digits(value, hint):
    error = refused(changed("size = 1", f'sha256 = "{value}"'))
    assert (error.code, error.where) == ("bad-digest", "m.toml:6")
    assert error.expected == "64 lowercase hexadecimal digits"
    assert hint is None if error.hint is None else hint in error.hint
    weights = refused(f'{SMALL}[output]\nweights = "{value}"\n')
    assert (weights.code, weights.where) == ("bad-digest", "m.toml:12")


def test_case_07_an_unknown_algorithm():
    error = refused(changed("size = 1", 'md5 = "0804c42ca65584f50234a86d71e6916a"'))
    assert (error.code, error.where) == ("unknown-key", "m.toml:6")
    assert error.hint == "SHA-256 is the only digest"


BAD_NAMES = [
    "/etc/passwd",
    "../x",
    "a/../x",
    "./x",
    "a//b",
    "a/",
    "a\\\\b",
    "C:x",
    "a\\u0007",
    "a.",
    "con.txt",
    "",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_case_08_a_name_that_is_not_a_clean_relative_path(name):
    error = refused(changed('"model.bin"', f'"{name}"'))
    assert (error.code, error.where) == ("bad-path", "m.toml:6")
    for text in (
        f'[output.files]\n\n"{name}" = {{ sha256 = "{A}" }}\n',
        f'[output]\n\ncopy = ["{name}"]\n',
        f'[tokenizer]\nsource = "delta"\ntokens = "{name}"\n',
    ):
        error = refused(SMALL + text)
        assert error.code == ("bad-path" if name or "files" in text else "bad-value")
        assert error.where == "m.toml:13"


@pytest.mark.parametrize("other", ["MODEL.bin", "model.bin/x"])
def test_case_09_and_10_names_that_collide(other):
    error = refused(changed("[[delta]]", f'"{other}" = {{}}\n[[delta]]'))
    assert (error.code, error.where) == ("path-collision", "m.toml:7")
    pins = f'[output.files]\n"model.bin" = {{ sha256 = "{A}" }}\n"{other}" = {{ sha256 = "{A}" }}\n'
    error = refused(SMALL + pins)
    assert (error.code, error.where) == ("path-collision", "m.toml:13")


def test_case_09_a_name_copied_twice():
    error = refused(SMALL + '[output]\ncopy = ["README.md",\n "README.md"]\n')
    assert (error.code, error.where) == ("path-collision", "m.toml:13")


def test_a_copied_file_may_be_pinned_as_an_output():
    text = f'{SMALL}[output]\ncopy = ["model.bin"]\nfiles."model.bin" = {{ sha256 = "{A}" }}\n'
    assert parse_manifest(text.encode(), "m.toml").manifest.output.copy == ("model.bin",)


@pytest.mark.parametrize(
    "name", ["model.sig", "MODEL.SIG", ".git/config", ".gitignore", ".github/x"]
)
def test_case_12_an_output_name_that_no_signature_covers(name):
    error = refused(f'{SMALL}[output.files]\n"{name}" = {{ sha256 = "{A}" }}\n')
    assert (error.code, error.where) == ("bad-path", "m.toml:12")
    error = refused(f'{SMALL}[output]\ncopy = ["{name}"]\n')
    assert (error.code, error.where) == ("bad-path", "m.toml:12")


def test_case_13_one_file_with_two_hashes():
    text = changed("size = 1", f'sha256 = "{A}"').replace("file:delta", "file:base")
    text = text.replace("[apply]", f'[delta.files]\n"model.bin" = {{ sha256 = "{B}" }}\n[apply]')
    error = refused(text)
    assert (error.code, error.where) == ("two-digests", "m.toml:10")
    assert error.expected == f"{A} (line 6)" and error.got == B
    same = text.replace(B, A)
    assert parse_manifest(same.encode(), "m.toml").manifest.name == "small"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (changed('"model.bin" = { size = 1 }\n', ""), 5),
        (SMALL + "[output.files]\n", 11),
        (changed('preset = "fastchat-v0"', "rule = []"), 10),
        (changed('preset = "fastchat-v0"', '[[apply.rule]]\nmatch = []\nop = "add"'), 11),
    ],
    ids=["inputs", "outputs", "rules", "patterns"],
)
def test_case_14_an_empty_list(text, line):
    error = refused(text)
    assert (error.code, error.where) == ("empty-list", f"m.toml:{line}")


@pytest.mark.parametrize("pattern", ["a[0-9]", "a]", ""])
def test_case_15_a_pattern_that_is_not_a_glob(pattern):
    rule = f'[[apply.rule]]\nmatch = ["x",\n"{pattern}"]\nop = "add"'
    error = refused(changed('preset = "fastchat-v0"', rule))
    assert (error.code, error.where) == ("bad-value", "m.toml:12")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[apply]", "[{long}]"),
        ("[apply]", "['{long}']\n['{long}']"),
        ("[apply]", "x = {{ {long} = 1, {long} = 2 }}"),
        ('"model.bin"', '"{long}"'),
        ('"model.bin"', "{long}.x"),
        ("size = 1", "sha256 = '{long}'"),
        ("size = 1", "{long} = 1"),
        ("size = 1", "size = {long}"),
        ("file:base", "file:{long}"),
        ("file:base", "{long}:x"),
        ("fastchat-v0", "{long}"),
        ("vbuild/1", "{long}"),
    ],
)
def test_a_huge_key_or_value_is_cut_in_the_message(old, new):
    error = refused(changed(old, new.format(long="x" * 1_000_000)))
    assert len(error.message) + len(error.hint or "") < 1000


# What concerns several keys

RULES = 'rule=[{match="*",op="add"}]'
TOKENS = '[tokenizer]\nsource="delta"'
SHARD = "model-00001-of-00002.safetensors"
TWO_LISTS = f'{TOKENS}\ntokens="l"\nadd=[{{piece="x",type="normal"}}]\n[apply]'


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ('[apply]\npreset = "fastchat-v0"\n', "", "no-rules", 7),
        ('preset = "fastchat-v0"\n', "", "no-rules", 9),
        ("[apply]", '[apply]\n[[apply.rule]]\nmatch="*"\nop="add"\n[apply.x]', "unknown-key", 13),
        ("[apply]", f'preset="fastchat-v0"\n{RULES}\n[apply]', "preset-and-rules", 10),
        ('"fastchat-v0"', f'"fastchat-v0"\n{RULES}', "preset-and-rules", 11),
        ('"fastchat-v0"', '"fastchat-v2"', "unknown-preset", 10),
        ("[apply]", 'preset = "fastchat"\n[apply]', "unknown-preset", 9),
        ("file:base", "base", "bad-uri", 4),
        ("file:base", "file:", "bad-uri", 4),
        ("file:base", "file://host/x", "bad-uri", 4),
        ("file:base", "file:a\\u0000b", "bad-uri", 4),
        ("file:base", "", "bad-value", 4),
        ("file:delta", "s3://bucket/x", "unknown-scheme", 8),
        ("[apply]", TWO_LISTS, "two-token-lists", 11),
        ("[apply]", f'{TOKENS}\ntokens_sha256="{A}"\n[apply]', "no-effect", 11),
        ("[apply]", '[output]\ncopy=["model.safetensors"]\n[apply]', "reserved-name", 10),
        ("[apply]", f'[output]\ncopy=["{SHARD}"]\n[apply]', "reserved-name", 10),
        ("[apply]", '[output]\ncopy=["model.bim"]\n[apply]', "not-listed", 10),
    ],
)  # fmt: skip
def test_keys_that_contradict_each_other_are_refused(old, new, code, line):
    error = refused(changed(old, new))
    assert (error.code, error.where) == (code, f"m.toml:{line}")


@pytest.mark.parametrize("table", ["tokenizer", "config"])
def test_taking_files_from_a_delta_needs_a_delta(table):
    text = f'schema = "vbuild/1"\nname = "x"\nbase.uri = "file:b"\n[{table}]\nsource = "delta"\n'
    error = refused(text)
    assert (error.code, error.where) == ("no-delta", "m.toml:5")


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ('op = "drop"\npad = "zero"', "pad"),
        ('op = "xor"\ncompute = "float32"', "compute"),
        ('op = "copy-base"\non_shape_mismatch = "copy-delta"', "on_shape_mismatch"),
        ('op = "drop"\non_missing = "copy"', "on_missing"),
        ('op = "merge"\npad = "zero"', "pad"),
        ('op = "merge"\non_shape_mismatch = "copy-delta"', "on_shape_mismatch"),
    ],
)
def test_a_key_of_a_rule_that_has_no_effect_is_refused(keys, key):
    error = refused(changed('preset = "fastchat-v0"', f'[[apply.rule]]\nmatch = "*"\n{keys}'))
    assert (error.code, error.where) == ("no-effect", "m.toml:13")
    assert error.what.startswith(f"apply.rule[0].{key}: ")


def test_a_piece_or_a_role_given_twice_is_refused():
    add = '[[tokenizer.add]]\npiece = "{}"\ntype = "control"\nrole = "pad"\n'
    text = SMALL + '[tokenizer]\nsource = "delta"\n' + add.format("a")
    assert refused(text + add.format("a")).code == "duplicate-piece"
    error = refused(text + add.format("b"))
    assert (error.code, error.where) == ("duplicate-role", "m.toml:20")
    assert refused(text + add.format("")).code == "bad-value"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("[apply]", '[output]\nformat = "gguf"\ntype = "Q4_K_M"\n[apply]', 11),
    ],
)
def test_what_the_language_has_and_vbuild_has_not_yet_is_said_to_be_so(old, new, line):
    error = refused(changed(old, new))
    assert (error.code, error.where) == ("not-supported-yet", f"m.toml:{line}")


# Files


def test_case_16_a_missing_manifest_is_unavailable(tmp_path):
    with pytest.raises(Unavailable) as caught:
        load_manifest(tmp_path / "none.toml")
    assert caught.value.exit_status == 3 and "none.toml" in caught.value.message


def test_case_20_a_fifo_or_directory_instead_of_a_manifest_never_hangs(tmp_path):
    os.mkfifo(tmp_path / "m.toml")
    assert stat.S_ISFIFO((tmp_path / "m.toml").stat().st_mode)
    for path in (tmp_path / "m.toml", tmp_path):
        with pytest.raises(InvalidInput) as caught:
            load_manifest(path)
        assert caught.value.code == "not-a-file"
