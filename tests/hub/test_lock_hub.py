"""``vbuild lock`` pins what the Hub says, in place, without downloading weights."""

import hashlib
import json
import tomllib

import pytest

from tests.support.builds import random_tensors, write_safetensors
from tests.support.hub import sha256

HEAD = 'schema = "vbuild/1"\nname = "x"\n'
APPLY = '[apply]\npreset = "fastchat-v0"\n'
INDEX = json.dumps({"weight_map": {"a": "w-2.safetensors", "b": "w-1.safetensors"}}).encode()
FULL = {
    "README.md": b"readme",
    "config.json": b"{}",
    "generation_config.json": b"{ }",
    "model.safetensors.index.json": INDEX,
    "w-1.safetensors": b"one",
    "w-2.safetensors": b"two",
    "pytorch_model.bin": b"the same again",
    "stray.safetensors": b"stray",
    "tokenizer.model": b"pieces",
    "tokenizer_config.json": b"{  }",
    "original/consolidated.00.pth": b"meta",
}


@pytest.fixture
def lock(hub, vb, tmp_path, monkeypatch):
    """``lock(text, *options)``: the command, with ``text`` as the manifest."""
    monkeypatch.chdir(tmp_path)

    def run(text, *options):
        (tmp_path / "m.toml").write_bytes(text.encode())
        return vb("lock", "m.toml", *options)

    return run


@pytest.fixture
def locked(lock, tmp_path):
    """The manifest as it is after locking."""

    def run(text):
        ran = lock(text)
        assert ran.status == 0, ran.err
        return (tmp_path / "m.toml").read_bytes().decode()

    return run


def pin(data):
    return f'{{ size = {len(data)}, sha256 = "{hashlib.sha256(data).hexdigest()}" }}'


def bodies(hub):
    """The files of which content was asked for."""
    return [line.rsplit("/", 1)[1] for line in hub.lines("GET") if "/resolve/" in line]


def test_a_branch_becomes_a_commit_and_every_other_byte_stays(hub, locked):
    commit = hub.repo("org/model", FULL).commits["main"]
    text = f"""\
# head
{HEAD}
[base] # the base
uri  =  'hf://org/model@main'   # a branch
  # files follow
[base.files]
"config.json" = {{}} # small
"w-1.safetensors" = {{ }}
# tail"""
    expected = text.replace("model@main", f"model@{commit}")
    expected = expected.replace('json" = {}', f'json" = {pin(FULL["config.json"])}')
    expected = expected.replace('tensors" = { }', f'tensors" = {pin(FULL["w-1.safetensors"])}')
    assert locked(text) == expected
    assert bodies(hub) == ["config.json"]


@pytest.mark.parametrize(
    ("quotes", "newline"), [('"', "\n"), ("'", "\r\n"), ('"""', "\r\n"), ("'''", "\n")]
)
@pytest.mark.parametrize(
    "base", ["[base]\nuri = U\n", "base.uri = U\n", "base = { uri = U }\n", "[base]\n'uri'=U#c\n"]
)
def test_every_way_to_write_the_uri_is_kept(hub, locked, quotes, newline, base):
    commit = hub.repo("org/model", {"model.safetensors": b"w"}).commits["main"]
    text = (HEAD + base.replace("U", f"{quotes}hf://org/model{quotes}")).replace("\n", newline)
    new = locked(text)
    assert f"{quotes}hf://org/model@{commit}{quotes}" in new
    assert new.count("\n") == new.count(newline)
    files = tomllib.loads(new)["base"]["files"]
    assert files == {"model.safetensors": {"size": 1, "sha256": sha256(b"w")}}


