"""What protobuf and transformers make of the patched files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from tests.support.sentencepiece_models import sentences, small_model
from vbuild.tokenizer import AddedPiece, PatchedTokenizer, patch_config, patch_tokenizer
from vbuild.tokenizer.patch import PIECE_TYPES
from vbuild.tokenizer.token_list import PieceKind

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

MODEL = small_model(400)
PAD = AddedPiece("[PAD]", "control", "pad")
USER = AddedPiece("<|user|>", "user-defined")
KINDS: list[PieceKind] = ["control", "user-defined", "normal"]
CORPUS = [*sentences(100, seed=9), "ünïcödé 🙂 tab\there", "a <0x41> b", "trailing  ", "1234 5"]


def sentencepiece_of(data: bytes) -> SentencePieceProcessor:
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    return processor


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def load(directory: Path, files: dict[str, bytes]) -> Any:
    """The tokenizer that transformers' AutoTokenizer finds in ``directory``."""
    transformers = pytest.importorskip("transformers")
    directory.mkdir(exist_ok=True)
    config = b'{\n  "model_type": "llama",\n  "vocab_size": 400\n}\n'
    for name, data in {**files, "config.json": config}.items():
        (directory / name).write_bytes(data)
    return transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
            st.sampled_from(KINDS),
        ),
        unique_by=lambda item: item[0],
        max_size=4,
    ),
    st.booleans(),
)
def test_a_protobuf_runtime_writes_the_same_bytes(
    items: list[tuple[str, PieceKind]], raises: bool
) -> None:
    pytest.importorskip("google.protobuf")
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(MODEL)
    known = {piece.piece for piece in model.pieces}
    adds = [AddedPiece(text, kind) for text, kind in items if text not in known]
    for add in adds:
        model.pieces.add(piece=add.piece, score=0, type=int(PIECE_TYPES[add.kind]))
        model.trainer_spec.vocab_size += raises
    patched = patch_tokenizer({"tokenizer.model": MODEL}, adds, update_trainer_vocab_size=raises)
    assert patched.files["tokenizer.model"] == model.SerializeToString()


def check(tokenizer: Any, patched: PatchedTokenizer) -> None:
    """``[PAD]`` pads, and plain text has the ids that SentencePiece gives it."""
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("[PAD]", patched.pad_id)
    assert tokenizer.convert_tokens_to_ids("[PAD]") == 400
    assert len(tokenizer) == patched.pieces
    processor = sentencepiece_of(patched.files["tokenizer.model"])
    bos = tokenizer.bos_token_id
    for text in CORPUS:
        assert tokenizer.encode(text) == [bos, *processor.Encode(text)]
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_a_model_alone_becomes_a_llama_tokenizer(tmp_path: Path) -> None:
    patched = patch_tokenizer({"tokenizer.model": MODEL}, [PAD, USER])
    tokenizer = load(tmp_path, patched.files)
    assert type(tokenizer).__name__ == "LlamaTokenizer"
    check(tokenizer, patched)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    processor = sentencepiece_of(patched.files["tokenizer.model"])
    for text in ["ba<|user|>ko", "ba <|user|> ko", "ba<|user|><|user|>."]:
        assert tokenizer.encode(text)[1:] == processor.Encode(text), text
    assert not tokenizer.added_tokens_decoder[401].special
    padded = tokenizer(["ba", "ba ko mu"], padding=True)["input_ids"]
    assert 400 in padded[0]


