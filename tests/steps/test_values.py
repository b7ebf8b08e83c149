from __future__ import annotations

import random

import pytest

from negrl.records import Sampling, Trace
from negrl.steps.values import difference, estimate, exact, prompt_values, verdict_value, wilson


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