def test_without_files_those_that_are_needed_are_found(hub, locked):
    hub.repo("org/model", FULL)
    text = f'{HEAD}[base]\nuri = "hf://org/model"\n[tokenizer]\nsource = "base"\n'
    names = ["config.json", "generation_config.json", "model.safetensors.index.json"]
    names += ["tokenizer.model", "tokenizer_config.json", "w-1.safetensors", "w-2.safetensors"]
    found = tomllib.loads(locked(text))["base"]["files"]
    assert found == {n: {"size": len(FULL[n]), "sha256": sha256(FULL[n])} for n in names}
    small = ["config.json", "generation_config.json", "tokenizer_config.json"]
    assert sorted(set(bodies(hub))) == [*small[:2], "model.safetensors.index.json", small[2]]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        (["pytorch_model.bin", "optimizer.pt"], ["pytorch_model.bin"]),
        (
            ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"],
            ["adapter_config.json", "adapter_model.safetensors"],
        ),
        (
            ["consolidated.00.pth", "consolidated.01.pth", "params.json", "checklist.chk"],
            ["consolidated.00.pth", "consolidated.01.pth", "params.json"],
        ),
    ],
)
def test_the_weights_of_one_container_are_taken(hub, locked, files, found):
    hub.repo("org/delta", {name: name.encode() for name in files})
    hub.repo("org/base", {"model.safetensors": b""})
    text = f'{HEAD}[base]\nuri = "hf://org/base"\n[[delta]]\nuri = "hf://org/delta"\n{APPLY}'
    document = tomllib.loads(locked(text))
    assert sorted(document["delta"][0]["files"]) == found
    assert document["delta"][0]["uri"].startswith("hf://org/delta@")


def test_a_repository_without_weights_is_named(hub, lock):
    hub.repo("org/model", {"README.md": b""})
    ran = lock(f'{HEAD}[base]\nuri = "hf://org/model"\n')
    assert ran.status == 3
    assert "hf://org/model@" in ran.err and "no weights here" in ran.err


def test_a_commit_stays_and_a_branch_that_moves_does_not_matter(hub, lock, locked, vb, tmp_path):
    repo = hub.repo("org/model", {"model.safetensors": b"old"})
    first = repo.commits["main"]
    text = locked(f'{HEAD}[base]\nuri = "hf://org/model"\n')
    repo.commit({"model.safetensors": b"new!"})
    assert first != repo.commits["main"]
    assert vb("lock", "m.toml").out == "m.toml: locked already\n"
    assert vb("lock", "m.toml", "--check").status == 0
    assert (tmp_path / "m.toml").read_text() == text
    ran = lock(text.replace(first, "main"))
    assert ran.status == 1 and "does not have the size that the manifest pins" in ran.err
    assert "expected 3 bytes, got 4 bytes" in ran.err
    assert (tmp_path / "m.toml").read_text() == text.replace(first, "main")


def test_what_was_pinned_and_resolved_is_said(hub, lock, vb):
    commit = hub.repo("org/model", FULL).commits["main"]
    text = f'{HEAD}[base]\nuri = "hf://org/model"\n'
    ran = lock(text)
    assert ran.out == f"hf://org/model@{commit}\nm.toml: locked, 5 files pinned\n"
    found = json.loads(lock(text, "--json").out)
    assert (found["pinned"], found["resolved"]) == (5, [f"hf://org/model@{commit}"])
    assert json.loads(vb("lock", "m.toml", "--json").out)["pinned"] == 0


def test_checking_a_branch_is_a_gap_and_asks_nobody(hub, lock):
    hub.repo("org/model", FULL)
    ran = lock(f'{HEAD}[base]\nuri = "hf://org/model@main"\n', "--check", "--json")
    found = json.loads(ran.out)
    assert (ran.status, [p["code"] for p in found["problems"]]) == (4, ["not-locked"] * 2)
    assert [p["what"] for p in found["problems"]] == [
        "base.uri is not pinned",
        "base.files is not pinned",
    ]
    assert hub.seen == []


@pytest.mark.parametrize("name", ["config.json", "w-1.safetensors"])
def test_a_pin_that_the_hub_contradicts_is_never_replaced(hub, lock, name, tmp_path):
    commit = hub.repo("org/model", FULL).commits["main"]
    wrong = f'{{ size = {len(FULL[name])}, sha256 = "{"0" * 64}" }}'
    text = f'{HEAD}[base]\nuri = "hf://org/model@{commit}"\n[base.files]\n"{name}" = {wrong}\n'
    for options in ((), ("--check",)):
        ran = lock(text, *options, "--json")
        found = json.loads(ran.out)
        problem = found["problems"][0] if options else found
        assert (ran.status, problem["code"]) == (1, "digest-mismatch")
        assert (problem["expected"], problem["got"]) == ("0" * 64, sha256(FULL[name]))
        assert problem["where"] == "m.toml:6"
        assert (tmp_path / "m.toml").read_text() == text


