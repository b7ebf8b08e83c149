from __future__ import annotations

import pytest

from negrl.errors import InputError
from negrl.recipe import LabelSection
from negrl.records import Problem
from negrl.steps.labelers import Ask, FixedLabeler, OracleLabeler, Outcome, Task, open_labeler
from negrl.steps.split import Span
from negrl.steps.values import difference, estimate, exact

PROBLEM = Problem("p", "test", "train", "mit", "1+1?", "2")


def task(steps: int, verdict: str = "incorrect") -> Task:
    return Task(PROBLEM, verdict, estimate(4, 8, 0.9), [Span(i, i + 1, f"{i};") for i in range(steps)])


def test_fixed_asks_once_for_every_step_but_the_last() -> None:
    labeler = FixedLabeler(8, 0.9)
    labeler.start([task(3), task(1), task(2)])
    assert labeler.ask() == [Ask(0, 0, 8), Ask(0, 1, 8), Ask(2, 0, 8)]
    assert labeler.ask() == []
    labeler.start([task(2)])
    assert labeler.ask() == [Ask(0, 0, 8)]


def test_fixed_values_and_advantages() -> None:
    labeler = FixedLabeler(8, 0.9)
    labeler.start([task(3), task(3, "correct")])
    labeler.ask()
    labeler.tell([Outcome(0, 0, 8, 6), Outcome(0, 1, 8, 1), Outcome(1, 0, 0, 0), Outcome(1, 1, 7, 7)])
    six, one = estimate(6, 8, 0.9), estimate(1, 8, 0.9)
    assert labeler.values(0) == [six, one, exact(0.0)]
    v0 = estimate(4, 8, 0.9)
    assert labeler.advantages(0) == [difference(six, v0), difference(one, six), difference(exact(0.0), one)]
    seven = estimate(7, 7, 0.9)
    assert labeler.values(1) == [None, seven, exact(1.0)]
    assert labeler.advantages(1) == [None, None, difference(exact(1.0), seven)]


def test_outcomes_of_one_prefix_add_up() -> None:
    labeler = FixedLabeler(8, 0.9)
    labeler.start([task(2)])
    labeler.tell([Outcome(0, 0, 8, 6), Outcome(0, -1, 8, 8)])
    labeler.tell([Outcome(0, 0, 4, 1)])
    assert labeler.values(0)[0] == estimate(7, 12, 0.9)


def test_oracle_reads_the_text_so_far_and_asks_nothing() -> None:
    seen = []

    def value(problem: Problem, prefix: str) -> float:
        seen.append((problem.problem_id, prefix))
        return 1.0 if prefix == "0;" else 0.0

    labeler = open_labeler(LabelSection(labeler="oracle"), value)
    assert isinstance(labeler, OracleLabeler)
    labeler.start([task(3)])
    assert labeler.ask() == []
    assert labeler.values(0) == [exact(1.0), exact(0.0), exact(0.0)]
    assert [a.value for a in labeler.advantages(0)] == [0.5, -1.0, 0.0]
    assert seen == [("p", "0;"), ("p", "0;1;")]
    assert (labeler.advantages(0)[1].low, labeler.advantages(0)[1].high) == (-1.0, -1.0)


def test_open_labeler() -> None:
    fixed = open_labeler(LabelSection(k=5, confidence=0.8))
    assert isinstance(fixed, FixedLabeler)
    assert (fixed.k, fixed.confidence) == (5, 0.8)
    with pytest.raises(InputError, match="oracle needs a world"):
        open_labeler(LabelSection(labeler="oracle"))
