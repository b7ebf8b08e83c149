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
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

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
HABITUAL = "-*^"
"""The operators that can have a habit."""
_STEP = re.compile(r"(\d)([-+*^])(\d)=(\d)")
_Length = Annotated[int, Field(ge=1, le=20)]
HabitRate = float | dict[str, float]
"""One rate for all operators that have a habit, or one for each; those that a mapping leaves out have none."""


class ChainProblems(WorldProblems):
    operations: _Length = 5
    evaluate_operations: _Length | None = Field(None, exclude_if=lambda length: length is None)
    """Length of the held-out problems. null: `operations`."""
    writer_operations: tuple[_Length, _Length] | None = Field(None, exclude_if=lambda lengths: lengths is None)
    """Fewest and most operations in the pre-training text, each length equally often. null: `operations`."""
    habits: str = HABITUAL
    """The operators on which the writer and the teacher have a bad habit."""
    habit_rate: HabitRate = 0.5
    """Chance that a step of the pre-training text follows the writer's habit, where its operator has one. A mapping,
    such as {"-": 0.8, "*": 0.5}, has a rate for each operator; those that it leaves out have no habit."""
    teacher_habit_rate: HabitRate = 0.33
    """The same for the teacher."""
    teacher_filter: TeacherFilter = "answer"
    """Which of the teacher's solutions are kept: those with the right answer, those with right steps only, or all."""

    @field_validator("habits")
    @classmethod
    def _operators(cls, habits: str) -> str:
        if wrong := [op for op in habits if op not in HABITUAL]:
            raise ValueError(f"'{wrong[0]}' carries no habit; expected some of {HABITUAL}")
        return "".join(op for op in HABITUAL if op in habits)

    @field_validator("writer_operations")
    @classmethod
    def _rising(cls, lengths: tuple[int, int] | None) -> tuple[int, int] | None:
        if lengths is not None and lengths[0] > lengths[1]:
            raise ValueError(f"expected the fewest operations and then the most, not {list(lengths)}")
        return lengths

    @field_validator("habit_rate", "teacher_habit_rate", mode="before")
    @classmethod
    def _rates(cls, rate: Any, info: ValidationInfo) -> Any:
        habits = info.data.get("habits", HABITUAL)
        for op, chance in rate.items() if isinstance(rate, Mapping) else [("", rate)]:
            if op and op not in [*habits]:
                raise ValueError(f"'{op}' carries no habit; expected some of {habits or 'none at all'}")
            if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
                raise ValueError(f"expected a number from 0 to 1, or one for each operator, not {chance!r:.60}")
        return rate

    def writer_settings(self) -> dict[str, Any]:
        length = "operations" if self.writer_operations is None else "writer_operations"
        names = {length, "habit_rate", "seed"}
        return self.model_dump(include=names if self.habits == HABITUAL else {*names, "habits"})


def load(section: ChainProblems) -> ProblemSet:
    """The first `train` and `evaluate` problems of the world's streams; disjoint by construction."""
    return ProblemSet(
        train=_problems(section, "train", section.train), evaluate=_problems(section, "evaluate", section.evaluate)
    )


def _problems(section: ChainProblems, split: str, count: int) -> list[Problem]:
    length, key = section.operations, "operations"
    if split == "evaluate" and section.evaluate_operations is not None:
        length, key = section.evaluate_operations, "evaluate_operations"
    there_are = 10 * 40**length * (1 if split == "evaluate" else 4) // 5
    if count > there_are // 2:  # drawn at random: the last few would take forever
        raise InputError(
            f"problems.{split}: {count} chains of {length} operations, but there are only about "
            f"{there_are}; ask for at most {there_are // 2}, or raise problems.{key}"
        )
    prompts = draw_problems("chain", section.seed, split, count, lambda rng: _draw_prompt(rng, length), key=str)
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
        meta=Json(operations=len(operations)),
    )


def parse(prompt: str) -> tuple[int, list[tuple[str, int]]]:
    """`"9*0+4?"` -> `(9, [("*", 0), ("+", 4)])`."""
    return int(prompt[0]), [(prompt[i], int(prompt[i + 1])) for i in range(1, len(prompt) - 1, 2)]


def _draw_prompt(rng: random.Random, operations: int) -> str:
    rest = "".join(rng.choice("+-*^") + str(rng.randrange(10)) for _ in range(operations))
    return f"{rng.randrange(10)}{rest}?"


def _write(prompt: str, habits: str, habit_rate: HabitRate, rng: random.Random) -> tuple[str, str]:
    """A solution in which each step whose operator is one of `habits` follows the habit with chance
    `habit_rate`, and its answer."""
    rates = habit_rate if isinstance(habit_rate, dict) else dict.fromkeys(habits, habit_rate)
    _, operations = parse(prompt)
    return _write_out(prompt, lambda index, value: rates.get(operations[index][0], 0.0), rng)


def _write_out(prompt: str, habit_chance: Callable[[int, int], float], rng: random.Random) -> tuple[str, str]:
    """A solution and its answer. `habit_chance`: (index of a step, the value before it) -> chance of the habit."""
    value, operations = parse(prompt)
    steps = []
    for index, (op, b) in enumerate(operations):
        result = (HABIT if rng.random() < habit_chance(index, value) else EXACT)[op](value, b)
        steps.append(f"{value}{op}{b}={result};")
        value = result
    return "".join(steps) + f"!{value}", str(value)


def _write_right(prompt: str, gold: str, rates: Mapping[str, float], rng: random.Random) -> str:
    """A solution as `_write` would write it, given that its answer is right. It comes from the distribution that
    redrawing samples from, by Bayes' rule at each step, so it may be as rare as it likes.

    Raises:
        InputError: the answer is never right.
    """
    start, operations = parse(prompt)
    chances = [[float(str(value) == gold) for value in range(10)]]  # of a right answer, by step and value before it
    for op, b in reversed(operations):
        rate, after = rates.get(op, 0.0), chances[0]
        chances.insert(0, [rate * after[HABIT[op](v, b)] + (1 - rate) * after[EXACT[op](v, b)] for v in range(10)])
    if not chances[0][start]:
        raise InputError(
            f"problems.teacher_habit_rate: at {dict(rates)} the teacher never gets {prompt} right; lower it, or set "
            "problems.teacher_filter to steps or none"
        )

    def habit_chance(index: int, value: int) -> float:
        op, b = operations[index]
        return rates.get(op, 0.0) * chances[index + 1][HABIT[op](value, b)] / chances[index][value]

    return _write_out(prompt, habit_chance, rng)[0]


def _teacher(prompt: str, gold: str, section: ChainProblems) -> str:
    """What the noisy writer writes, redrawn until `teacher_filter` keeps it."""
    rng = random.Random(stable_seed("chain-teacher", section.seed, prompt))
    if isinstance(section.teacher_habit_rate, dict) and section.teacher_filter == "answer":
        return _write_right(prompt, gold, section.teacher_habit_rate, rng)  # high rates would take many tries
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
        lengths = self.section.writer_operations
        prompts = (
            _draw_prompt(rng, self.section.operations if lengths is None else rng.randint(*lengths))
            for _ in itertools.count()
        )
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
