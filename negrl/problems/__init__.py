"""Where problems come from. One module per source; each loads only what it needs, none loads torch.

A source's module has `load(section) -> ProblemSet`; a world's has `World(section)` too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from negrl.problems.base import ProblemSet, World
from negrl.recipe import WorldProblems

if TYPE_CHECKING:
    from negrl.recipe import Problems

SOURCES = {
    "chain": "negrl.problems.chain",
    "ledger": "negrl.problems.ledger",
    "stargraph": "negrl.problems.stargraph",
    "gsm8k": "negrl.problems.gsm8k",
    "jsonl": "negrl.problems.jsonl",
}
"""problems.source -> module. A new one is a line here, its module, and its section in negrl/recipe/problems.py."""


def load_problems(section: Problems) -> ProblemSet:
    """The training and held-out problems that a recipe's `problems` section asks for.

    Raises:
        InputError: a file, a column or a row of the source is wrong, or a world has not so many problems.
    """
    return cast(ProblemSet, _module(section).load(section))


def world_of(section: Problems | None) -> World | None:
    """The world behind the problems, with its step checker; None where there is none."""
    return cast(World, _module(section).World(section)) if isinstance(section, WorldProblems) else None


def _module(section: Any) -> Any:
    return import_module(SOURCES[section.source])
