"""Locking fills pins in and changes nothing else."""

import errno
import hashlib
import json
import os
import re
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vbuild.errors import InvalidInput, Mismatch, NotLocked, Unavailable
from vbuild.manifest import load_manifest, unpinned
from vbuild.manifest.edit import Pin, pinned_text
from vbuild.manifest.lock import lock_manifest
from vbuild.manifest.outline import scan

HEAD = 'schema = "vbuild/1"\nname = "x"\n'
APPLY = '[apply]\npreset = "fastchat-v0"\n'


def hash_files(paths):
    return [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]


def write(root: Path, **files: object) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())


def pin(path: Path) -> str:
    data = path.read_bytes()
    return f'{{ size = {len(data)}, sha256 = "{hashlib.sha256(data).hexdigest()}" }}'


@pytest.fixture
def here(tmp_path):
    write(
        tmp_path,
        **{
            "base/model.bin": b"base",
            "base/config.json": "{}",
            "delta/pytorch_model.bin": b"delta",
            "delta/tokenizer.model": b"tokenizer",
            "delta/config.json": "{ }",
        },
    )
    return tmp_path


def lock(here: Path, text: str, **options: object):
    path = here / "m.toml"
    path.write_bytes(text.encode())
    result = lock_manifest(path, hash_files=hash_files, **options)
    assert path.read_bytes() == result.text
    return result


def locked(here: Path, text: str, **options: object) -> str:
    result = lock(here, text, **options)
    assert result.problems == ()
    assert unpinned(load_manifest(here / "m.toml").manifest) == []
    again = lock_manifest(here / "m.toml", hash_files=hash_files, **options)
    assert (again.changed, again.text) == (False, result.text)
    return result.text.decode()


def test_a_listed_file_gets_its_pin_and_every_other_byte_stays(here):
    text = f"""\
# head
{HEAD}
[base]     # the base
uri   =   'file:base'
[base.files]
  # weights
  "model.bin" = {{}}   # pinned by lock
"config.json"={{ size = 2 }}

  # the delta
[[delta]]
uri = "file:delta"
[delta.files]
"tokenizer.model" = {{   }}
pytorch_model.bin = {{}}

{APPLY}# tail"""
    with pytest.raises(InvalidInput):  # an unquoted name with a dot is two keys
        lock(here, text)
    text = text.replace("pytorch_model.bin =", '"pytorch_model.bin" =')
    expected = text
    for name, old in (
        ("base/model.bin", "{}   #"),
        ("base/config.json", "{ size = 2 }"),
        ("delta/tokenizer.model", "{   }"),
        ("delta/pytorch_model.bin", "{}"),
    ):
        key = f'"{name.split("/")[1]}"'
        for equals in (" = ", "="):
            expected = expected.replace(
                f"{key}{equals}{old}",
                f"{key}{equals}{pin(here / name)}{'   #' if '#' in old else ''}",
            )
    assert locked(here, text) == expected


def test_an_input_without_files_gets_the_table_behind_its_own_keys(here):
    text = f"""\
{HEAD}
[base]
uri = "file:base"
# format = "torch"

[[delta]]
uri = "file:delta"
# about apply
{APPLY}
[tokenizer]
source = "delta\""""
    expected = f"""\
{HEAD}
[base]
uri = "file:base"
# format = "torch"
[base.files]
"model.bin" = {pin(here / "base/model.bin")}

[[delta]]
uri = "file:delta"
[delta.files]
"config.json" = {pin(here / "delta/config.json")}
"pytorch_model.bin" = {pin(here / "delta/pytorch_model.bin")}
"tokenizer.model" = {pin(here / "delta/tokenizer.model")}
# about apply
{APPLY}
[tokenizer]
source = "delta\""""
    assert locked(here, text) == expected


def test_a_manifest_without_a_final_newline_can_be_locked(here):
    text = f'{HEAD}[base]\nuri = "file:base"'
    expected = (
        f"{text}\n[base.files]\n"
        f'"config.json" = {pin(here / "base/config.json")}\n'
        f'"model.bin" = {pin(here / "base/model.bin")}\n'
    )
    assert locked(here, text) == expected


