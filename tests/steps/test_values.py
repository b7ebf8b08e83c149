from __future__ import annotations

import random

import pytest

from negrl.records import Sampling, Trace
from negrl.steps.values import (
    VERIFIER_FAILED,
    at_least_one,
    best_of_counts,
    difference,
    estimate,
    exact,
    prompt_values,
    verdict_value,
    wilson,
    with_best_of,
)
from negrl.verify.pool import Failure


@pytest.mark.parametrize(
    ("a", "n", "b", "m", "low", "high"),
    [  # Newcombe 1998, Table II, method 10, 95%
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_newcombe_published(a: int, n: int, b: int, m: int, low: float, high: float) -> None:
    d = difference(estimate(a, n, 0.95), estimate(b, m, 0.95))
    assert d.value == pytest.approx(a / n - b / m)
    assert (d.low, d.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("r", "n", "low", "high"),
    [  # Newcombe 1998 (one proportion), Table I, method 3, 95%
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_published(r: int, n: int, low: float, high: float) -> None:
    assert wilson(r, n, 0.95) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(n - r, n, 0.95) == (pytest.approx(1 - high, abs=5e-5), pytest.approx(1 - low, abs=5e-5))


def test_bounds_contain_the_ratio_and_stay_chances() -> None:
    for n in range(1, 40):
        for s in range(n + 1):
            low, high = wilson(s, n, 0.9)
            assert 0 <= low <= s / n <= high <= 1
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson(3, 2, 0.9)


def test_no_counts_no_estimate() -> None:
    assert estimate(0, 0, 0.9) is None


def test_exact_values_have_no_width() -> None:
    right, wrong = verdict_value("correct"), verdict_value("incorrect")
    assert (right.low, right.value, right.high, right.n) == (1, 1, 1, 0)
    assert wrong == exact(0.0)
    d = difference(wrong, right)
    assert (d.low, d.value, d.high) == (-1, -1, -1)
    # Against counts, only the counts' uncertainty is left.
    counted = estimate(3, 8, 0.9)
    d = difference(right, counted)
    assert (d.low, d.high) == (pytest.approx(1 - counted.high), pytest.approx(1 - counted.low))


@pytest.mark.parametrize("n", [4, 8, 32])
def test_coverage(n: int) -> None:
    """Nominal 90%, chances drawn evenly from [0, 1]: both intervals hold what they promise."""
    rng = random.Random(n)
    rounds, wilson_hits, newcombe_hits = 8000, 0, 0
    for _ in range(rounds):
        p, q = rng.random(), rng.random()
        a = estimate(sum(rng.random() < p for _ in range(n)), n, 0.9)
        b = estimate(sum(rng.random() < q for _ in range(n)), n, 0.9)
        d = difference(a, b)
        wilson_hits += a.low <= p <= a.high
        newcombe_hits += d.low <= p - q <= d.high
    assert 0.89 < wilson_hits / rounds < 0.93
    assert 0.89 < newcombe_hits / rounds < 0.93


def test_prompt_values_count_traces_as_rollouts_are_counted() -> None:
    """Cut off or no answer: not successful. Not judged: not counted."""

    def trace(problem: str, verdict: str | None, reason: str | None, i: int) -> Trace:
        return Trace(
            f"{problem}{i}", problem, 0, i, "p", "e", Sampling(), [1], [2], None, "", "stop", None, verdict, reason
        )  # fmt: skip

    verdicts = [
        ("correct", None), ("incorrect", None), ("undecided", "truncated"), ("undecided", "timeout"),
        ("correct", None), ("undecided", "no_answer"), (None, None), ("undecided", "gold_unparsable"),
    ]  # fmt: skip
    traces = [trace("a", verdict, reason, i) for i, (verdict, reason) in enumerate(verdicts)]
    values = prompt_values([*traces, trace("b", "undecided", "unparsable", 0)], 0.9)
    assert values == {"a": estimate(2, 5, 0.9)}


@pytest.mark.parametrize(("n", "k"), [(8, 5), (16, 5), (5, 5), (8, 2)])
def test_best_of_k_from_counts_is_unbiased_and_the_plug_in_is_not(n: int, k: int) -> None:
    rng = random.Random(n * k)
    draws, p = 20_000, 0.22
    truth = at_least_one(p, k)
    successes = [sum(rng.random() < p for _ in range(n)) for _ in range(draws)]
    unbiased = [best_of_counts(s, n, k) for s in successes]
    plug_in = [at_least_one(s / n, k) for s in successes]
    error = 4 * (sum((u - truth) ** 2 for u in unbiased) ** 0.5) / draws  # four standard errors of the mean
    assert abs(sum(unbiased) / draws - truth) < error
    assert truth - sum(plug_in) / draws > 3 * error


def test_best_of_one_is_the_plain_value() -> None:
    for n in range(1, 12):
        for s in range(n + 1):
            assert best_of_counts(s, n, 1) == pytest.approx(s / n)
    assert estimate(3, 8, 0.9, 1) == estimate(3, 8, 0.9)
    assert with_best_of(exact(0.3), 0.9, 1) == exact(0.3)


def test_best_of_k_needs_k_counts() -> None:
    assert estimate(2, 4, 0.9, 5) is None
    assert with_best_of(estimate(2, 4, 0.9), 0.9, 5) is None
    with pytest.raises(ValueError, match="best of 5 from 2 successes of 4 trials"):
        best_of_counts(2, 4, 5)


def test_best_of_k_bounds_hold_the_value_and_known_values_stay_known() -> None:
    for n in range(5, 30):
        for s in range(n + 1):
            e = estimate(s, n, 0.9, 5)
            assert 0 <= e.low <= e.value <= e.high <= 1
            assert (e.n, e.successes) == (n, s)
            low, high = wilson(s, n, 0.9)
            assert e.low <= at_least_one(low, 5)
            assert e.high >= at_least_one(high, 5)
    assert with_best_of(exact(0.0), 0.9, 5) == exact(0.0)
    assert with_best_of(exact(1.0), 0.9, 5) == exact(1.0)
    assert with_best_of(exact(0.5), 0.9, 5) == exact(1 - 0.5**5)


def test_no_failure_of_the_verifier_counts_against_the_policy() -> None:
    assert {str(failure) for failure in Failure} <= set(VERIFIER_FAILED)
