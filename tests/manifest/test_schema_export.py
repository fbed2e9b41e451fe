"""The JSON Schema and the reference page say what the schema says."""

import re
from pathlib import Path

import msgspec
import pytest
import tomli

from vbuild.errors import InvalidInput
from vbuild.manifest import Manifest, parse_manifest, preset_names
from vbuild.manifest.schema import LATER, SCHEMA_VERSION
from vbuild.manifest.schema_export import json_schema

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def keys() -> list[str]:
    schema = msgspec.json.decode(json_schema())
    return sorted({key for table in schema["$defs"].values() for key in table["properties"]})


def test_the_published_schema_is_the_one_that_is_used():
    assert (DOCS / "manifest.schema.json").read_text(encoding="utf-8") == json_schema()


def test_the_schema_is_in_the_shape_of_toml():
    text = json_schema()
    schema = msgspec.json.decode(text)
    assert "null" not in text and "(?!" not in text
    assert schema["$defs"]["Manifest"]["properties"]["schema"]["enum"] == [SCHEMA_VERSION]
    for table in schema["$defs"].values():
        assert table["additionalProperties"] is False
    assert json_schema() == text


def test_the_reference_page_names_every_key_preset_and_value():
    page = (DOCS / "manifest.md").read_text(encoding="utf-8")
    words = set(re.findall(r"`([^`\n]+)`", page))
    code = "\n".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    for key in keys():
        assert key in words or re.search(rf"^\W*{key}\b", code, re.MULTILINE), key
    for name in preset_names():
        assert name in words
    for values in LATER.values():
        for value in values:
            assert f'"{value}"' in page


@pytest.mark.parametrize(
    "page",
    ["reference/manifest.md", *(f"how-to/{p.name}" for p in DOCS.parent.glob("how-to/*.md"))],
)
def test_the_examples_of_a_page_are_valid_manifests(page):
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    for example in re.findall(r"```toml\n(schema = .*?)```", text, re.DOTALL):
        assert parse_manifest(example.encode(), page).manifest.schema == SCHEMA_VERSION
    for rules in re.findall(r"```toml\n(\[\[apply.rule.*?)```", text, re.DOTALL):
        head = 'schema = "vbuild/1"\nname = "x"\nbase.uri = "file:b"\n[[delta]]\nuri = "file:d"\n'
        kind = 'kind = "lora"\n' if '"merge"' in rules else ""
        assert parse_manifest((head + kind + rules).encode(), page).rules_for(0)


@pytest.mark.oracle
def test_an_independent_validator_agrees_with_the_loader():
    jsonschema = pytest.importorskip("jsonschema", reason="needs the jsonschema package")
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(json_schema()))
    jsonschema.Draft202012Validator.check_schema(validator.schema)
    base = 'schema = "vbuild/1"\nname = "x"\n[base]\nuri = "file:b"\n'
    delta = '[[delta]]\nuri = "file:d"\n'
    rules = '[[apply.rule]]\nmatch = ["a", "b*"]\nop = "add"\npad = "zero"\n'
    for text, good in (
        (base, True),
        (base + delta + rules, True),
        (base + delta + '[apply]\npreset = "fastchat-v0"\n', True),
        (base + '[base.files]\n"a" = {}\n"b" = { size = 1, sha256 = "' + "0" * 64 + '" }\n', True),
        (base + "[base.files]\n", False),
        (base + '[base.files]\n"a" = { size = -1 }\n', False),
        (base + '[base.files]\n"a" = { sha256 = "' + "F" * 64 + '" }\n', False),
        (base + delta + '[apply]\npreset = "fastchat-v0"\nrule = []\n', False),
        (base + delta + rules.replace("add", "sub"), False),
        (base + "[ouput]\n", False),
        (base.replace("vbuild/1", "vbuild/2"), False),
        (base.replace('"x"', '"-x"'), False),
        (base + '[output]\nmax_shard_size = "5GiB"\n', False),
    ):
        assert validator.is_valid(tomli.loads(text)) == good, text
        if good:
            msgspec.convert(tomli.loads(text), Manifest)
        else:
            with pytest.raises(InvalidInput):
                parse_manifest(text.encode(), "m.toml")