def test_a_chain_of_deltas_gets_each_its_own_files(here):
    write(here, **{"second/model.safetensors": b"second"})
    text = (
        f'{HEAD}[base]\nuri = "file:base"\n[[delta]]\nuri = "file:delta"\n'
        f'[[delta.rule]]\nmatch = "*"\nop = "add"\n[[delta]]\nuri = "file:second"\n{APPLY}'
    )
    document = tomllib.loads(locked(here, text))
    assert list(document["delta"][0]["files"]) == ["pytorch_model.bin"]
    assert list(document["delta"][1]["files"]) == ["model.safetensors"]


def test_line_ends_stay_as_they_are(here):
    text = (
        f'{HEAD}[base]\nuri = "file:base"\n[base.files]\n"model.bin" = {{}} # c\n'
        f'[[delta]]\nuri = "file:delta"\n{APPLY}'
    ).replace("\n", "\r\n")
    new = locked(here, text)
    assert new.count("\n") == new.count("\r\n") == text.count("\r\n") + 2


@pytest.mark.parametrize(
    "base",
    [
        'base = { uri = "file:base" }\n',
        'base.uri = "file:base"\n',
        'base = { uri = "file:base", files = { "model.bin" = {} } }\n',
        'base.uri = "file:base"\nbase.files."model.bin".size = 4\n',
        '[base]\nuri = "file:base"\nfiles."model.bin" = {}\n',
        '[base]\nuri = "file:base"\n[base.files."model.bin"]\n',
        '[base]\nuri = "file:base"\n[base.files."model.bin"]\nsize = 4\n',
        '[base.files]\n"model.bin" = {}\n[base]\nuri = "file:base"\n',
        '[base]\nuri = "file:base"\n[base.files]\n"model.bin".size = 4\n',
        '[base]\nuri = """file:base"""\n',
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_other_ways_to_write_a_table_are_pinned_too(here, base, newline):
    text = (HEAD + base).replace("\n", newline)
    before = tomllib.loads(text)
    new = locked(here, text)
    after = tomllib.loads(new)
    digest = hashlib.sha256(b"base").hexdigest()
    assert after["base"].pop("files")["model.bin"] == {"size": 4, "sha256": digest}
    before["base"].pop("files", None)
    assert after == before
    assert new.count("\n") == new.count(newline)


def test_what_would_not_say_what_was_meant_is_never_written():
    pin = Pin(("base", "files", "model.bin"), 4, "0" * 64)
    text = f'{HEAD}[base]\nuri = "file:base"\n[base.files]\n"model.bin" = {{}}\n'
    for other in ("", text.replace("file:base", "file:elsewhere")):  # not this text's outline
        with pytest.raises(InvalidInput) as caught:
            pinned_text(text.encode(), scan(other, "m.toml"), [pin])
        assert (caught.value.code, caught.value.exit_status) == ("lock-layout", 2)


def test_sections_stay_where_they_are_and_comments_in_their_sections(here):
    sha256 = f'sha256 = "{hashlib.sha256(b"{ }").hexdigest()}"'
    old = f"""\
{HEAD}
# about the first
[[delta]]
uri = "file:delta"
[delta.files."config.json"]
# nothing yet

# about apply
[apply]
preset = "fastchat-v0"

# about the second
  [[delta]]
  files."config.json".size = 3
  uri = "file:delta"
# about the base
[base]
uri = "file:base"
files = {{ "model.bin" = {{size=4}}, "config.json" = {{}} }} # c
"""
    new = old.replace('json"]\n', f'json"]\nsize = 3\n{sha256}\n')
    new = new.replace(".size = 3\n", f'.size = 3\n  files."config.json".{sha256}\n')
    model = f'{{size=4, sha256 = "{hashlib.sha256(b"base").hexdigest()}"}}'
    config = pin(here / "base/config.json")
    new = new.replace("{size=4}", model).replace("{} }", f"{config} }}")
    assert locked(here, old) == new


def test_the_usual_ways_to_write_an_inline_base_can_be_locked(here):
    for base in ('base = { uri = "file:base" }\n', 'base.uri = "file:base"\n'):
        document = tomllib.loads(locked(here, HEAD + base))
        assert sorted(document["base"]["files"]) == ["config.json", "model.bin"]


def test_a_list_of_tokens_is_pinned(here):
    write(here, **{"list.txt": "C [PAD]\n"})
    text = (
        f'{HEAD}[base]\nuri = "file:base"\n[tokenizer]\nsource = "base"\ntokens = "list.txt" # c\n'
    )
    document = tomllib.loads(locked(here, text))
    expected = hashlib.sha256(b"C [PAD]\n").hexdigest()
    assert document["tokenizer"]["tokens_sha256"] == expected


def test_the_mode_is_kept_and_a_link_stays_a_link(here):
    real = here / "real.toml"
    real.write_text(f'{HEAD}[base]\nuri = "file:base"\n')
    real.chmod(0o640)
    (here / "m.toml").symlink_to("real.toml")
    assert lock_manifest(here / "m.toml", hash_files=hash_files).changed
    assert (here / "m.toml").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "sha256" in real.read_text()
    assert sorted(p.name for p in here.iterdir()) == ["base", "delta", "m.toml", "real.toml"]


def test_overrides_replace_the_uris_in_order(here):
    write(here, **{"elsewhere/model.bin": b"moved", "third/model.bin": b"third"})
    text = (
        f'{HEAD}[base]\nuri = "file:none"\n[[delta]]\nuri = "hf://a/b@main"\n'
        f'[[delta]]\nuri = "file:delta"\n{APPLY}'
    )
    new = locked(here, text, base=here / "elsewhere", delta=[here / "third"])
    document = tomllib.loads(new)
    assert document["base"]["uri"] == "file:none"
    assert document["base"]["files"]["model.bin"]["size"] == 5
    assert document["delta"][0]["files"]["model.bin"]["size"] == 5
    assert document["delta"][1]["files"]["pytorch_model.bin"]["size"] == 5
    with pytest.raises(InvalidInput) as caught:
        lock(here, text, base=here / "elsewhere", delta=[here / "third"] * 3)
    assert caught.value.code == "too-many-deltas"


@pytest.mark.parametrize(
    ("pins", "code", "expected", "got"),
    [
        ("size = 5", "size-mismatch", "5 bytes", "4 bytes"),
        (
            f'sha256 = "{"0" * 64}"',
            "digest-mismatch",
            "0" * 64,
            hashlib.sha256(b"base").hexdigest(),
        ),
        (f'size = 3, sha256 = "{"0" * 64}"', "size-mismatch", "3 bytes", "4 bytes"),
    ],
)
def test_cases_18_and_19_a_pin_that_is_not_true_is_never_replaced(here, pins, code, expected, got):
    files = f'[base.files]\n"config.json" = {{}}\n"model.bin" = {{ {pins} }}\n'
    text = f'{HEAD}[base]\nuri = "file:base"\n{files}'
    with pytest.raises(Mismatch) as caught:
        lock(here, text)
    error = caught.value
    assert (error.code, error.exit_status) == (code, 1)
    assert (error.expected, error.got) == (expected, got)
    assert error.where == f"{here / 'm.toml'}:7" and "base/model.bin" in error.message
    assert (here / "m.toml").read_text() == text
    result = lock(here, text, check=True)
    assert [p.code for p in result.problems if not isinstance(p, NotLocked)] == [code]
    assert result.problems[-1].message == error.message


def test_case_18_a_file_of_another_size_is_not_hashed(here):
    text = f'{HEAD}[base]\nuri = "file:base"\n[base.files]\n"model.bin" = {{ size = 5 }}\n'
    (here / "m.toml").write_text(text)
    with pytest.raises(Mismatch):
        lock_manifest(here / "m.toml", hash_files=lambda paths: pytest.fail(str(paths)))


def test_checking_writes_nothing_and_lists_gaps(here):
    delta = '[[delta]]\nuri = "file:delta"\n[delta.files]\n"config.json" = {}\n'
    text = f'{HEAD}[base]\nuri = "file:base"\n{delta}{APPLY}'
    result = lock(here, text, check=True)
    assert (result.changed, result.text) == (False, text.encode())
    assert [(type(p), p.exit_status, p.where) for p in result.problems] == [
        (NotLocked, 4, f"{here / 'm.toml'}:3"),
        (NotLocked, 4, f"{here / 'm.toml'}:8"),
    ]
    assert all(p.hint == f"vbuild lock {here / 'm.toml'}" for p in result.problems)
    lock(here, text)
    assert lock_manifest(here / "m.toml", hash_files=hash_files, check=True).problems == ()
    (here / "delta/config.json").write_text("[ ]")
    (problem,) = lock_manifest(here / "m.toml", hash_files=hash_files, check=True).problems
    assert (problem.code, problem.exit_status) == ("digest-mismatch", 1)


@pytest.mark.parametrize("check", [True, False])
def test_case_16_a_missing_file_is_unavailable(here, check):
    text = f'{HEAD}[base]\nuri = "file:base"\n[base.files]\n"none.bin" = {{}}\n'
    with pytest.raises(Unavailable) as caught:
        lock(here, text, check=check)
    assert caught.value.code == "file-missing" and "none.bin" in caught.value.message
    (here / "m.toml").write_text(text.replace("file:base", "file:nowhere"))
    with pytest.raises(Unavailable) as caught:
        lock_manifest(here / "m.toml", hash_files=hash_files, check=check)
    assert caught.value.code == "source-missing"
    assert caught.value.hint is not None and "--base" in caught.value.hint


def test_case_20_a_fifo_instead_of_a_file_never_hangs(here):
    os.mkfifo(here / "base/fifo.bin")
    with pytest.raises(InvalidInput) as caught:
        lock(here, f'{HEAD}[base]\nuri = "file:base"\n[base.files]\n"fifo.bin" = {{}}\n')
    assert caught.value.code == "not-a-file"


def test_case_24_a_file_that_changes_while_it_is_hashed_is_not_pinned(here):
    def meddle(paths):
        digests = hash_files(paths)
        with (here / "base/model.bin").open("ab") as f:
            f.write(b"!")
        return digests

    text = f'{HEAD}[base]\nuri = "file:base"\n'
    (here / "m.toml").write_text(text)
    with pytest.raises(Mismatch) as caught:
        lock_manifest(here / "m.toml", hash_files=meddle)
    assert caught.value.code == "file-changed"
    assert (here / "m.toml").read_text() == text


def test_an_edit_that_is_made_while_the_inputs_are_hashed_is_not_lost(here):
    text = f'{HEAD}[base]\nuri = "file:base"\n'

    def edit(paths):
        (here / "m.toml").write_text(text + "# edited\n")
        return hash_files(paths)

    (here / "m.toml").write_text(text)
    with pytest.raises(Mismatch) as caught:
        lock_manifest(here / "m.toml", hash_files=edit)
    assert caught.value.code == "file-changed" and "m.toml" in caught.value.message
    assert (here / "m.toml").read_text() == text + "# edited\n"


def test_case_27_a_full_disk_leaves_the_manifest_as_it_was(here, monkeypatch):
    text = f'{HEAD}[base]\nuri = "file:base"\n'
    (here / "m.toml").write_text(text)
    before = sorted(p.name for p in here.iterdir())

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable) as caught:
        lock_manifest(here / "m.toml", hash_files=hash_files)
    assert caught.value.code == "disk-full" and "m.toml" in caught.value.message
    assert (here / "m.toml").read_text() == text
    assert sorted(p.name for p in here.iterdir()) == before


def test_case_32_a_git_lfs_pointer_is_not_pinned(here):
    write(here, **{"base/model.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"})
    with pytest.raises(InvalidInput) as caught:
        lock(here, f'{HEAD}[base]\nuri = "file:base"\n')
    assert caught.value.code == "git-lfs-pointer" and "git lfs pull" in str(caught.value.hint)


# What an input without `files` consists of

META = dict.fromkeys(["README.md", "consolidated.00.pth", "consolidated.01.pth"], "") | {
    "params.json": "{}"
}
INDEX = {"weight_map": {"a": "s-2.safetensors", "b": "s-1.safetensors", "c": "s-1.safetensors"}}


@pytest.mark.parametrize(
    ("container", "files", "found"),
    [
        ("auto", {"model.safetensors": "", "pytorch_model.bin": ""}, ["model.safetensors"]),
        ("torch", {"model.safetensors": "", "pytorch_model.bin": ""}, ["pytorch_model.bin"]),
        ("safetensors", {"model.safetensors": "", "a.bin": ""}, ["model.safetensors"]),
        (
            "auto",
            {
                "model.safetensors.index.json": INDEX,
                "s-1.safetensors": "",
                "s-2.safetensors": "",
                "stray.safetensors": "",
                "pytorch_model.bin": "",
            },
            ["model.safetensors.index.json", "s-1.safetensors", "s-2.safetensors"],
        ),
        (
            "auto",
            {"pytorch_model.bin.index.json": {"weight_map": {"a": "x.bin"}}, "x.bin": "", "y": ""},
            ["pytorch_model.bin.index.json", "x.bin"],
        ),
        (
            "auto",
            {"params.json": "", "consolidated.00.pth": "", "consolidated.01.pth": "", "x.pth": ""},
            ["consolidated.00.pth", "consolidated.01.pth", "params.json"],
        ),
        (
            "auto",
            {"adapter_config.json": "", "adapter_model.bin": "", "training_args.bin": ""},
            ["adapter_config.json", "adapter_model.bin"],
        ),
        (
            "auto",
            {"adapter_config.json": "", "adapter_model.bin": "", "adapter_model.safetensors": ""},
            ["adapter_config.json", "adapter_model.safetensors"],
        ),
        ("torch", {"consolidated.00.pth": "", "README.md": ""}, ["consolidated.00.pth"]),
        ("auto", META, [*sorted(META)][1:]),
        ("auto", META | {"model.safetensors": ""}, ["model.safetensors"]),
        ("meta-llama", META | {"model.safetensors": ""}, [*sorted(META)][1:]),
        ("auto", {"adapter.bin": "", "training_args.bin": "", "optimizer.pt": ""}, ["adapter.bin"]),
        (
            "auto",
            {"w-00001-of-00002.bin": "", "w-00002-of-00002.bin": "", "training_args.bin": ""},
            ["w-00001-of-00002.bin", "w-00002-of-00002.bin"],
        ),
        ("auto", {"a.safetensors": "", "b.bin": "", "c.bin": ""}, ["a.safetensors"]),
    ],
)  # fmt: skip
def test_the_weight_files_of_a_directory(tmp_path, container, files, found):
    write(tmp_path, **{f"in/{name}": content for name, content in files.items()})
    text = f'{HEAD}[base]\nuri = "file:in"\nformat = "{container}"\n'
    assert list(tomllib.loads(locked(tmp_path, text))["base"]["files"]) == found


@pytest.mark.parametrize(
    ("files", "error", "code"),
    [
        ({"README.md": ""}, Unavailable, "no-weights"),
        ({"consolidated.00.pth": ""}, InvalidInput, "meta-params-missing"),
        ({"consolidated.01.pth": "", "params.json": "{}"}, InvalidInput, "meta-files"),
        ({"a.bin": "", "b.bin": ""}, InvalidInput, "weights-unclear"),
        ({"w-1-of-3.bin": "", "w-2-of-3.bin": ""}, InvalidInput, "weights-unclear"),
        ({"w-1-of-2.bin": "", "v-2-of-2.bin": ""}, InvalidInput, "weights-unclear"),
        ({"model.safetensors.index.json": "{"}, InvalidInput, "index-malformed"),
        ({"model.safetensors.index.json": "[]"}, InvalidInput, "index-malformed"),
        ({"model.safetensors.index.json": {}}, InvalidInput, "index-malformed"),
        ({"model.safetensors.index.json": {"weight_map": {}}}, InvalidInput, "index-malformed"),
        (
            {"model.safetensors.index.json": {"weight_map": {"a": 1}}},
            InvalidInput,
            "index-malformed",
        ),
        (
            {"model.safetensors.index.json": {"weight_map": {"a": "../x"}}},
            InvalidInput,
            "index-shard-name",
        ),
        (
            {"model.safetensors.index.json": {"weight_map": {"a": "nul"}}},
            InvalidInput,
            "bad-path",
        ),
        ({"model.safetensors.index.json": INDEX}, Unavailable, "file-missing"),
    ],
)
def test_weights_that_are_missing_or_unclear(tmp_path, files, error, code):
    write(tmp_path, **{f"in/{name}": content for name, content in files.items()})
    with pytest.raises(error) as caught:
        lock(tmp_path, f'{HEAD}[base]\nuri = "file:in"\n')
    assert caught.value.code == code and "\n" not in caught.value.message


COMPANIONS = [
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "docs/LICENSE",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
]
CONFIGS = ["config.json", "generation_config.json"]
OTHERS = ["README.md", "docs/LICENSE", "model.safetensors", "vocab.txt"]
TOKENIZER = [name for name in COMPANIONS if name not in (*CONFIGS, *OTHERS)]


@pytest.mark.parametrize(
    ("tables", "base", "delta"),
    [
        ("", CONFIGS, []),
        ('[config]\nsource = "delta"\n', [], CONFIGS),
        ('[tokenizer]\nsource = "base"\n', CONFIGS + TOKENIZER, []),
        ('[tokenizer]\nsource = "delta"\n', [], CONFIGS + TOKENIZER),
        ('[tokenizer]\nsource = "delta"\n[config]\nsource = "base"\n', CONFIGS, TOKENIZER),
        ('[output]\ncopy = ["docs/LICENSE"]\n', [*CONFIGS, "docs/LICENSE"], []),
        (
            '[tokenizer]\nsource = "delta"\n[output]\ncopy = ["docs/LICENSE"]\n',
            [],
            [*CONFIGS, *TOKENIZER, "docs/LICENSE"],
        ),
    ],
)
def test_the_files_beside_the_weights_come_from_the_chosen_side(tmp_path, tables, base, delta):
    for side in ("base", "delta"):
        write(tmp_path, **{f"{side}/{name}": f"{side} {name}" for name in COMPANIONS})
    text = f'{HEAD}[base]\nuri = "file:base"\n[[delta]]\nuri = "file:delta"\n{APPLY}{tables}'
    document = tomllib.loads(locked(tmp_path, text))
    assert list(document["base"]["files"]) == sorted([*base, "model.safetensors"])
    assert list(document["delta"][0]["files"]) == sorted([*delta, "model.safetensors"])


def test_a_file_to_copy_that_is_not_there_is_unavailable(here):
    with pytest.raises(Unavailable) as caught:
        lock(here, f'{HEAD}[base]\nuri = "file:base"\n[output]\ncopy = ["LICENSE"]\n')
    assert caught.value.code == "file-missing" and "LICENSE" in caught.value.message


COMMENT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=10).map(
    lambda t: f"# {t}"
)
NOISE = st.lists(st.just("") | COMMENT, max_size=3)
SPACE = st.text(" \t", max_size=3)


