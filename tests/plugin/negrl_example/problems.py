"""`sums`: a world of additions. Its writer sometimes forgets to carry, so right answers are not all it knows.

prompt    17+25?
solution  7+5=12;17+25=42;!42
"""

import itertools
import random

from pydantic import Field

from negrl.problems import ProblemSet, Source, WorldProblems
from negrl.problems.base import draw_problems, held_out
from negrl.records import Json, Problem, stable_id, stable_seed


class SumsProblems(WorldProblems):
    source: str = "sums"
    largest: int = Field(49, ge=9, le=499)
    """The largest number in a sum."""
    forget_rate: float = Field(0.3, ge=0, le=1)
    """Chance that a solution of the pre-training text forgets to carry."""


def load(section: SumsProblems) -> ProblemSet:
    def problems(split: str, count: int) -> list[Problem]:
        prompts = draw_problems("sums", section.seed, split, count, lambda rng: _draw(rng, section), str)
        return [_problem(prompt, split) for prompt in prompts]

    return ProblemSet(problems("train", section.train), problems("evaluate", section.evaluate))


def _draw(rng: random.Random, section: SumsProblems) -> str:
    return f"{rng.randint(0, section.largest)}+{rng.randint(0, section.largest)}?"


def _numbers(prompt: str) -> tuple[int, int]:
    a, b = prompt.rstrip("?").split("+")
    return int(a), int(b)


def _solution(prompt: str, forgets: bool = False) -> str:
    a, b = _numbers(prompt)
    ones = a % 10 + b % 10
    total = a + b - (10 if forgets and ones > 9 else 0)
    return f"{a % 10}+{b % 10}={ones};{a}+{b}={total};!{total}"


def _problem(prompt: str, split: str) -> Problem:
    return Problem(
        stable_id("sums", prompt), "sums", split, "MIT", prompt, gold=str(sum(_numbers(prompt))),
        solution=_solution(prompt) if split == "train" else None, meta=Json(),
    )  # fmt: skip


class World:
    """See `negrl.problems.World`."""

    def __init__(self, section: SumsProblems):
        self.section = section

    def pretraining_texts(self, count: int) -> list[tuple[str, str]]:
        rng = random.Random(stable_seed("sums-text", self.section.seed))
        prompts = (_draw(rng, self.section) for _ in itertools.count())
        held_in = (prompt for prompt in prompts if not held_out("sums", prompt))
        rate = self.section.forget_rate
        return [(prompt, _solution(prompt, rng.random() < rate)) for prompt in itertools.islice(held_in, count)]

    def check_steps(self, problem: Problem, text: str) -> list[bool]:
        right = _solution(problem.prompt).split(";")
        steps = [step for step in text.split(";") if step]
        return [step == right[i] if i < len(right) else False for i, step in enumerate(steps)]

    def value(self, problem: Problem, prefix: str) -> float:
        return float(all(self.check_steps(problem, prefix)))


SOURCE = Source("sums", SumsProblems, load, World)
