"""`negrl options`: what a recipe can name, and what can be set beside each name, as the modules declare it."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pydantic
from pydantic_core import PydanticUndefined
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from negrl.errors import InputError, nearest
from negrl.methods.spec import TRL_CONFIGS
from negrl.options import keyed_names
from negrl.plugins import load_plugins, registries
from negrl.progress import SafeConsole
from negrl.registry import Registry

KINDS = {
    "labeler": ("labelers", "label.labeler"),
    "splitter": ("splitters", "label.split"),
    "method": ("methods", "train.method"),
    "source": ("problems", "problems.source"),
    "engine": ("engines", "engine.kind"),
    "benchmark": ("benchmarks", "negrl evaluate --benchmark"),
}
"""What the command calls a kind -> (its registry in negrl.plugins, where it is named)."""


def show(kind: str | None, name: str | None, plugins: list[str]) -> None:
    """Print all kinds, one kind, or one module of a kind.

    Raises:
        InputError: there is no such kind, name or plugin.
    """
    load_plugins(plugins)
    if kind is not None and kind not in KINDS:
        raise InputError(f"unknown kind '{kind}'{nearest(kind, KINDS)}; one of {', '.join(KINDS)}")
    console = SafeConsole()
    if kind is None or name is None:
        for each in KINDS if kind is None else [kind]:
            _list(console, each)
        return
    registry = registries()[KINDS[kind][0]]
    try:
        item = registry.get_or_refuse(name)
    except ValueError as error:
        raise InputError(str(error)) from None
    console.print(f"[bold]{KINDS[kind][1]}: {escape(name)}[/]  [dim]{escape(registry.origin(name))}[/]")
    console.print(Text(_documentation(registry, name)))
    model = getattr(item, "options", None) or getattr(item, "section", None)
    if model is not None:
        _options(console, model)
    if config := getattr(item, "config", None):
        defaults = ", ".join(f"{key}: {value}" for key, value in item.defaults.items())
        console.print(
            Text(f"Any field of TRL's {TRL_CONFIGS[config]} can be set, too; negrl's defaults are {defaults}.")
        )


def _list(console: SafeConsole, kind: str) -> None:
    registry = registries()[KINDS[kind][0]]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, title_justify="left")
    table.title = f"{KINDS[kind][1]}"
    for name in sorted(registry):
        summary = _documentation(registry, name).partition("\n\n")[0].replace("\n", " ").removeprefix(f"`{name}`: ")
        table.add_row(f"  {name}", Text(summary[:1].upper() + summary[1:]))
    console.print(table)
    console.print()


def _documentation(registry: Registry[Any], name: str) -> str:
    """What it says of itself, or else the docstring of the module that declares it."""
    if said := getattr(registry[name], "help", ""):
        return str(said)
    origin = registry.origin(name)
    module = importlib.import_module(origin.rpartition("= ")[2].partition(":")[0])
    return inspect.cleandoc(module.__doc__ or "")


def _options(console: SafeConsole, model: type[pydantic.BaseModel]) -> None:
    keyed = keyed_names(model)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("option", "type", "default", ""):
        table.add_column(column, overflow="fold")
    for name, field in model.model_fields.items():
        if name == "source":
            continue
        default = field.get_default(call_default_factory=True)
        if isinstance(default, pydantic.BaseModel):
            shown = "{}"
        else:
            shown = "required" if default is PydanticUndefined else repr(default)
        help_ = " ".join((field.description or "").split()) + ("" if name in keyed else " [changing it redoes nothing]")
        kind = re.sub(r"\b\w+\.(?=\w)", "", inspect.formatannotation(field.annotation))  # without the modules' names
        table.add_row(*(Text(cell) for cell in (name, kind, shown, help_.strip())))
    console.print(table if table.row_count else "[dim]no options[/]")
