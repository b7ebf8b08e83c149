"""The writer of the `ledger` world: solutions with the habits that real models have."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction

from negrl.problems.ledger.line import write_line
from negrl.problems.ledger.plan import EXACT, Plan, Step

Worked = tuple[str, int, int, int]
"""Operator, operands, result."""
Results = Sequence[int] | Mapping[int, int]
"""What was written for each step, by its index."""
_OPPOSITE = {"+": "-", "-": "+", "/": "*", "max": "min", "min": "max"}


def write(plan: Plan, habits: Collection[str], rate: float, rng: random.Random, wordings: int = 1) -> tuple[str, str]:
    """A solution in which each step follows, with chance `rate`, one of the habits that apply to it, and its
    answer. Each line has one of the first `wordings` wordings."""
    results: list[int] = []
    lines: list[str] = []
    for step in plan.steps:
        found = right_line(plan, step, results)
        wrong = [w for name in habits if name in HABITS for w in HABITS[name](plan, step, results, found)]
        wrong = [w for w in wrong if w != found and w[3] >= 0]
        if wrong and rng.random() < rate:
            found = rng.choice(wrong)
        op, a, b, result = found
        wording = rng.randrange(wordings) if wordings > 1 else 0  # one wording draws nothing: the same texts as ever
        lines.append(write_line(step.head, a, op, b, result, step.tail, wording))
        results.append(result)
    if "sub_question" in habits and len(lines) > 1 and rng.random() < rate:
        lines.pop()  # an intermediate result is taken for the answer
        results.pop()
    return "\n".join([*lines, f"#### {results[-1]}"]), str(results[-1])


def _work(op: str, a: int, b: int) -> Worked:
    """As the writer computes it: whole numbers, the remainder of a division dropped."""
    exact = EXACT[op](Fraction(a), Fraction(b))
    return op, a, b, exact.numerator // exact.denominator


def right_line(plan: Plan, step: Step, results: Results) -> Worked:
    """The right line for a step, from what was written for the steps before it."""
    a, b = (results[o.value] if o.is_step else o.value for o in (step.left, step.right))
    return _work(step.op, a, b)


def _distractor(plan: Plan, step: Step, results: Results, right: Worked) -> list[Worked]:
    """A number that does not matter takes the place of one that does."""
    return [_work(step.op, right[1], number) for number in plan.distractors] if step.op in "+-*" else []


def _more_less(plan: Plan, step: Step, results: Results, right: Worked) -> list[Worked]:
    """More for less, times for half, and vice versa."""
    _, a, b, _ = right
    if not step.compares:
        return []
    if step.op in _OPPOSITE:
        return [_work(_OPPOSITE[step.op], a, b)]
    return [_work("/", a, b)] if a % b == 0 else []


def _before_after(plan: Plan, step: Step, results: Results, right: Worked) -> list[Worked]:
    """The initial amount for the current one, and vice versa."""
    if step.mistaken is None:
        return []
    other = step.mistaken
    return [_work(step.op, results[other.value] if other.is_step else other.value, right[2])]


def _carry(plan: Plan, step: Step, results: Results, right: Worked) -> list[Worked]:
    """Each column by itself: no carry in a sum or a product, the smaller digit from the larger in a difference."""
    op, a, b, _ = right
    if op not in "+-*" or (op == "*" and b > 9) or min(a, b) < 0:
        return []
    result, unit = 0, 1
    rest_a, rest_b = a, b
    while rest_a or (rest_b and op != "*"):
        x, y = rest_a % 10, b if op == "*" else rest_b % 10
        rest_a, rest_b = rest_a // 10, rest_b // 10
        column = {"+": x + y, "-": abs(x - y), "*": x * y}[op]
        last = not rest_a and (op == "*" or not rest_b)
        result += unit * (column if last else column % 10)
        unit *= 10
    return [(op, a, b, result)]


HABITS: dict[str, Callable[[Plan, Step, Results, Worked], list[Worked]]] = {
    "distractor": _distractor,
    "more_less": _more_less,
    "before_after": _before_after,
    "carry": _carry,
}
"""Habit -> the wrong lines that it leads to. `sub_question` leaves the last line out."""
