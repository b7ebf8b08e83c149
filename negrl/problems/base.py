"""What a problem source gives, and what a world can tell beyond that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from negrl.records import Problem


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Training and held-out problems: disjoint, each with a unique id and a gold answer."""

    train: list[Problem]
    evaluate: list[Problem] = field(default_factory=list)


class World(Protocol):
    """A problem source made here, with an exact step checker: it can write, and it can judge steps."""

    def pretraining_texts(self, count: int) -> list[tuple[str, str]]:
        """Pairs of prompt and solution to make a base model from."""
        ...

    def check_steps(self, problem: Problem, text: str) -> list[bool]:
        """For each step of a response, in order: is the step right?"""
        ...

    def value(self, problem: Problem, prefix: str) -> float:
        """The oracle's value of a response prefix that ends with a whole step: 1.0 when exact
        continuation from there gives the gold answer, else 0.0."""
        ...
