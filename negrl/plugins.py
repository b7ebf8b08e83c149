"""Labelers, splitters, methods, problem sources, engines and benchmarks from outside this package.

Two ways in: an entry point in the group of its kind (`negrl.labelers`, ...; the registry reads those itself), or
a module named in the recipe: `plugins: [my_labelers]`. A module is looked for where Python looks, in the
working directory, and beside the recipe. A plugin runs as code: name only modules that you trust.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrl.errors import InputError

if TYPE_CHECKING:
    from negrl.registry import Registry

REGISTRIES = {
    "labelers": "negrl.labelers:LABELERS",
    "splitters": "negrl.steps.splitters:SPLITTERS",
    "methods": "negrl.methods:METHODS",
    "problems": "negrl.problems:SOURCES",
    "engines": "negrl.engines:ENGINES",
    "benchmarks": "negrl.evaluate.benchmarks:BENCHMARKS",
}
"""Kind -> where its registry is. The kinds' entry points are in the groups `negrl.<kind>`."""


def registries() -> dict[str, Registry[Any]]:
    """All registries, by kind."""
    found = {}
    for kind, place in REGISTRIES.items():
        module, name = place.split(":")
        found[kind] = getattr(importlib.import_module(module), name)
    return found


def load_plugins(modules: Sequence[str], beside: Path | None = None) -> None:
    """Import the modules and register what they declare. One that was loaded before is not loaded again.

    Args:
        beside: the recipe's folder, where its own modules may be.

    Raises:
        InputError: there is no such module, it fails when it is imported, declares nothing, or declares a name that
            is taken.
    """
    for place in (Path.cwd(), *([beside.resolve()] if beside is not None else [])):
        # Last, so that nothing there can stand in for an installed package. Spawned workers inherit it.
        if str(place) not in sys.path:
            sys.path.append(str(place))
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.split(".")[0] and error.name != name:
                raise InputError(f"plugins: '{name}' needs a module '{error.name}', which is not installed") from None
            where = f" nor in {beside}" if beside is not None else ""
            raise InputError(f"plugins: no module '{name}' on Python's path{where}") from None
        except Exception as error:
            raise InputError(f"plugins: '{name}' can't be imported: {type(error).__name__}: {error}") from None
        if not sum(registry.add_all(module) for registry in registries().values()):
            kinds = ", ".join(REGISTRIES)
            raise InputError(f"plugins: '{name}' declares nothing that negrl knows; expected one of its {kinds}")
