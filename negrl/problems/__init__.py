"""Where problems come from. One module per source; each loads only what it needs, none loads torch."""

from __future__ import annotations

from negrl.problems.base import ProblemSet, World
from negrl.recipe import ChainProblems, Gsm8kProblems, JsonlProblems


def load_problems(section: ChainProblems | Gsm8kProblems | JsonlProblems) -> ProblemSet:
    """The training and held-out problems that a recipe's `problems` section asks for.

    Raises:
        InputError: a file, a column or a row of the source is wrong.
    """
    if isinstance(section, ChainProblems):
        from negrl.problems import chain

        return chain.load(section)
    if isinstance(section, Gsm8kProblems):
        from negrl.problems import gsm8k

        return gsm8k.load(section)
    from negrl.problems import jsonl

    return jsonl.load(section)


def world_of(section: ChainProblems | Gsm8kProblems | JsonlProblems | None) -> World | None:
    """The world behind the problems, with its step checker; None where there is none."""
    if not isinstance(section, ChainProblems):
        return None
    from negrl.problems import chain

    return chain.ChainWorld(section)
