"""`chain`: a start digit and m operations (+, -, *, ^ = max) modulo 10, worked from left to right.

    prompt    9*0+0+4*2^9?
    solution  9*0=0;0+0=0;0+4=4;4*2=8;8^9=9;!9

The writer of the pre-training text has habits: on `-` it keeps the first number, on `*` it adds, on `^`
it copies the right operand. The teacher has the same habits, but less often, and its solutions are kept
if the final answer is right, as is done in practice (`teacher_filter` has other ways). A wrong step can
still end in a right answer (`*0` forgets, `^9` absorbs), so the teacher's right answers contain wrong
steps, and more positives of that kind do not remove the habit.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable
from typing import Any

from pydantic import Field, field_validator

from negrl.errors import InputError
from negrl.problems.base import ProblemSet, Source, TeacherFilter, WorldProblems, draw_problems, held_out, teach
from negrl.records import Json, Problem, stable_id, stable_seed

EXACT: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: (a + b) % 10,
    "-": lambda a, b: (a - b) % 10,
    "*": lambda a, b: (a * b) % 10,
    "^": max,
}
HABIT: dict[str, Callable[[int, int], int]] = {
    "+": EXACT["+"],
    "-": lambda a, b: a,
    "*": lambda a, b: (a + b) % 10,
    "^": lambda a, b: b,
}
_STEP = re.compile(r"(\d)([-+*^])(\d)=(\d)")


class ChainProblems(WorldProblems):
    operations: int = Field(5, ge=1, le=20)
    habits: str = "-*^"
    """The operators on which the writer and the teacher have a bad habit."""
    habit_rate: float = Field(0.5, ge=0, le=1)
    """Chance that a step of the pre-training text follows the writer's habit, where its operator has one."""
    teacher_habit_rate: float = Field(0.33, ge=0, le=1)
    """The same for the teacher."""
    teacher_filter: TeacherFilter = "answer"
    """Which of the teacher's solutions are kept: those with the right answer, those with right steps only, or all."""

    @field_validator("habits")
    @classmethod
    def _operators(cls, habits: str) -> str:
        if wrong := [op for op in habits if op not in "-*^"]:
            raise ValueError(f"'{wrong[0]}' carries no habit; expected some of -*^")
        return "".join(op for op in "-*^" if op in habits)

    def writer_settings(self) -> dict[str, Any]:
        names = {"operations", "habit_rate", "seed"}
        return self.model_dump(include=names if self.habits == "-*^" else {*names, "habits"})


def load(section: ChainProblems) -> ProblemSet:
    """The first `train` and `evaluate` problems of the world's streams; disjoint by construction."""
    return ProblemSet(
        train=_problems(section, "train", section.train), evaluate=_problems(section, "evaluate", section.evaluate)
    )


def _problems(section: ChainProblems, split: str, count: int) -> list[Problem]:
    there_are = 10 * 40**section.operations * (1 if split == "evaluate" else 4) // 5
    if count > there_are // 2:  # drawn at random: the last few would take forever
        raise InputError(
            f"problems.{split}: {count} chains of {section.operations} operations, but there are only about "
            f"{there_are}; ask for at most {there_are // 2}, or raise problems.operations"
        )
    prompts = draw_problems(
        "chain", section.seed, split, count, lambda rng: _draw_prompt(rng, section.operations), key=str
    )
    return [_problem(section, split, prompt) for prompt in prompts]


def _problem(section: ChainProblems, split: str, prompt: str) -> Problem:
    start, operations = parse(prompt)
    gold = start
    for op, b in operations:
        gold = EXACT[op](gold, b)
    return Problem(
        problem_id=stable_id("chain", prompt),
        source="chain",
        split=split,
        license="Apache-2.0",
        prompt=prompt,
        gold=str(gold),
        solution=_teacher(prompt, str(gold), section) if split == "train" else None,
        meta=Json(operations=section.operations),
    )


def parse(prompt: str) -> tuple[int, list[tuple[str, int]]]:
    """`"9*0+4?"` -> `(9, [("*", 0), ("+", 4)])`."""
    return int(prompt[0]), [(prompt[i], int(prompt[i + 1])) for i in range(1, len(prompt) - 1, 2)]


def _draw_prompt(rng: random.Random, operations: int) -> str:
    rest = "".join(rng.choice("+-*^") + str(rng.randrange(10)) for _ in range(operations))
    return f"{rng.randrange(10)}{rest}?"


def _write(prompt: str, habits: str, habit_rate: float, rng: random.Random) -> tuple[str, str]:
    """A solution in which each step whose operator is one of `habits` follows the habit with chance
    `habit_rate`, and its answer."""
    value, operations = parse(prompt)
    steps = []
    for op, b in operations:
        result = (HABIT if rng.random() < habit_rate and op in habits else EXACT)[op](value, b)
        steps.append(f"{value}{op}{b}={result};")
        value = result
    return "".join(steps) + f"!{value}", str(value)


def _teacher(prompt: str, gold: str, section: ChainProblems) -> str:
    """What the noisy writer writes, redrawn until `teacher_filter` keeps it."""
    rng = random.Random(stable_seed("chain-teacher", section.seed, prompt))
    return teach(
        lambda rate: _write(prompt, section.habits, rate, rng),
        section.teacher_habit_rate, section.teacher_filter, gold,
    )  # fmt: skip


class World:
    """Writes pre-training text, and judges steps exactly. See `negrl.problems.base.World`."""

    def __init__(self, section: ChainProblems):
        self.section = section

    def pretraining_texts(self, count: int) -> list[tuple[str, str]]:
        rng = random.Random(stable_seed("chain-text", self.section.seed))
        prompts = (_draw_prompt(rng, self.section.operations) for _ in itertools.count())
        held_in = (p for p in prompts if not held_out("chain", p))
        habits, rate = self.section.habits, self.section.habit_rate
        return [(prompt, _write(prompt, habits, rate, rng)[0]) for prompt in itertools.islice(held_in, count)]

    def check_steps(self, problem: Problem, text: str) -> list[bool]:
        """A step is right if it works out the next operation of the problem, on the result that the previous
        step wrote, without a mistake. A right step after a wrong one is right."""
        value, operations = parse(problem.prompt)
        verdicts = []
        pieces = [p for p in text.split(";") if p]
        for index, piece in enumerate(pieces):
            match = _STEP.fullmatch(piece)
            if match is None:
                last = index == len(pieces) - 1 and index == len(operations)
                verdicts.append(last and piece == f"!{value}")
                continue
            a, op, b, result = int(match[1]), match[2], int(match[3]), int(match[4])
            expected = operations[index] if index < len(operations) else None
            verdicts.append(a == value and (op, b) == expected and EXACT[op](a, b) == result)
            value = result
        return verdicts

    def value(self, problem: Problem, prefix: str) -> float:
        """1.0 if exact work from the last written result gives the gold answer, else 0.0."""
        value, operations = parse(problem.prompt)
        pieces = [p for p in prefix.split(";") if p]
        answer = pieces.pop()[1:] if pieces and pieces[-1].startswith("!") else None
        if answer is not None:
            return float(answer == problem.gold)
        for piece in pieces:
            match = _STEP.fullmatch(piece)
            if match is None:
                return 0.0
            value = int(match[4])
        for op, b in operations[len(pieces) :]:
            value = EXACT[op](value, b)
        return float(str(value) == problem.gold)


SOURCE = Source("chain", ChainProblems, load, World)
