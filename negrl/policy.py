"""The policy: where its weights come from, what identifies it, how it reads a prompt, and how a
small one is made from scratch when there are no weights to load."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrl.errors import InputError, nearest
from negrl.recipe import BuildSection, PolicySection
from negrl.records import Problem
from negrl.store import fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_DESCRIBING = (
    "*config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "chat_template*",
    "additional_chat_templates/*", "vocab*", "merges*", "*.model", "*.tiktoken", "*.safetensors.index.json", "*.py",
)  # fmt: skip
"""Files beside the weights that change what the model reads or writes."""
_BLOCK, _BLOCKS, _SMALL = 1 << 20, 16, 32 << 20
"""Bytes. The weights may be 100 GB: of larger files than `_SMALL` that many blocks are looked at."""


def local_model(policy: PolicySection) -> str:
    """What the loaders are given: `policy.model` with `~` replaced, a folder or a hub id."""
    assert policy.model is not None
    return os.path.expanduser(policy.model)


def check_model(policy: PolicySection) -> str:
    """The fingerprint of `policy.model`, after checking that it is a model; loads no torch.

    A folder's is of its content, wherever it lies; a hub id's is of the commit that the revision means.

    Raises:
        InputError: the folder is missing or lacks a config, weights (safetensors) or a tokenizer;
            or the hub id can't be resolved here.
    """
    assert policy.model is not None
    folder = Path(local_model(policy))
    if folder.is_dir():
        return _check_folder(folder)
    if policy.model.startswith((".", "/", "~")) or policy.model.count("/") != 1:
        near = nearest(folder.name, [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else [])
        raise InputError(
            f"policy.model: no folder '{policy.model}'{near}; expected a model folder or a hub id (org/name)"
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        config = hf_hub_download(policy.model, "config.json", revision=policy.revision)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = type(error).__name__
        raise InputError(
            f"policy.model: '{policy.model}' is no folder here and can't be had from the hub ({reason})"
        ) from None
    # The file lies in .../snapshots/<commit>/: a branch that moves on is another model.
    return fingerprint("hub", policy.model, Path(config).parent.name)


def _check_folder(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise InputError(f"policy.model: '{folder}' is no model folder: it has no config.json")
    try:
        json.loads((folder / "config.json").read_text())
    except ValueError as error:  # UnicodeDecodeError too
        raise InputError(f"policy.model: '{folder}/config.json' is no JSON: {error}") from None
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        other = sorted(p.name for p in folder.glob("*.bin"))
        hint = f" ({other[0]} is not loaded: pickle can run code; convert it to safetensors)" if other else ""
        raise InputError(f"policy.model: '{folder}' has no *.safetensors weights{hint}")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise InputError(f"policy.model: '{folder}' has no tokenizer (tokenizer.json)")
    described = {path for pattern in _DESCRIBING for path in folder.glob(pattern) if path.is_file()}
    parts: list[Any] = [[path.relative_to(folder).as_posix(), _sample(path, whole=True)] for path in sorted(described)]
    parts += [[path.name, path.stat().st_size, _sample(path, whole=False)] for path in weights]
    return fingerprint(*parts)


def _sample(path: Path, whole: bool) -> str:
    """Hash of a file; of a large one, unless `whole`, of blocks spread evenly from its start to its end."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        if whole or size < _SMALL:
            while block := handle.read(_BLOCK):
                digest.update(block)
        else:
            for i in range(_BLOCKS):
                handle.seek(i * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(handle.read(_BLOCK))
    return digest.hexdigest()


def context_length(model: str, policy: PolicySection) -> int | None:
    """The model's `max_position_embeddings`, None where its config has none."""
    if Path(model).is_dir():
        config = json.loads((Path(model) / "config.json").read_text())
    else:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(
            model, revision=policy.revision, trust_remote_code=policy.trust_remote_code
        ).to_dict()
    return config.get("max_position_embeddings") or config.get("text_config", {}).get("max_position_embeddings")


def load_tokenizer(model: str, policy: PolicySection) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model,
        revision=policy.revision if not Path(model).is_dir() else None,
        trust_remote_code=policy.trust_remote_code,
    )


def encode_prompt(tokenizer: PreTrainedTokenizerBase, problem: Problem, policy: PolicySection) -> list[int]:
    """Token ids of a problem's prompt, through the chat template where the recipe or the source
    asks for it."""
    if not policy.chat_template and problem.messages is None:
        return list(tokenizer(problem.prompt, add_special_tokens=True, verbose=False)["input_ids"])
    messages = [{"role": m.role, "content": m.content} for m in problem.messages or []]
    messages = messages or [{"role": "user", "content": problem.prompt}]
    if policy.system_prompt is not None:
        messages = [{"role": "system", "content": policy.system_prompt}, *messages]
    if tokenizer.chat_template is None:
        raise InputError("policy.chat_template: the model's tokenizer has no chat template; set it to false")
    encoded: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)
    return list(encoded["input_ids"])


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a whole response that was written by somebody else, EOS at its end."""
    if tokenizer.eos_token_id is None:
        raise InputError("policy.model: the tokenizer has no EOS token, so a response has no end")
    return [*tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], tokenizer.eos_token_id]


def build_tokenizer(section: BuildSection, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A character tokenizer over the texts' alphabet, or a byte-level BPE trained on them."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<eos>"]
    if section.tokenizer == "char":
        alphabet = sorted({c for text in texts for c in text})
        vocabulary = {token: i for i, token in enumerate([*specials, "<unk>", *alphabet])}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        core.decoder = decoders.Fuse()
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
        unk_token="<unk>" if section.tokenizer == "char" else None,
        model_max_length=section.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )


def build_model(section: BuildSection, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a freshly initialised model with its tokenizer to `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from negrl.quiet import quiet

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
