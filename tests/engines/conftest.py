"""Tiny real models, made here, for the tests of both engines."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

CHARACTERS = "0123456789+-*=;?! ab\n"
SPECIAL = ["<pad>", "<s>", "</s>"]
CONTEXT = 64
SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": CONTEXT,
}  # fmt: skip
PARROT_TEXT = "ab∎cd\nefg"


def char_tokenizer() -> Any:
    """One token per character; ids 0, 1, 2 are pad, bos and eos."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {t: i for i, t in enumerate([*SPECIAL, *CHARACTERS])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def bpe_tokenizer() -> Any:
    """Byte-level BPE as Qwen and Llama 3 have it, without a pad token. It has seen ASCII only, so
    other characters are several tokens each."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=["</s>"], initial_alphabet=alphabet)
    core.train_from_iterator(["the answer is 42.\n\nso 6 * 7 = 42"] * 10, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")


def parrot(tokenizer: Any) -> Any:
    """A llama that greedily says PARROT_TEXT and then EOS, given its first token: its layers add
    nothing, and its head maps the embedding of each token of the text to the token that follows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = [*tokenizer(PARROT_TEXT)["input_ids"], tokenizer.eos_token_id]
    assert len(set(ids)) == len(ids)  # one successor each
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        embedding = torch.nn.functional.normalize(model.model.embed_tokens.weight)
        for here, after in itertools.pairwise(ids):
            model.lm_head.weight[after] = 5 * embedding[here]
    return model


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
