"""What the sections of a recipe are made of: checked keys, whose docstrings are the help.

A section may name a module (`label.labeler: adaptive`); that module's own options then stand beside the
section's common keys. `PickedSection` does that: an instance is of a class that has both.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Self, cast

import pydantic
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from negrl.errors import nearest


class Section(pydantic.BaseModel):
    """A mapping of the recipe. Unknown keys are refused, with the nearest right key in the message."""

    model_config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)

    def key(self) -> dict[str, Any]:
        """What belongs in the key of a stage that depends on the section."""
        return self.model_dump(include=keyed_names(type(self)))

    @classmethod
    def _hint(cls, key: str) -> str:
        """What follows the name of an unknown key in the message."""
        return nearest(key, cls.model_fields) or f"; expected one of {', '.join(cls.model_fields)}"

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, Mapping) else ():
            if key not in cls.model_fields:
                context = {"key": str(key), "near": cls._hint(str(key))}
                raise PydanticCustomError("unknown_key", "unknown key '{key}'{near}", context)
        return data


class Options(Section):
    """What a module (a labeler, a splitter, an engine) can be told in the section that names it.

    Every option is part of the key under which a stage's results are stored, unless it is declared with `unkeyed`.
    """


def unkeyed(default: Any, **constraints: Any) -> Any:
    """A pydantic Field that results do not depend on, so that changing it redoes nothing: a batch size, a device."""
    return Field(default, json_schema_extra={"keyed": False}, **constraints)


def keyed_names(model: type[pydantic.BaseModel]) -> set[str]:
    """The fields that belong in a stage's key: all but those declared with `unkeyed`."""
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return {name for name, extra in extras.items() if not (isinstance(extra, dict) and extra.get("keyed") is False)}


class UnknownName(ValueError):
    """A section names a module that there is not."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def located(error: UnknownName, section: type[Section], data: Mapping[str, Any]) -> pydantic.ValidationError:
    """The error as pydantic reports that of a key, so that the message has its place in the recipe."""
    line: Any = {"type": "value_error", "loc": (error.key,), "input": data.get(error.key), "ctx": {"error": error}}
    return pydantic.ValidationError.from_exception_data(section.__name__, [line])


class PickedSection(Section):
    """A section some of whose keys name modules, and which has the options of those modules, too.

    Whoever makes an instance (a recipe, a call) gets one of a subclass with just these options. A subclass says in
    `pick` which they are.
    """

    @classmethod
    def pick(cls, data: Mapping[str, Any]) -> list[type[Options]]:
        """The options of the modules that `data` names, or that the defaults name.

        Raises:
            UnknownName: there is no module of that name.
        """
        raise NotImplementedError

    @classmethod
    def every_option(cls) -> dict[str, list[str]]:
        """The options of all modules that could be named, each with the names of those that have it."""
        return {}

    @classmethod
    def chosen(cls, data: Mapping[str, Any]) -> type[Self]:
        """The class of an instance with these keys: `cls`, and the options of what they name."""
        if getattr(cls, "_common", None) is not None:  # picked already
            return cls
        return _combined(cls, tuple(dict.fromkeys(cls.pick(data))))

    def __new__(cls, *args: Any, **data: Any) -> Self:
        return super().__new__(cls if args else cls.chosen(data))

    @model_validator(mode="wrap")
    @classmethod
    def _as_chosen(cls, data: Any, handler: Any) -> Any:
        if getattr(cls, "_common", None) is not None or not isinstance(data, Mapping):
            return handler(data)
        try:
            chosen = cls.chosen(data)
        except UnknownName as error:
            raise located(error, cls, data) from None
        # On the command line a key of the file can't be taken out, only set to null.
        unread = {key for key in cls.every_option() if key not in chosen.model_fields and data.get(key) is None}
        return chosen.model_validate({key: value for key, value in data.items() if key not in unread})

    @classmethod
    def _hint(cls, key: str) -> str:
        options = cls.every_option()
        if key in options:
            return f": only {', '.join(options[key])} can read it; leave it out, or set it to null"
        return nearest(key, [*cls.model_fields, *options]) or super()._hint(key)

    def __reduce__(self) -> Any:  # the class was made here, so pickle can't find it by name
        return _rebuilt, (getattr(type(self), "_common", type(self)), self.model_dump())

    def picked_options(self) -> dict[str, Any]:
        """The options of the picked modules that belong in a stage's key, by name."""
        common = set(getattr(type(self), "_common", type(self)).model_fields)
        return self.model_dump(include=keyed_names(type(self)) - common)


def readers_of(modules: Iterable[Any]) -> dict[str, list[str]]:
    """The options of modules that have a `name` and `options`, each with the names of those that have it."""
    found: dict[str, list[str]] = {}
    for module in modules:
        for option in module.options.model_fields:
            found.setdefault(option, []).append(module.name)
    return found


def _rebuilt(section: type[PickedSection], data: dict[str, Any]) -> PickedSection:
    return section.model_validate(data)


@functools.cache
def _combined(section: type[Any], options: tuple[type[Options], ...]) -> type[Any]:
    bases = [o for o in options if not any(o is not other and issubclass(other, o) for other in options)]
    for base in bases:
        taken = section.model_fields.keys() | dir(section)
        if shared := sorted(base.model_fields.keys() & taken):
            raise TypeError(
                f"{base.__module__}.{base.__name__}: '{shared[0]}' is taken by {section.__name__}; name it otherwise"
            )
    made = cast(Any, pydantic.create_model(section.__name__, __base__=(*bases, section), __module__=section.__module__))
    made._common = section
    return made


def first_error(error: pydantic.ValidationError, *above: str) -> str:
    """The first of the errors as one line. Unknown keys come first: they often cause the others.

    Args:
        above: the keys that the validated section is under.
    """
    details = sorted(error.errors(), key=lambda d: d["type"] != "unknown_key")
    first = details[0]
    path = [*above, *map(str, first["loc"])]
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    if first["type"] == "unknown_key":
        key, near = ".".join([*path, first["ctx"]["key"]]), first["ctx"]["near"]
        return f"{key}{near}{more}" if near.startswith(":") else f"unknown key '{key}'{near}{more}"
    key, message = ".".join(path), first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "required key is missing"
    given = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
    return f"{key}: {message}{given}{more}" if key else f"{message}{more}"
