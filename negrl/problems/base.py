"""What a problem source gives, what a world can tell beyond that, and how worlds draw their problems."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from negrl.errors import InputError
from negrl.records import Problem, stable_seed

T = TypeVar("T")
_MISSES = 5_000
"""Draws in a row that give nothing new: there is no more to be had."""
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Training and held-out problems: disjoint, each with a unique id and a gold answer."""

    train: list[Problem]
    evaluate: list[Problem] = field(default_factory=list)


class World(Protocol):
    """A problem source made here, with an exact step checker: it can write, and it can judge steps."""

    def pretraining_texts(self, count: int) -> list[tuple[str, str]]:
        """Pairs of prompt and solution to make a base model from; none of a held-out problem."""
        ...

    def check_steps(self, problem: Problem, text: str) -> list[bool]:
        """For each step of a response, in order: is the step right?"""
        ...

    def value(self, problem: Problem, prefix: str) -> float:
        """The oracle's value of a response prefix that ends with a whole step: 1.0 when exact
        continuation from there gives the gold answer, else 0.0."""
        ...


def held_out(world: str, key: str) -> bool:
    """One fifth of all problems, by the hash of what they are about, is for evaluation only: whatever the
    sizes and seeds, no training problem and no pre-training text is ever a held-out one."""
    return stable_seed(f"{world}-split", key) % 5 == 0


def draw_problems(
    world: str, seed: int, split: str, count: int, draw: Callable[[random.Random], T], key: Callable[[T], str]
) -> list[T]:
    """The first `count` different things of a split's stream; those of a smaller count come first.

    Args:
        draw: one thing at random; key: what it is about, equal for two that are the same problem.

    Raises:
        InputError: the world does not have so many.
    """
    rng = random.Random(stable_seed(world, seed, split))
    found: dict[str, T] = {}
    misses = 0
    while len(found) < count:
        drawn = draw(rng)
        name = key(drawn)
        if held_out(world, name) != (split == "evaluate") or name in found:
            misses += 1
            if misses > _MISSES:
                raise InputError(
                    f"problems.{split}: {count} problems, but {_MISSES:,} draws in a row gave none beyond "
                    f"{len(found)}; ask for at most {len(found)}, or make the problems of source {world} larger"
                )
            continue
        misses = 0
        found[name] = drawn
    return list(found.values())


def teach(write: Callable[[float], tuple[str, str]], rate: float, keep: str, gold: str) -> str:
    """A teacher's solution: the noisy writer's, tried again until it is one to keep.

    Args:
        write: habit rate -> (solution, its answer). keep: `teacher_filter`.

    Raises:
        InputError: the writer is too bad to ever get the right answer.
    """
    if keep == "steps":
        return write(0.0)[0]  # there is one way to make no wrong step
    for _ in range(_TRIES):
        solution, answer = write(rate)
        if keep == "none" or answer == gold:
            return solution
    raise InputError(
        f"problems.teacher_habit_rate: at {rate} the teacher got no right answer in {_TRIES:,} tries; lower it, or "
        "set problems.teacher_filter to steps or none"
    )
