"""The figures of the label-cost bench, against ones worked out by hand."""

import math

import numpy as np
import pytest

from negrl.bench.labels.metrics import (
    FIELDS,
    METRICS,
    Bounds,
    advantage_bounds,
    table,
    tally,
    token_ratio,
    tokens_to_reach,
)
from negrl.bench.stats import resamples
from negrl.recipe import LabelSection
from negrl.records import CORRECT, INCORRECT, Step

SECTION = LabelSection(dead_zone=0.2)
NAN = math.nan
CHANCES = [0.5, 0.5, 0.5]


def step(i: int, advantage: float, low: float, high: float, label: str) -> Step:
    return Step("t", i, i, i + 1, "x", 0, 0, NAN, NAN, NAN, advantage, low, high, label, "fixed")


def exactly(*values: float) -> list[Bounds]:
    return [Bounds(v, v) for v in values]


def sums(*tallies: dict[str, float]) -> np.ndarray:
    return table({"p": tallies}, ["p"]).sum(axis=0)


def test_a_wrong_trace() -> None:
    # True A: -0.1, -0.6 (the pit), -0.1
    truth = exactly(0.8, 0.7, 0.1, 0.0)
    steps = [
        step(0, 0.0, -0.3, -0.05, "neutral"),
        step(1, -0.4, -0.5, -0.3, "pit"),
        step(2, NAN, NAN, NAN, "unlabelled"),
    ]
    one = tally(steps, truth, CHANCES, INCORRECT, SECTION)
    found = sums(one)
    assert float(METRICS["rmse"].of(found)) == pytest.approx(math.sqrt((0.1**2 + 0.2**2 + 0.1**2) / 3))
    assert float(METRICS["rmse_later"].of(found)) == pytest.approx(math.sqrt((0.2**2 + 0.1**2) / 2))
    assert float(METRICS["pit_f1"].of(found)) == 1.0
    assert float(METRICS["coverage"].of(found)) == 0.5  # -0.1 inside, -0.6 outside, the third has no interval
    assert float(METRICS["width"].of(found)) == pytest.approx((0.25 + 0.2) / 2)
    assert float(METRICS["unlabelled"].of(found)) == pytest.approx(1 / 3)
    assert math.isnan(METRICS["spurious_f1"].of(found))  # no right trace
    # One at the wrong place, one not named at all: of 3 true pits and 2 named ones, 1 hit.
    wrong = tally([step(0, -0.5, -0.6, -0.4, "pit"), *steps[2:], *steps[2:]], truth, CHANCES, INCORRECT, SECTION)
    silent = tally([step(i, NAN, NAN, NAN, "unlabelled") for i in range(3)], truth, CHANCES, INCORRECT, SECTION)
    assert float(METRICS["pit_f1"].of(sums(one, wrong, silent))) == pytest.approx(2 * 1 / (2 + 3))


def test_a_right_trace() -> None:
    # True A: -0.4 (spurious), +0.7, 0
    truth = exactly(0.7, 0.3, 1.0, 1.0)
    steps = [step(0, -0.3, -0.6, 0.1, "bad"), step(1, -0.3, -0.5, -0.1, "spurious"), step(2, 0, 0, 0, "neutral")]
    found = sums(tally(steps, truth, CHANCES, CORRECT, SECTION))
    assert float(METRICS["spurious_f1"].of(found)) == 0.0  # the one is not sure, the other not true
    assert float(METRICS["bad_f1"].of(found)) == pytest.approx(2 * 1 / (2 + 1))
    assert math.isnan(METRICS["pit_f1"].of(found))


def test_an_interval_may_meet_the_truth_in_its_bounds() -> None:
    steps = [step(0, 0.0, -0.02, 0.01, "neutral"), step(1, 0.0, 0.0, 0.0, "neutral")]
    near = tally(steps, [Bounds(0.5, 0.52), Bounds(0.47, 0.49), Bounds(0.0, 0.0)], [0.0, 0.0], INCORRECT, SECTION)
    assert near["covered"] == 1  # A_1 in [-0.05, -0.01]
    far = tally(steps, [Bounds(0.5, 0.52), Bounds(0.46, 0.47), Bounds(0.0, 0.0)], [0.0, 0.0], INCORRECT, SECTION)
    assert far["covered"] == 0


