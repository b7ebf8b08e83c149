"""Read a recipe: OmegaConf reads the YAML and the dotted overrides, pydantic checks, and whatever is wrong
becomes one line that names the key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic

from negrl.errors import InputError, nearest
from negrl.options import first_error
from negrl.plugins import load_plugins
from negrl.recipe.schema import Recipe


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file. Relative paths inside it are relative to the working directory.
        overrides: `key.sub=value` strings, values in YAML syntax.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown, a value has the wrong type.
    """
    config = read_mapping(path, "recipe")
    if {"bench", "extends"} & set(config):
        raise InputError(f"{path}: a bench file, not a recipe: negrl bench sample-efficiency (or methods) runs it")
    for item in overrides:
        if "=" not in item or not item.split("=", 1)[0]:
            raise InputError(f"override '{item}': expected key=value, e.g. sample.n=8")
    data = merged(path, [config], overrides)
    if isinstance(data.get("plugins"), list):
        load_plugins([str(name) for name in data["plugins"]], beside=Path(path).parent)
    try:
        return Recipe.model_validate(data)
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None


def read_mapping(path: str | Path, what: str) -> dict[str, Any]:
    """A YAML file's top level, interpolations not yet resolved.

    Args:
        what: it should be, for the message: a recipe, a bench file.

    Raises:
        InputError: it is not there, no text, not YAML, or no mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path}: is a folder; expected a {what} (YAML)")
    if not file.is_file():
        near = nearest(file.name, [p.name for p in file.parent.glob("*.yaml")] if file.parent.is_dir() else [])
        raise InputError(f"{path}: no such {what}{near}")
    try:
        data = OmegaConf.to_container(OmegaConf.load(file))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; expected a {what} (YAML)") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep; a {what} has a few levels") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a mapping of sections at the top level")
    return {str(key): value for key, value in data.items()}


def merged(path: str | Path, layers: Sequence[dict[str, Any]], overrides: Sequence[str]) -> dict[str, Any]:
    """Each layer on top of the one before, `key.sub=value` overrides on top of all, interpolations resolved.

    Raises:
        InputError: they do not go together, or an interpolation has nothing to stand for.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        config = OmegaConf.merge(*(OmegaConf.create(layer) for layer in layers), OmegaConf.from_dotlist([*overrides]))
        data = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    except YAMLError as error:
        raise InputError(f"override: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep") from None
    assert isinstance(data, dict)
    if (key := _key_with_nul(data)) is not None:
        raise InputError(f"{path}: {key}: holds a NUL character, which no name or text may")
    return {str(key): value for key, value in data.items()}


def _key_with_nul(value: Any, key: str = "") -> str | None:
    """The dotted key of the first string that holds a NUL character, None if there is none."""
    if isinstance(value, str):
        return key if "\0" in value else None
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        inner = f"{key}.{name}" if key else str(name)
        if "\0" in str(name) or (found := _key_with_nul(part, inner)) is not None:
            return repr(inner) if "\0" in str(name) else found
    return None
