"""What the tiny models of the engines' tests are made of."""

from __future__ import annotations

import itertools
from typing import Any

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
