"""Small SentencePiece models with LLaMA's options: for tests, and for the demonstration's model.

The trainer runs in this process on a text that a seed decides, so the same arguments give the
same bytes.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

from sentencepiece import SentencePieceTrainer

__all__ = ["sentences", "small_model"]

_SYLLABLES = [c + v for c in "bcdfghjklmnprstvwz" for v in "aeiou"]
_BYTES_AND_CONTROLS = 256 + 3


def sentences(count: int, seed: int = 0) -> Iterator[str]:
    """``count`` sentences of an invented language: ASCII letters, digits, punctuation."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(300)]
    for _ in range(count):
        chosen = rng.choices(words, k=rng.randint(3, 9))
        if rng.random() < 0.2:
            chosen.append(str(rng.randint(0, 9999)))
        yield " ".join(chosen) + rng.choice(".,!?")


def small_model(vocab_size: int = 400, seed: int = 0) -> bytes:
    """A ``tokenizer.model`` of ``vocab_size`` pieces, at least 300: BPE, byte fallback, no pad.

    ``<unk>``, ``<s>`` and ``</s>`` are 0, 1 and 2. Takes some hundredths of a second.
    """
    if vocab_size < _BYTES_AND_CONTROLS + 41:
        raise ValueError("the alphabet, the bytes and the controls need 300 pieces")
    out = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=sentences(600, seed),
        model_writer=out,
        model_type="bpe",
        vocab_size=vocab_size,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return out.getvalue()