def test_a_file_that_the_repository_lacks_is_named(hub, lock):
    hub.repo("org/model", FULL)
    ran = lock(f'{HEAD}[base]\nuri = "hf://org/model"\n[base.files]\n"confg.json" = {{}}\n')
    assert ran.status == 3
    assert "/confg.json: the repository has no such file at this revision" in ran.err
    assert "hint: did you mean config.json?" in ran.err


def test_a_small_file_that_was_damaged_on_its_way_is_not_pinned(hub, lock, tmp_path):
    hub.repo("org/model", FULL)
    text = f'{HEAD}[base]\nuri = "hf://org/model"\n[base.files]\n"config.json" = {{}}\n'
    hub.fault("GET /org/model/resolve", body=b"[]")
    ran = lock(text)
    assert ran.status == 1 and "expected git " in ran.err
    assert (tmp_path / "m.toml").read_text() == text


def test_a_small_file_that_is_damaged_in_the_cache_is_replaced(hub, locked, tmp_path):
    commit = hub.repo("org/model", FULL).commits["main"]
    text = f'{HEAD}[base]\nuri = "hf://org/model"\n[base.files]\n"config.json" = {{}}\n'
    first = locked(text)
    folder = tmp_path / "cache" / "models--org--model" / "snapshots" / commit
    (folder / "config.json").resolve().write_bytes(b"[]")
    assert locked(text) == first
    assert (folder / "config.json").read_bytes() == FULL["config.json"]


def test_case_32_a_pointer_that_was_committed_instead_of_weights_is_refused(hub, lock):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64
    hub.repo("org/model", {"model.gguf2": pointer, "model.safetensors": b""})
    ran = lock(f'{HEAD}[base]\nuri = "hf://org/model"\n[base.files]\n"model.gguf2" = {{}}\n')
    assert ran.status == 2 and "Git-LFS pointer" in ran.err


def test_a_name_in_an_index_cannot_leave_the_repository(hub, lock):
    index = json.dumps({"weight_map": {"a": "../x.safetensors"}}).encode()
    hub.repo("org/model", {"model.safetensors.index.json": index})
    assert lock(f'{HEAD}[base]\nuri = "hf://org/model"\n').status == 2


def test_a_local_copy_is_pinned_without_asking(hub, lock, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"mine")
    ran = lock(f'{HEAD}[base]\nuri = "hf://org/model@main"\n', "--base", "copy")
    assert (ran.status, hub.seen) == (0, [])
    assert f'"model.safetensors" = {pin(b"mine")}' in (tmp_path / "m.toml").read_text()


def test_from_two_names_to_a_signed_model(hub, locked, vb, tmp_path):
    base, delta = random_tensors(1, 30, 1.0), random_tensors(2, 30, 0.01)
    for name, tensors in (("base", base), ("delta", delta)):
        write_safetensors(tmp_path / name, tensors)
        config = b'{"vocab_size": 30}'
        hub.repo(
            f"org/{name}",
            {"model.safetensors": (tmp_path / name).read_bytes(), "config.json": config},
        )
    rule = '[[apply.rule]]\nmatch = "*"\nop = "add"\n'
    text = f'{HEAD}[base]\nuri = "hf://org/base"\n[[delta]]\nuri = "hf://org/delta"\n{rule}'
    document = tomllib.loads(locked(text))
    assert vb("apply", "m.toml").status == 0
    assert vb("verify", "build/x").status == 0
    assert vb("verify", "m.toml").status == 0
    provenance = json.loads((tmp_path / "build" / "x.attest" / "provenance.json").read_text())
    shown = json.dumps(provenance)
    assert document["base"]["uri"] in shown and document["delta"][0]["uri"] in shown
    assert vb("check", "m.toml").status == 0
