"""Where problems come from. Each source is one module that declares a `Source`; none loads torch."""

from __future__ import annotations

from negrl.problems.base import SOURCES, ProblemSet, ProblemsSection, Source, World, WorldProblems

__all__ = ["SOURCES", "ProblemSet", "ProblemsSection", "Source", "World", "WorldProblems", "load_problems", "world_of"]


def load_problems(section: ProblemsSection) -> ProblemSet:
    """The training and held-out problems that a recipe's `problems` section asks for.

    Raises:
        InputError: a file, a column or a row of the source is wrong, or a world does not have that many problems.
    """
    return SOURCES[section.source].load(section)


def world_of(section: ProblemsSection | None) -> World | None:
    """The world behind the problems, with its step checker; None where there is none."""
    world = None if section is None else SOURCES[section.source].world
    return None if world is None else world(section)
