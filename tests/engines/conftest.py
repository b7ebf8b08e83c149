"""Tiny real models, made here, for the tests of both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engines.helpers import SHAPE, bpe_tokenizer, char_tokenizer, parrot


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`llama`: untied, character tokens. `qwen2`: tied embeddings, grouped heads, byte-level BPE, no
    pad token; both with weights large enough that the distributions are far from flat. `parrot`:
    see above."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    chars, bpe = char_tokenizer(), bpe_tokenizer()
    torch.manual_seed(0)
    llama = LlamaConfig(
        **SHAPE, vocab_size=len(chars), initializer_range=0.15, pad_token_id=0, tie_word_embeddings=False
    )
    qwen2 = Qwen2Config(
        **SHAPE, vocab_size=len(bpe), initializer_range=0.15, num_key_value_heads=1, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=bpe.eos_token_id,
    )  # fmt: skip
    made: dict[str, tuple[Any, Any]] = {
        "llama": (LlamaForCausalLM(llama), chars),
        "qwen2": (Qwen2ForCausalLM(qwen2), bpe),
        "parrot": (parrot(bpe), bpe),
    }
    folders = {}
    for name, (model, tokenizer) in made.items():
        folders[name] = tmp_path_factory.mktemp(name)
        if name == "llama":  # chat models list several, and not all are special tokens
            model.generation_config.eos_token_id = [chars.eos_token_id, chars.convert_tokens_to_ids("\n")]
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders
