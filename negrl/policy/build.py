"""A small model and its tokenizer, made from scratch where there are no weights to load."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from negrl.policy.section import BuildSection
from negrl.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def build_tokenizer(section: BuildSection, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A tokenizer for the texts: their characters, a byte-level BPE trained on them, or their words.

    Of words (letters, one digit, or a run of signs), the `vocab_size` most frequent are kept. The space after a word is
    part of it, so that a name is the same token at the start of a line as inside one.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<eos>"]
    if section.tokenizer == "char":
        alphabet = sorted({c for text in texts for c in text})
        vocabulary = {token: i for i, token in enumerate([*specials, "<unk>", *alphabet])}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        core.decoder = decoders.Fuse()
    elif section.tokenizer == "word":
        core = Tokenizer(models.WordLevel(unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Split(Regex(r"(\p{L}+|\p{N}|[^\p{L}\p{N}\s]+) ?|\s"), "isolated")
        core.decoder = decoders.Fuse()
        words = trainers.WordLevelTrainer(
            vocab_size=section.vocab_size, special_tokens=[*specials, "<unk>"], show_progress=False
        )
        core.train_from_iterator(texts, words)
    else:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=section.vocab_size,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token=None if section.tokenizer == "bpe" else "<unk>",
        model_max_length=section.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )


def build_model(section: BuildSection, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a newly initialized model and its tokenizer to `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        section.architecture,
        vocab_size=len(tokenizer),
        hidden_size=section.hidden_size,
        intermediate_size=section.intermediate_size,
        num_hidden_layers=section.num_hidden_layers,
        num_attention_heads=section.num_attention_heads,
        num_key_value_heads=section.num_attention_heads,
        max_position_embeddings=section.max_position_embeddings,
        tie_word_embeddings=section.tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(section.seed)
        model = AutoModelForCausalLM.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
