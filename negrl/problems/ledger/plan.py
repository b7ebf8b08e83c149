"""What a story of the `ledger` world asks for: its events, turned into steps on numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from negrl.problems.ledger.text import Event
from negrl.records import stable_id

EXACT: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,  # b is 2 in every step
    "max": max,
    "min": min,
}
_JOINED = {"both": "+", "most": "max", "least": "min"}
_COMPARED = {"more": ("+", 0), "fewer": ("-", 0), "times": ("*", 0), "half": ("/", 2)}
"""kind -> operator, and the second operand where the sentence has no number for it."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A number of the story, or the result of a step."""

    value: int
    """The number, or the step's index."""
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the solution: `{head} {left} {op} {right} = ... {tail}`."""

    head: str
    tail: str
    op: str
    left: Operand
    right: Operand
    compares: bool = False
    """It compares: more, fewer, times or half of somebody else's, or the larger or smaller of two."""
    mistaken: Operand | None = None
    """The left operand of somebody who mistakes before for after, or after for before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps that the question needs, the answer last, and the numbers that it does not need."""

    steps: tuple[Step, ...]
    distractors: tuple[int, ...]

    @property
    def key(self) -> str:
        """What is to be computed, whatever the names."""
        return stable_id([[s.op, s.left.value, s.left.is_step, s.right.value, s.right.is_step] for s in self.steps])

    def values(self, written: Mapping[int, int] | None = None) -> list[Fraction]:
        """The exact result of every step, from the results that were written where there are any."""
        written = written or {}
        results: list[Fraction] = []
        for i, step in enumerate(self.steps):
            a, b = (results[o.value] if o.is_step else Fraction(o.value) for o in (step.left, step.right))
            results.append(Fraction(written[i]) if i in written else EXACT[step.op](a, b))
        return results


def plan_of(events: Sequence[Event]) -> Plan:
    """The steps to the answer of a story whose last event is its question.

    Changes are permanent: an amount is what it is at that point of the story.
    """
    steps: list[Step] = []
    now: dict[str, Operand] = {}
    first: dict[str, Operand] = {}
    thing = events[-1].thing

    def add(head: str, op: str, left: Operand, right: Operand, tail: str = thing, mistaken: Operand | None = None,
            compares: bool = False) -> Operand:  # fmt: skip
        steps.append(Step(head, f"{tail}.", op, left, right, compares, None if mistaken == left else mistaken))
        return Operand(len(steps) - 1, is_step=True)

    numbers: list[tuple[Operand, int]] = []  # what an amount depends on, the number in its sentence
    asked = Operand(0)
    for event in events:
        who, k = event.who, Operand(event.k)
        kind, at_first = event.kind.removesuffix("_first"), event.kind.endswith("_first")
        if kind in ("age", "also", "away"):
            numbers.append((Operand(-1, is_step=True), event.k))
            continue
        if kind == "start":
            asked = k
        elif kind == "rate":
            asked = add(f"{who} has", "*", k, Operand(event.n))
        elif kind in _COMPARED:
            op, fixed = _COMPARED[kind]
            base, mistaken = now[event.other], first[event.other]
            if at_first:
                base, mistaken = mistaken, base
            right = Operand(fixed) if fixed else k
            asked = add(f"{who} has", op, base, right, mistaken=mistaken, compares=True)
        elif kind in ("gain", "lose"):
            asked = add(f"{who} now has", "+" if kind == "gain" else "-", now[who], k)
        elif kind in _JOINED:
            left, right = now[event.other], now[event.third]
            asked = add(f"{who} has", _JOINED[kind], left, right, mistaken=first[event.other], compares=kind != "both")
        elif kind == "together":
            asked = add("Together they have", "+", now[who], now[event.other], mistaken=first[who])
        elif kind == "difference":
            tail = f"more {thing} than {event.other}"
            asked = add(f"{who} has", "-", now[who], now[event.other], tail, mistaken=first[who])
        elif kind == "sale":
            asked = add(f"{who} gets", "*", now[who], k, "dollars", mistaken=first[who])
        else:  # ask
            asked = now[who]
            continue
        numbers += [(asked, event.k)] if event.k else []
        if kind in ("together", "difference", "sale"):
            continue
        now[who] = asked
        first.setdefault(who, asked)
    return _needed(steps, asked, numbers)


def _needed(steps: list[Step], asked: Operand, numbers: list[tuple[Operand, int]]) -> Plan:
    """The steps that the answer depends on, renumbered, and the numbers of all other sentences."""
    needed: set[int] = set()
    given: list[Operand] = []
    waiting = [asked]
    while waiting:
        operand = waiting.pop()
        if not operand.is_step:
            given.append(operand)
        elif operand.value not in needed:
            needed.add(operand.value)
            waiting += [steps[operand.value].left, steps[operand.value].right]
    index = {old: new for new, old in enumerate(sorted(needed))}

    def moved(operand: Operand) -> Operand:
        return Operand(index[operand.value], True) if operand.is_step else operand

    kept = []
    for old in index:
        step = steps[old]
        mistaken = step.mistaken
        if mistaken is not None and mistaken.is_step and mistaken.value not in index:
            mistaken = None  # nobody computes it
        kept.append(
            replace(step, left=moved(step.left), right=moved(step.right),
                    mistaken=None if mistaken is None else moved(mistaken))
        )  # fmt: skip
    used = {o.value for o in given}
    idle = [k for operand, k in numbers if not (operand.is_step and operand.value in needed) and k not in used]
    return Plan(tuple(kept), tuple(dict.fromkeys(idle)))
