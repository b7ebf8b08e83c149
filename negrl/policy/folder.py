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
_HEADER = 100_000_000
"""Bytes that the header of a safetensors file may have; the library's own limit."""


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
    _read_config(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        other = sorted(p.name for p in folder.glob("*.bin"))
        hint = f" ({other[0]} is not loaded: pickle can run code; convert it to safetensors)" if other else ""
        raise InputError(f"policy.model: '{folder}' has no *.safetensors weights{hint}")
    for path in weights:
        if (problem := safetensors_problem(path)) is not None:
            raise InputError(f"policy.model: '{path}' is damaged: {problem}")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise InputError(f"policy.model: '{folder}' has no tokenizer (tokenizer.json)")
    described = {path for pattern in _DESCRIBING for path in folder.glob(pattern) if path.is_file()}
    parts: list[Any] = [[path.relative_to(folder).as_posix(), _sample(path, whole=True)] for path in sorted(described)]
    parts += [[path.name, path.stat().st_size, _sample(path, whole=False)] for path in weights]
    return fingerprint(*parts)


def _read_config(folder: Path) -> dict[str, Any]:
    """config.json. Raises InputError."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError too
        raise InputError(f"policy.model: '{file}' is not valid JSON: {error}") from None
    except OSError as error:
        raise InputError(f"policy.model: '{file}' can't be read: {error.strerror or error}") from None
    if not isinstance(config, dict):
        raise InputError(f"policy.model: '{file}' must hold an object, not a {type(config).__name__}")
    return config


def safetensors_problem(path: Path) -> str | None:
    """What is wrong with the layout of a file of weights, None if it is right: 8 bytes with the size of the header, a
    JSON header with the tensors' offsets, the data, which must end where they say. Reads only the header."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER):
            return f"its header would have {length:,} bytes; the file has {size:,}"
        try:
            header = json.loads(handle.read(length))
            tensors = [one for name, one in header.items() if name != "__metadata__"]
            end = 8 + length + max(int(tensor["data_offsets"][1]) for tensor in tensors)
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError, IndexError):
            return "its header is not that of a safetensors file"
    return None if end == size else f"it has {size:,} bytes, its header says {end:,}"


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
        config = _read_config(Path(model))
    else:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(
            model, revision=policy.revision, trust_remote_code=policy.trust_remote_code
        ).to_dict()
    text = config.get("text_config")
    found = config.get("max_position_embeddings") or (text if isinstance(text, dict) else {}).get(
        "max_position_embeddings"
    )
    if found is not None and (type(found) is not int or found < 1):
        raise InputError(f"policy.model: '{model}': max_position_embeddings in its config is {found!r:.40}, no length")
    return found