@st.composite
def manifests(draw):
    """A manifest with comments and white space anywhere, its sections in any order."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    sections = [
        ["[base]", 'uri = "file:base"'],
        ["[[delta]]", 'uri = "file:delta"'],
        ["[apply]", 'preset = "fastchat-v0"'],
        ["[[delta]]", 'uri = "file:delta"'],
    ]
    for section in (sections[0], sections[1], sections[3]):
        name = section[0].strip("[]")
        file, size = ("model.bin", 4) if name == "base" else ("pytorch_model.bin", 5)
        some = draw(st.sampled_from(["{}", "{ }", f"{{ size = {size} }}"]))
        section += draw(
            st.sampled_from(
                [
                    [],
                    [f"[{name}.files]", f'"{file}" = {some}'],
                    [f'files = {{ "{file}" = {some} }}'],
                    [f'files."{file}".size = {size}'],
                    [f'[{name}.files."{file}"]'],
                ]
            )
        )
    lines = []
    for section in [['schema = "vbuild/1"', 'name = "x"'], *draw(st.permutations(sections))]:
        for line in section:
            lines += draw(NOISE)
            tail = draw(st.just("") | COMMENT.map(lambda c: " " + c))
            lines.append(draw(SPACE) + line + tail)
    return newline.join(lines + draw(NOISE)) + draw(st.sampled_from(["", newline]))


@given(text=manifests())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_stands_there_stays_in_its_order_and_only_pins_are_added(here, text):
    new = locked(here, text)
    newline = "\r\n" if "\r\n" in text else "\n"
    assert new.count("\n") == new.count(newline)
    rest = iter(new)
    lost = [c for c in re.sub(r"\{ *\}", "{}", text) if c not in rest]
    assert not lost
    added = [line for line in new.split(newline) if line and line not in text.split(newline)]
    assert all("sha256" in line or "size" in line or ".files]" in line for line in added)