OLD_CONFIG = {
    "model_max_length": 1000000000000000019884624838656,
    "padding_side": "right",
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
}
SPECIAL = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
SOURCES = {
    "empty_names": (
        {**OLD_CONFIG, "bos_token": "", "eos_token": "", "unk_token": ""},
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "<unk>"},
    ),
    "one_name_for_all": (
        {**OLD_CONFIG, "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"},
        {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "</s>"},
    ),
    "objects": (
        {**OLD_CONFIG, "bos_token": {"__type": "AddedToken", "content": "<s>", **SPECIAL}},
        {"bos_token": {"content": "<s>", **SPECIAL}, "pad_token": "[PAD]"},
    ),
    "other_added_tokens": (
        OLD_CONFIG,
        {"additional_special_tokens": ["<x>"], "pad_token": "[PAD]", "bos_token": "<s>"},
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_delta_with_added_tokens_reads_as_before(name: str, tmp_path: Path) -> None:
    config, special = SOURCES[name]
    added = {"[PAD]": 400}
    if name == "other_added_tokens":
        added |= {"<x>": 401, "<y>": 402}
    files = {
        "tokenizer.model": MODEL,
        "added_tokens.json": json.dumps(added).encode(),
        "special_tokens_map.json": json.dumps(special).encode(),
        "tokenizer_config.json": json.dumps(config, indent=2).encode(),
    }
    before = load(tmp_path / "before", files)
    patched = patch_tokenizer(files, [PAD])
    after = load(tmp_path / "after", patched.files)
    check(after, patched)
    assert after.special_tokens_map == before.special_tokens_map
    # transformers 5 overlooks the map's additional tokens where it reads tokenizer.model.
    overlooked = {401} if name == "other_added_tokens" else set()
    assert set(after.all_special_ids) == set(before.all_special_ids) | overlooked
    assert after.padding_side == "right"
    assert after.model_max_length == before.model_max_length
    for text in [*CORPUS, "ba[PAD]ko", "ba</s>ko", "<x> ba<y>", "<s>ko"]:
        assert after.encode(text) == before.encode(text), text


def test_a_file_whose_names_are_empty_everywhere_can_be_read_afterwards(tmp_path: Path) -> None:
    config = {**OLD_CONFIG, "bos_token": "", "eos_token": "", "unk_token": ""}
    files = {
        "tokenizer.model": MODEL,
        "special_tokens_map.json": b"{}",
        "tokenizer_config.json": json.dumps(config).encode(),
    }
    patched = patch_tokenizer(files, [PAD])
    check(load(tmp_path, patched.files), patched)


@pytest.mark.parametrize("keeps_model", [True, False], ids=["with_model", "fast_only"])
def test_a_fast_tokenizer_knows_the_added_tokens(keeps_model: bool, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    config = b'{"add_bos_token": true, "tokenizer_class": "LlamaTokenizer"}'
    source = load(tmp_path / "source", {"tokenizer.model": MODEL, "tokenizer_config.json": config})
    source.save_pretrained(tmp_path / "saved")
    files = {p.name: p.read_bytes() for p in (tmp_path / "saved").iterdir()}
    assert "tokenizer.json" in files
    if keeps_model:
        files["tokenizer.model"] = MODEL
    patched = patch_tokenizer(files, [PAD, USER])
    assert (patched.pieces, patched.pad_id) == (402, 400)
    fast = tokenizers.Tokenizer.from_str(patched.files["tokenizer.json"].decode())
    assert (fast.token_to_id("[PAD]"), fast.token_to_id("<|user|>")) == (400, 401)
    assert fast.get_vocab_size(with_added_tokens=False) == 402
    after = load(tmp_path / "after", patched.files)
    assert (after.pad_token, after.pad_token_id, len(after)) == ("[PAD]", 400, 402)
    before = load(tmp_path / "saved", {})
    for text in CORPUS:
        assert after.encode(text) == before.encode(text)
    assert after.encode("ba<|user|>ko").count(401) == 1


def test_transformers_reads_the_patched_configuration(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    source = transformers.LlamaConfig(vocab_size=400, dtype="float32")
    source.save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    after = patch_config({"config.json": before}, vocab_size=401, pad_id=400, dtype="float16")[
        "config.json"
    ]
    (tmp_path / "config.json").write_bytes(after)
    read = transformers.LlamaConfig.from_pretrained(tmp_path)
    assert (read.vocab_size, read.pad_token_id, str(read.dtype)) == (401, 400, "torch.float16")
    assert len(set(before.splitlines()) ^ set(after.splitlines())) == 6
