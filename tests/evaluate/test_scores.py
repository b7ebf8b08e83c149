"""Votes, maj@k and the count of samples, by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from negrl.evaluate.benchmarks import BENCHMARKS
from negrl.evaluate.prompts import Task, make_task
from negrl.evaluate.samples import Judged
from negrl.evaluate.scores import maj_at_k, majority, powers, score, votes
from negrl.evaluate.settings import EvalSettings


def sample(problem_id: str, index: int, answer: str | None, verdict: str, reason: str | None = None) -> Judged:
    return Judged(problem_id, index, "7", "text", "stop", 10, answer, verdict, reason, "boxed" if answer else None)


def test_votes_go_by_meaning() -> None:
    rows = [
        sample("p", 0, "7", "correct"),
        sample("p", 1, "7.0", "correct"),
        sample("p", 2, "1/2", "incorrect"),
        sample("p", 3, "0.5", "incorrect"),
        sample("p", 4, "8", "incorrect"),
        sample("p", 5, None, "undecided", "no_answer"),
    ]
    cast = votes(rows)
    assert cast[0] == cast[1] == 0 and cast[2] == cast[3] == 1 and cast[4] == 2 and cast[5] is None


def test_majority_draws_ties_by_lot() -> None:
    assert majority([0, 0, 1]) == 1.0
    assert majority([0, 1, 1]) == 0.0
    assert majority([0, 1]) == 0.5
    assert majority([0, 1, 2, None, None]) == pytest.approx(1 / 3)
    assert majority([None, None]) == 0.0
    assert majority([0, None, None]) == 1.0  # who gives no answer does not vote


def test_maj_at_k_takes_disjoint_groups() -> None:
    assert maj_at_k([0, 0, 1, 1, 1, 0], 3) == 0.5
    assert maj_at_k([0, 0, 1, 1, 1], 3) == 1.0  # the last two are no group
    assert maj_at_k([0, 1, 0], 1) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="maj@4"):
        maj_at_k([0, 0, 0], 4)


def test_powers() -> None:
    assert [powers(n) for n in (1, 2, 3, 4, 9)] == [[1], [1, 2], [1, 2], [1, 2, 4], [1, 2, 4, 8]]


@pytest.fixture
def task(shared_data: Path) -> Task:
    return make_task(BENCHMARKS["math500"], EvalSettings(limit=2), shared_data)


def test_the_numbers_by_hand(task: Task) -> None:
    """Two problems, four samples each: 2 and 1 of 4 right."""
    p, q = (problem.problem_id for problem in task.problems)
    rows = [sample(p, i, "7", "correct") for i in range(2)] + [sample(p, i, str(i), "incorrect") for i in (2, 3)]
    rows += [sample(q, 0, "7", "correct"), sample(q, 1, "9", "incorrect"), sample(q, 2, "9", "incorrect")]
    rows += [sample(q, 3, None, "undecided", "truncated")]
    found = score(task, rows, 8, EvalSettings(bootstrap=200))
    values = {name: m["value"] for name, m in found["metrics"].items()}
    assert values == pytest.approx({"pass@1": 0.375, "pass@2": (5 / 6 + 1 / 2) / 2, "pass@4": 1.0, "maj@4": 0.5})
    assert all(m["low"] <= m["value"] <= m["high"] for m in found["metrics"].values())
    assert found["rates"] == {"truncated": 1 / 8, "undecided": 1 / 8, "no_answer": 0.0}
    assert sum(group["problems"] for group in found["by_level"].values()) == 2
    assert found["counts"]["generated"] == found["counts"]["scored"] == 8


def test_a_lost_sample_is_an_error(task: Task) -> None:
    """lighteval#771: 4 of 8 samples there, and pass@1 silently halves. Here nothing is reported."""
    rows = [sample(problem.problem_id, i, "7", "correct") for problem in task.problems for i in range(4)]
    with pytest.raises(ValueError, match="8 samples were generated, but 7 were scored"):
        score(task, rows[:-1], 8, EvalSettings(bootstrap=100))
    twice = [*rows[:-1], replace(rows[0])]
    with pytest.raises(ValueError, match="one sample twice"):
        score(task, twice, 8, EvalSettings(bootstrap=100))
    with pytest.raises(ValueError, match="no sample"):
        score(task, rows[:4], 4, EvalSettings(bootstrap=100))
