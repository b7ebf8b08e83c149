"""Load the problems of the `ledger` world, write its pre-training text, judge steps."""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass, field
from fractions import Fraction

from negrl.problems.base import ProblemSet, draw_problems, held_out, teach
from negrl.problems.ledger.draw import Story, draw
from negrl.problems.ledger.line import read_line
from negrl.problems.ledger.plan import EXACT, Operand, Plan, plan_of
from negrl.problems.ledger.section import LedgerProblems
from negrl.problems.ledger.text import read
from negrl.problems.ledger.write import write
from negrl.records import Json, Problem, stable_id, stable_seed
from negrl.steps.facts import Fact

_ANSWER = re.compile(r"####[ \t]*(-?[0-9]{1,18})[ \t]*")


def load(section: LedgerProblems) -> ProblemSet:
    """The first `train` and `evaluate` problems of the world's streams. They are disjoint by construction, in
    what is to be computed and not only in their words.

    Raises:
        InputError: there are not that many.
    """
    return ProblemSet(
        train=_problems(section, "train", section.train), evaluate=_problems(section, "evaluate", section.evaluate)
    )


def _problems(section: LedgerProblems, split: str, count: int) -> list[Problem]:
    stories = draw_problems("ledger", section.seed, split, count, lambda rng: draw(rng, section), lambda s: s.plan.key)
    return [_problem(section, split, story) for story in stories]


def _problem(section: LedgerProblems, split: str, story: Story) -> Problem:
    prompt, plan = story.prompt, story.plan
    gold = str(plan.values()[-1])
    solution = None
    if split == "train":
        rng = random.Random(stable_seed("ledger-teacher", section.seed, prompt))
        rate, keep = section.teacher_habit_rate, section.teacher_filter
        solution = teach(lambda r: write(plan, section.habits, r, rng, section.wordings), rate, keep, gold)
    return Problem(
        problem_id=stable_id("ledger", prompt),
        source="ledger",
        split=split,
        license="Apache-2.0",
        prompt=prompt,
        gold=gold,
        solution=solution,
        meta=Json(steps=len(plan.steps), distractors=len(plan.distractors)),
    )


class World:
    """Writes pre-training text, and judges steps exactly. See `negrl.problems.base.World`."""

    def __init__(self, section: LedgerProblems):
        self.section = section

    def pretraining_texts(self, count: int) -> list[tuple[str, str]]:
        section = self.section
        texts: list[tuple[str, str]] = []
        rng = random.Random(stable_seed("ledger-text", section.seed))
        while len(texts) < count:
            story = draw(rng, section)
            solution, _ = write(story.plan, section.habits, section.habit_rate, rng, section.wordings)
            if not held_out("ledger", story.plan.key):
                texts.append((story.prompt, solution))
        return texts

    def check_steps(self, problem: Problem, text: str) -> list[bool]:
        """A line is right if it claims a quantity of the problem that no earlier line claimed, computes it from the
        right numbers, as the earlier lines wrote them, and without a mistake. The last line is right if it gives
        the quantity asked for as it was written. Lines that do not depend on each other may come in any order.
        A right line after a wrong one is right. Blank lines are no steps."""
        return _follow(plan_of(read(problem.prompt)), text).verdicts

    def value(self, problem: Problem, prefix: str) -> float:
        """1.0 if exact work from what was written gives the gold answer, else 0.0. Lines that claim no quantity
        of the problem change nothing."""
        plan = plan_of(read(problem.prompt))
        read_so_far = _follow(plan, prefix)
        if read_so_far.answer is not None:
            return float(read_so_far.answer == int(problem.gold))
        return float(plan.values(read_so_far.written)[-1] == int(problem.gold))

    def facts(self, problem: Problem, text: str) -> list[Fact]:
        """What each line claims: which quantity, and the result. A line that claims none is a fact by its words."""
        plan = _plan(problem.prompt)
        found: list[Fact] = []
        before, end = _Followed(), 0
        for line in text.split("\n"):
            end += len(line)
            now = _follow(plan, text[:end])
            new = [f"{i}={result}" for i, result in now.written.items() if i not in before.written]
            if now.answer is not None and before.answer is None:
                new.append(f"answer={now.answer}")
            if line.strip():
                found.append(Fact(end, new[0] if new else line.strip()))
            before, end = now, end + 1
        return found


@functools.lru_cache(maxsize=256)
def _plan(prompt: str) -> Plan:
    return plan_of(read(prompt))


@dataclass
class _Followed:
    """What a response says: the result that it wrote for each step, whether each line is right, its answer."""

    written: dict[int, int] = field(default_factory=dict)
    verdicts: list[bool] = field(default_factory=list)
    answer: int | None = None


def _follow(plan: Plan, text: str) -> _Followed:
    found = _Followed()
    for line in (raw.strip() for raw in text.split("\n")):
        if not line:
            continue
        if match := _ANSWER.fullmatch(line):
            first, found.answer = found.answer is None, int(match[1])
            found.verdicts.append(first and found.written.get(len(plan.steps) - 1) == found.answer)
            continue
        said = read_line(line)
        claimed = next(
            (i for i, s in enumerate(plan.steps) if said and i not in found.written
             and (s.head, s.tail) == (said.head, said.tail)), None,
        )  # fmt: skip
        if said is None or claimed is None:
            found.verdicts.append(False)
            continue
        step, op, operands = plan.steps[claimed], said.op, [said.a, said.b]
        meant = [_amount(step.left, found.written), _amount(step.right, found.written)]
        same = operands == meant or (op not in "-/" and operands[::-1] == meant)
        exact = op == step.op and same and EXACT[op](Fraction(said.a), Fraction(said.b)) == said.result == said.said
        found.verdicts.append(found.answer is None and exact)  # an answer ends a response: no line after it is right
        found.written[claimed] = said.said
    return found


def _amount(operand: Operand, written: dict[int, int]) -> int | None:
    """A given number, or the result that was written for a step; None if none was."""
    return written.get(operand.value) if operand.is_step else operand.value
