"""Model folders and hub ids: is it a model, what identifies it, how much context it has. Loads no torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
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


def check_model(policy: PolicySection, setting: str = "policy.model") -> str:
    """The fingerprint of `policy.model`, after checking that it is a model; loads no torch.

    A folder's depends on its content, wherever it is; a hub id's on the commit that the revision stands for.

    Args:
        setting: the recipe's key that names the model, for the message.

    Raises:
        InputError: the folder is missing or lacks a config, weights (safetensors) or a tokenizer; its weights may come
            from elsewhere (a weight map that leaves the folder or names other files, an adapter's base model); or the
            hub id can't be resolved here.
    """
    assert policy.model is not None
    folder = Path(local_model(policy))
    if folder.is_dir():
        return _check_folder(folder, setting)
    if policy.model.startswith((".", "/", "~")) or policy.model.count("/") != 1:
        near = nearest(folder.name, [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else [])
        raise InputError(f"{setting}: no folder '{policy.model}'{near}; expected a model folder or a hub id (org/name)")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        config = hf_hub_download(policy.model, "config.json", revision=policy.revision)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = type(error).__name__
        raise InputError(
            f"{setting}: '{policy.model}' is not a folder here and can't be downloaded from the hub ({reason})"
        ) from None
    _check_hub_map(policy.model, policy.revision, setting)
    # The file lies in .../snapshots/<commit>/: a branch that moves on is another model.
    return fingerprint("hub", policy.model, Path(config).parent.name)


def _check_folder(folder: Path, setting: str) -> str:
    if not (folder / "config.json").is_file():
        raise InputError(f"{setting}: '{folder}' is not a model folder: it has no config.json")
    config = _read_object(folder / "config.json", setting)
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{setting}: '{folder}' holds an adapter (adapter_config.json), whose base model lies elsewhere; "
            "merge it into its model first"
        )
    explicit = config.get("transformers_weights")  # transformers loads it in place of the usual names
    if explicit is not None and not _is_weights(explicit, ".safetensors", ".safetensors.index.json"):
        raise InputError(
            f"{setting}: '{folder}/config.json': transformers_weights {explicit!r:.60} "
            "is no .safetensors file in the folder"
        )
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_map(index, folder, setting)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        other = sorted(p.name for p in folder.glob("*.bin"))
        hint = f" ({other[0]} is not loaded: pickle can run code; convert it to safetensors)" if other else ""
        raise InputError(f"{setting}: '{folder}' has no *.safetensors weights{hint}")
    for path in weights:
        if (problem := safetensors_problem(path)) is not None:
            raise InputError(f"{setting}: '{path}' is damaged: {problem}")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise InputError(f"{setting}: '{folder}' has no tokenizer (tokenizer.json)")
    described = {path for pattern in _DESCRIBING for path in folder.glob(pattern) if path.is_file()}
    parts: list[Any] = [[path.relative_to(folder).as_posix(), _sample(path, whole=True)] for path in sorted(described)]
    parts += [[path.name, path.stat().st_size, _sample(path, whole=False)] for path in weights]
    return fingerprint(*parts)


def _check_map(index: Path, folder: Path | None, setting: str) -> None:
    """A weight map says in which file each tensor is. Loaders open what it names, whatever that is.

    Args:
        folder: where the files must be; None if they are not downloaded yet.

    Raises:
        InputError: it is no weight map, or names something else than .safetensors files beside it.
    """
    names = _read_object(index, setting).get("weight_map")
    if not isinstance(names, dict):
        raise InputError(f"{setting}: '{index}' has no weight_map from tensors to files")
    for tensor, name in names.items():
        if not _is_weights(name, ".safetensors"):
            raise InputError(
                f"{setting}: '{index}': weight_map may only name .safetensors files in the model's folder, "
                f"not {name!r:.60} (for {tensor!r:.60})"
            )
    for name in sorted(set(names.values())) if folder is not None else ():
        if not (folder / name).is_file():  # type: ignore[operator]
            raise InputError(f"{setting}: '{index}' names '{name}', which is not in the folder")


def _is_weights(name: Any, *endings: str) -> bool:
    """Is it a file name (not a path, so it can't leave the folder) with one of these endings?"""
    if not isinstance(name, str) or not name.endswith(endings) or not name.isprintable():
        return False
    return PurePosixPath(name).name == name and "\\" not in name


def _check_hub_map(model: str, revision: str | None, setting: str) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        index = hf_hub_download(model, "model.safetensors.index.json", revision=revision)
    except (EntryNotFoundError, HfHubHTTPError, OSError):  # one file of weights; or not in the cache of an offline run
        return
    _check_map(Path(index), None, setting)


def _read_object(path: Path, setting: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except RecursionError:
        raise InputError(f"{setting}: '{path}' is not valid JSON: nested too deep") from None
    except OSError as error:
        raise InputError(f"{setting}: '{path}' can't be read: {error.strerror or error}") from None
    except ValueError as error:  # UnicodeDecodeError too
        raise InputError(f"{setting}: '{path}' is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{setting}: '{path}' must hold an object, not a {type(found).__name__}")
    return found


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
        config = _read_object(Path(model) / "config.json", "policy.model")
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
