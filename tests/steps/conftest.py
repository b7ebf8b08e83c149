"""Tokenizers made here: characters, a byte-level BPE and a sentencepiece-like BPE of real text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def read_rows(name: str) -> list[dict]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in shared/data")
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


@pytest.fixture(scope="session")
def gsm8k_texts() -> list[str]:
    rows = read_rows("gsm8k_example_model_solutions.jsonl.gz")
    writers = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    return [row[writer]["solution"] for row in rows for writer in writers]


@pytest.fixture(scope="session")
def processbench_texts() -> list[str]:
    return ["\n\n".join(row["steps"]) for row in read_rows("processbench_gsm8k.jsonl.gz")]


@pytest.fixture(scope="session")
def bpe(gsm8k_texts: list[str]) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(gsm8k_texts[:1000], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<|im_end|>")


@pytest.fixture(scope="session")
def spm(gsm8k_texts: list[str]) -> PreTrainedTokenizerFast:
    """Like Llama 2's: words begin with U+2581, unknown characters fall back to bytes, and decoding
    strips the first space."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", "</s>"], show_progress=False)
    core.train_from_iterator([t.replace("\n", " ") for t in gsm8k_texts[:200]], trainer)
    data = json.loads(core.to_str())
    vocabulary = data["model"]["vocab"]
    for byte in range(256):  # not special tokens: they are text
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    core = Tokenizer.from_str(json.dumps(data))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


@pytest.fixture(scope="session")
def chars() -> PreTrainedTokenizerFast:
    vocabulary = {t: i for i, t in enumerate(["<pad>", "<eos>", "<unk>", *"0123456789+-*=;?!ab\n "])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
