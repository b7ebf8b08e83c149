"""pass@1, pass@k and their intervals, against known values, enumeration and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from negrl.evaluate.metrics import ScoredSample, bootstrap_interval, pass_at_1, pass_at_k, summarise


def test_pass_at_1_weighs_problems_not_samples() -> None:
    assert pass_at_1([[1, 0], [1, 1]]) == 0.75
    assert pass_at_1([[1], [0, 0, 0, 0]]) == 0.5
    with pytest.raises(ValueError, match="at least one sample"):
        pass_at_1([[1], []])


@pytest.mark.parametrize("n", [1, 4, 6])
def test_pass_at_k_equals_enumeration(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        outcomes = [1] * c + [0] * (n - c)
        draws = list(itertools.combinations(outcomes, k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(any(d) for d in draws) / len(draws), abs=1e-12)


def test_pass_at_k_for_large_n_and_bad_arguments() -> None:
    assert pass_at_k(10_000, 1, 100) == pytest.approx(0.01)
    assert pass_at_k(8, 2, 1) == pytest.approx(0.25)
    for n, c, k in [(4, 5, 1), (4, 2, 5), (4, 2, 0), (4, -1, 1)]:
        with pytest.raises(ValueError, match="pass@k needs"):
            pass_at_k(n, c, k)


def test_bootstrap_known_values() -> None:
    assert bootstrap_interval([1.0] * 20) == (1.0, 1.0)
    assert bootstrap_interval([0.3]) == pytest.approx((0.3, 0.3))
    # Two problems at 0 and 1: a resample's mean is 0, 0.5 or 1 with chance 1/4, 1/2, 1/4.
    assert bootstrap_interval([0.0, 1.0], confidence=0.9) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)
    # 500 coin flips: close to the normal interval 0.5 +- 1.96 * 0.5 / sqrt(500).
    low, high = bootstrap_interval([0.0, 1.0] * 250, samples=4000, seed=1)
    assert low == pytest.approx(0.5 - 0.0438, abs=0.004) and high == pytest.approx(0.5 + 0.0438, abs=0.004)


def test_bootstrap_is_deterministic_and_chunks_do_not_matter() -> None:
    means = np.random.default_rng(3).random(1500).tolist()  # more than one chunk of draws
    assert bootstrap_interval(means, seed=5) == bootstrap_interval(means, seed=5)
    assert bootstrap_interval(means, seed=5) != bootstrap_interval(means, seed=6)


def test_bootstrap_coverage() -> None:
    """A 90% interval holds the truth about 90% of the time: 4 samples each of 60 problems, whose
    own rates differ (Beta(2, 2), mean 0.5)."""
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        means = rng.binomial(4, rng.beta(2, 2, size=60)) / 4
        low, high = bootstrap_interval(means.tolist(), confidence=0.9, samples=400, seed=trial)
        hits += low <= 0.5 <= high
    assert 0.86 <= hits / 400 <= 0.94


def sample(problem: str, verdict: str, reason: str | None = None, wrong: bool | None = None) -> ScoredSample:
    return ScoredSample(problem, verdict, reason, wrong)


def test_summarise() -> None:
    rows = [
        sample("a", "correct", wrong=True),
        sample("a", "correct", wrong=False),
        sample("b", "incorrect", wrong=True),  # a wrong answer's wrong steps are not spurious
        sample("b", "undecided", "truncated"),
        sample("c", "undecided", "no_answer"),
        sample("c", "correct", wrong=False),
    ]
    summary = summarise(rows, generated=6, confidence=0.9, bootstrap=500, seed=1)
    assert summary.pass_at_1 == 0.5
    assert (summary.problems, summary.samples, summary.confidence) == (3, 6, 0.9)
    assert summary.truncated_rate == summary.no_answer_rate == pytest.approx(1 / 6)
    assert summary.undecided_rate == pytest.approx(2 / 6)
    assert summary.spurious_share == pytest.approx(1 / 3)
    assert summary.spurious_share_ci is not None
    assert summary.spurious_share_ci[0] <= 1 / 3 <= summary.spurious_share_ci[1]
    assert summary.pass_at_1_ci[0] < 0.5 < summary.pass_at_1_ci[1]


def test_summarise_takes_plain_tuples_in_any_order() -> None:
    rows = [("a", "correct", None, None), ("b", "incorrect", None, None), ("a", "incorrect", None, None)]
    assert summarise(rows, generated=3).pass_at_1 == 0.25


def test_no_spurious_share_without_checks_or_right_answers() -> None:
    unchecked = summarise([sample("a", "correct"), sample("b", "incorrect")], generated=2)
    assert unchecked.spurious_share is None and unchecked.spurious_share_ci is None
    nothing_right = summarise([sample("a", "incorrect", wrong=True)], generated=1)
    assert nothing_right.spurious_share is None


def test_lost_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 samples were generated, but 1 were scored"):
        summarise([sample("a", "correct")], generated=3)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        summarise([], generated=0)
    with pytest.raises(ValueError, match="unknown verdict 'right'"):
        summarise([sample("a", "right")], generated=1)


def test_spurious_interval_is_by_problem() -> None:
    """Ten right answers that all hide a wrong step, in one problem of twenty, are one observation:
    resamples without that problem give 0, so the low end must be 0."""
    rows = [sample("bad", "correct", wrong=True)] * 10
    rows += [sample(f"p{i}", "correct", wrong=False) for i in range(19)]
    summary = summarise(rows, generated=29)
    assert summary.spurious_share == pytest.approx(10 / 29)
    assert summary.spurious_share_ci is not None and summary.spurious_share_ci[0] == 0.0
