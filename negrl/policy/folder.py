"""Model folders and hub ids: is it a model, what identifies it, how much context it has. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from negrl.errors import InputError, nearest
from negrl.policy.section import PolicySection
from negrl.store import fingerprint

_DESCRIBING = (
    "*config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "chat_template*",
    "additional_chat_templates/*", "vocab*", "merges*", "*.model", "*.tiktoken", "*.safetensors.index.json", "*.py",
)  # fmt: skip
"""Files beside the weights that change what the model reads or writes."""
_BLOCK, _BLOCKS, _SMALL = 1 << 20, 16, 32 << 20
"""Bytes. The weights may be 100 GB, so only this many blocks of files larger than `_SMALL` are read."""


def local_model(policy: PolicySection) -> str:
    """`policy.model` as the loaders take it, a folder (`~` replaced) or a hub id."""
    assert policy.model is not None
    return os.path.expanduser(policy.model)


def check_model(policy: PolicySection) -> str:
    """The fingerprint of `policy.model`, after checking that it is a model; loads no torch.

    A folder's depends on its content, wherever it is; a hub id's on the commit that the revision stands for.

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
            f"policy.model: '{policy.model}' is not a folder here and can't be downloaded from the hub ({reason})"
        ) from None
    # The file lies in .../snapshots/<commit>/: a branch that moves on is another model.
    return fingerprint("hub", policy.model, Path(config).parent.name)


def _check_folder(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise InputError(f"policy.model: '{folder}' is not a model folder: it has no config.json")
    try:
        json.loads((folder / "config.json").read_text())
    except ValueError as error:  # UnicodeDecodeError too
        raise InputError(f"policy.model: '{folder}/config.json' is not valid JSON: {error}") from None
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
