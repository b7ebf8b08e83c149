"""Tiny real models and rows for the trainers' tests."""

from __future__ import annotations

import random
from pathlib import Path

from negrl.records import AdvantageRow, PreferenceRow, SftRow

VOCABULARY = 24
CHARACTERS = [chr(ord("a") + i) for i in range(VOCABULARY - 2)]


def build(folder: Path, hidden: int = 16, layers: int = 2, context: int = 64, seed: int = 0, tied: bool = True) -> Path:
    """A freshly initialised Llama with a character tokenizer, saved to `folder`."""
    import torch
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({t: i for i, t in enumerate(["<pad>", "<eos>", *CHARACTERS])}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        with torch.no_grad():  # the default 0.02 leaves a tiny model almost uniform
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(6)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(2, VOCABULARY) for _ in range(count)]


def sft_rows(count: int, seed: int = 0, short: int = 6, long: int = 20) -> list[SftRow]:
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        prompt, response = tokens(rng, rng.randint(2, 5)), [*tokens(rng, rng.randint(short, long)), 1]
        rows.append(SftRow(f"p{i}", f"t{i}", prompt + response, [-100] * len(prompt) + response))
    return rows


def pair_rows(count: int, seed: int = 0, prefix: int = 5, length: int = 8) -> list[PreferenceRow]:
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        sides = [tokens(rng, rng.randint(2, length)) for _ in range(2)]
        rows.append(PreferenceRow(f"p{i}", f"c{i}", f"r{i}", tokens(rng, rng.randint(2, prefix)), *sides))
    return rows


def advantage_rows(count: int, seed: int = 0, logprob: float | None = -2.0) -> list[AdvantageRow]:
    """Three steps of 2-6 tokens: one up, one down, one in the dead zone. Half of the rows are correct."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        prompt = tokens(rng, rng.randint(2, 5))
        ids, labels, advantages, steps = list(prompt), [-100] * len(prompt), [0.0] * len(prompt), [-1] * len(prompt)
        values = [0.8, -0.6, 0.0]
        rng.shuffle(values)
        for k, value in enumerate(values):
            step = tokens(rng, rng.randint(2, 6))
            ids, labels = ids + step, labels + step
            advantages, steps = advantages + [value] * len(step), steps + [k] * len(step)
        logprobs = [] if logprob is None else [0.0] * len(prompt) + [logprob] * (len(ids) - len(prompt))
        rows.append(AdvantageRow(f"p{i}", f"t{i}", ids, labels, advantages, logprobs, steps, i % 2 == 0))
    return rows