def test_tokens_to_reach_interpolates_and_never_extrapolates() -> None:
    tokens, errors = [10, 100, 1000], [0.4, 0.2, 0.1]
    # Halfway between 0.4 and 0.2 in logs is halfway between 10 and 100 in logs.
    assert tokens_to_reach(math.sqrt(0.08), tokens, errors, lower=True) == (pytest.approx(10**1.5), False)
    assert tokens_to_reach(0.2, tokens, errors, lower=True) == (pytest.approx(100), False)
    assert tokens_to_reach(0.5, tokens, errors, lower=True) == (10, True)
    assert tokens_to_reach(0.05, tokens, errors, lower=True) is None
    assert tokens_to_reach(0.75, tokens, [0.5, 0.7, 0.8], lower=False) == (pytest.approx(10**2.5), False)
    # The first time that it is good enough counts, whatever comes later; NaN is no point.
    assert tokens_to_reach(0.7, [1, *tokens], [math.nan, 0.5, 0.7, 0.6], lower=False) == (pytest.approx(100), False)


def random_sums(error: float, tokens: float, problems: int = 40, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.zeros((problems, len(FIELDS)))
    at = {name: i for i, name in enumerate(FIELDS)}
    weight = rng.uniform(0.5, 1.5, problems)
    out[:, at["traces"]], out[:, at["steps"]] = 10, 60
    out[:, at["tokens"]], out[:, at["squares"]] = 10 * tokens * weight, 60 * error**2 * weight
    return out


def test_the_ratio_of_a_labeler_that_is_eight_times_as_cheap() -> None:
    peer = random_sums(0.1, 160)
    budgets = [random_sums(e, t) for e, t in ((0.2, 5), (0.1 * math.sqrt(2), 10), (0.05 * math.sqrt(2), 40))]
    draws = resamples(40, 200, seed=3)
    assert draws.shape == (200, 40) and (draws.sum(axis=1) == 40).all()
    ratio = token_ratio(peer, budgets, METRICS["rmse"], draws)
    # 0.1 lies halfway between the last two budgets in logs: 20 tokens. Every resample says the same.
    assert ratio.value == pytest.approx(8) and (ratio.low, ratio.high) == (pytest.approx(8), pytest.approx(8))
    assert not ratio.at_least and ratio.missed == 0
    assert token_ratio(peer, budgets[:2], METRICS["rmse"], draws).value is None
    assert token_ratio(peer, budgets[2:], METRICS["rmse"], draws).at_least
    assert not ratio.free
    assert token_ratio(peer, [random_sums(0.09, 0), *budgets], METRICS["rmse"], draws).free
    assert not token_ratio(peer, [random_sums(0.11, 0), *budgets], METRICS["rmse"], draws).free
    noisy = token_ratio(random_sums(0.1, 160, seed=1), budgets, METRICS["rmse"], draws)
    assert noisy.low < noisy.value < noisy.high  # type: ignore[operator]


def test_bounds_of_a_likely_step_are_tight() -> None:
    # The value after the step is only known to lie in [0.4, 0.6]; before it, 0.9 of the mass goes there, and of
    # the rest 0.05 is right, 0.04 wrong, 0.01 unknown.
    after = Bounds(0.4, 0.6)
    before = Bounds(0.9 * 0.4 + 0.05, 0.9 * 0.6 + 0.05 + 0.01)
    found = advantage_bounds(before, after, 0.9)
    assert (found.low, found.high) == (pytest.approx(0.1 * 0.4 - 0.06), pytest.approx(0.1 * 0.6 - 0.05))
    # An unlikely step: no worse than the plain difference of the two.
    rare = advantage_bounds(Bounds(0.3, 0.32), after, 0.0)
    assert (rare.low, rare.high) == (pytest.approx(0.08), pytest.approx(0.3))
