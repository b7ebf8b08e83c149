"""The multiplier against truths that are known: bias, coverage, censoring, flat curves."""

import itertools
import math

import numpy as np
import pytest

from negrl.bench.stats import censored, seed_interval, seed_weights
from negrl.bench.sweep.curve import (
    KINDS,
    Reading,
    beaten_up_to,
    cost_ratio,
    curve_of,
    difference,
    fit_curve,
    isotonic,
    multiplier,
    needed,
    resample,
    shape_of,
)

SIZES = np.array([64, 128, 256, 512, 1024, 2048, 4096, 8192])
SPREAD = np.full(8, 0.01)
AT = 256


def law(a: float, b: float, c: float = 0.0) -> np.ndarray:
    return a * SIZES**-b + c


def problems_needed(curve, error, kind):
    return needed(SIZES, shape_of(SIZES, curve, SPREAD, kind), np.asarray(error, dtype=np.float64))


def simulate(rng, curve, error, seeds=5, problems=200, noise=0.1, shared=True, samples=4):
    """Points of sft and of one arm at 256 problems: problems differ in hardness, seeds in luck, half of it shared by
    the arms of a seed; `samples` of each problem."""
    total = problems if shared else problems * seeds
    hard = np.exp(0.3 * rng.normal(size=total) - 0.045)
    luck, keys, rates = rng.normal(size=seeds), [], []
    for seed, (arm, size, e) in itertools.product(
        range(seeds), [*(("sft", int(n), e) for n, e in zip(SIZES, curve, strict=True)), ("arm", AT, error)]
    ):
        own = e * np.exp(noise * (luck[seed] + rng.normal()) / math.sqrt(2) - noise**2 / 2)
        row, mine = np.full(total, np.nan), slice(None) if shared else slice(seed * problems, (seed + 1) * problems)
        row[mine] = rng.binomial(samples, np.clip(1 - own * hard[mine], 0, 1)) / samples
        keys.append((arm, size, seed))
        rates.append(row)
    return resample(keys, np.array(rates), draws=300, seed=int(rng.integers(1 << 30)))


def read(sample, seeds, kind="power"):
    return multiplier(curve_of(sample, range(seeds)), *sample.cell("arm", AT, range(seeds)), AT, kind)


@pytest.mark.parametrize("floor", [False, True])
def test_the_fit_finds_the_law_it_was_made_by(floor: bool) -> None:
    fit = fit_curve(SIZES, law(0.8, 0.15), SPREAD, floor)
    assert fit.b == pytest.approx(0.15) and np.exp(fit.log_a) == pytest.approx(0.8) and fit.c == 0
    assert fit.at(512.0) == pytest.approx(0.8 * 512**-0.15)
    assert fit.at(SIZES) == pytest.approx(law(0.8, 0.15))


def test_a_floor_is_found() -> None:
    errors = law(0.9, 0.4, 0.25)
    fit = fit_curve(SIZES, errors, SPREAD, floor=True)
    assert fit.c == pytest.approx(0.25, abs=0.01) and fit.b == pytest.approx(0.4, abs=0.05)
    assert (
        np.abs(fit.at(SIZES) - errors).max() < 0.002 < np.abs(fit_curve(SIZES, errors, SPREAD).at(SIZES) - errors).max()
    )


def test_uncertain_sizes_weigh_less() -> None:
    errors = law(0.8, 0.15)
    errors[0] *= 1.5
    spread = SPREAD.copy()
    spread[0] = 1.0
    assert fit_curve(SIZES, errors, spread).b == pytest.approx(0.15, abs=1e-3)
    assert fit_curve(SIZES, errors, SPREAD).b > 0.17


def test_isotonic_is_the_closest_sequence_that_never_rises() -> None:
    assert isotonic(np.array([0.5, 0.3, 0.4, 0.2])) == pytest.approx([0.5, 0.35, 0.35, 0.2])
    rng = np.random.default_rng(0)
    errors = rng.random((50, 6))
    out = isotonic(errors)
    assert (np.diff(out) <= 1e-12).all() and out.sum(axis=1) == pytest.approx(errors.sum(axis=1))
    falling = -np.sort(-rng.random((50, 6)))
    assert isotonic(falling) == pytest.approx(falling)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_on_the_curve_is_read_off_there(kind: str) -> None:
    curve = law(0.8, 0.15)
    found = problems_needed(curve, 0.8 * np.array([64.001, 100, 2048, 8191.0]) ** -0.15, kind)
    assert found == pytest.approx([64, 100, 2048, 8191], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_read_beyond_the_sizes(kind: str) -> None:
    curve = law(0.8, 0.15)
    assert problems_needed(curve, np.array([curve[-1] * 0.99, curve[0] * 1.01]), kind).tolist() == [
        np.inf, 0.0,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("curve", [np.full(8, 0.3), law(0.3, -0.05), law(0.3, 1e-9)], ids=["flat", "rising", "tiny b"])
def test_a_curve_that_does_not_fall_breaks_nothing(curve: np.ndarray, kind: str) -> None:
    with np.errstate(all="raise"):
        found = problems_needed(curve, np.array([0.2, 0.6]), kind)
    assert found.tolist() == [np.inf, 0.0]


def test_errors_of_zero_break_nothing() -> None:
    for kind in KINDS:
        found = problems_needed(np.zeros(8), np.array([0.0, 0.1]), kind)
        assert not np.isnan(found).any() and found[1] == 0


def test_an_interval_is_censored_only_where_its_quantile_is() -> None:
    draws = np.array([np.inf] * 970 + [20.0] * 30)
    assert censored(draws) == (20.0, np.inf)
    assert censored(np.array([np.inf] * 975 + [20.0] * 25)) == (20.0, np.inf)
    assert censored(np.array([np.inf] * 990 + [20.0] * 10)) == (np.inf, np.inf)


def test_words_of_a_reading() -> None:
    def text(value: float, low: float, high: float) -> str:
        return str(Reading(value, low, high, least=0.25, most=32, above=0))

    assert text(12.3, 8.04, np.inf) == "12x [8, > 32]"
    assert text(np.inf, np.inf, np.inf) == "> 32x [> 32]"
    assert text(0.0, 0.0, 1.25) == "< 0.25x [< 0.25, 1.2]"
    assert Reading(np.inf, np.inf, np.inf, 0.25, 32, 1).at_least == 32
    assert Reading(np.inf, 9.0, np.inf, 0.25, 32, 0.9).at_least == 9


@pytest.mark.parametrize(
    ("low", "high", "least", "side"),
    [(1.1, np.inf, 0.25, 1), (0.9, 3, 0.25, 0), (0.3, 0.9, 0.25, -1), (0, 0, 8, 0), (0, 0, 1, -1), (0, 0.9, 0.25, -1),
     (np.inf, np.inf, 0.25, 1)],
)  # fmt: skip
def test_on_which_side_of_one(low: float, high: float, least: float, side: int) -> None:
    """ "< 8x" is no loss: it may be 7x."""
    assert Reading(low, low, high, least=least, most=32 * least, above=0).side == side


def coverage(
    truth: float, sims: int = 120, b: float = 0.15, kind: str = "power", at_64: float = 0.7 * 64**-0.15, **world
) -> tuple[float, float]:
    """How often the interval holds the true multiplier, and the median of the estimates."""
    hits, values, seeds = 0, [], world.get("seeds", 5)
    for i in range(sims):
        a = at_64 * 64**b
        sample = simulate(np.random.default_rng(i), law(a, b), a * (AT * truth) ** -b, **world)
        found = read(sample, seeds, kind)
        above = truth > found.most if found.low == np.inf else found.low <= truth
        below = truth < found.least if found.high == 0 else truth <= found.high
        hits += above and below
        values.append(found.value)
    return hits / sims, float(np.median(values))


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [{}, {"shared": False, "problems": 100}, {"noise": 0.25}, {"seeds": 3}, {"seeds": 1, "noise": 0.0}],
    ids=["shared problems", "own problems", "noisy seeds", "three seeds", "one seed"],
)
def test_intervals_cover_the_true_multiplier(world: dict) -> None:
    share, middle = coverage(8.0, **world)
    assert share >= 0.90  # 0.95 less two standard deviations of 120 simulations
    assert 6.5 < middle < 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steep_curves_down_to_an_error_of_half_a_percent_are_covered(kind: str) -> None:
    """As at T=0: one answer a problem, an SFT error from 0.27 on 64 problems to 0.0055 on 8,192."""
    share, middle = coverage(3.0, sims=60, b=0.8, kind=kind, at_64=0.27, samples=1, problems=400)
    assert share >= 0.9 and 2.4 < middle < 3.6


@pytest.mark.slow
def test_the_fit_free_reading_covers_it_too() -> None:
    share, middle = coverage(8.0, sims=60, kind="isotonic")
    assert share >= 0.9 and 6 < middle < 11


@pytest.mark.slow
def test_a_multiplier_beyond_the_largest_size_is_no_number() -> None:
    share, middle = coverage(100.0, sims=60)
    assert middle == np.inf and share >= 0.9


@pytest.mark.slow
def test_beyond_the_largest_is_not_claimed_where_it_is_not_so() -> None:
    claims = sum(read(simulate(np.random.default_rng(i), law(0.7, 0.15), 0.7 * (AT * 20) ** -0.15), 5).low == np.inf
                 for i in range(60))  # fmt: skip
    assert claims <= 3


@pytest.mark.slow
def test_a_control_has_a_multiplier_of_about_one() -> None:
    share, middle = coverage(1.0, sims=60)
    assert share >= 0.9 and 0.7 < middle < 1.4
    found = [read(simulate(np.random.default_rng(i), law(0.7, 0.15), 0.7 * AT**-0.15), 5) for i in range(60)]
    assert sum(f.low > 1 for f in found) <= 4


def test_a_flat_curve_says_how_little_it_says() -> None:
    found = read(simulate(np.random.default_rng(1), np.full(8, 0.3), 0.3), 5)
    assert (found.low, found.high) == (0.0, np.inf)  # as good as SFT at any size: everything is possible
    assert read(simulate(np.random.default_rng(1), np.full(8, 0.3), 0.15), 5).low == np.inf  # clearly better than all


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_flat_curve_the_same_error_takes_the_smallest_size(kind: str) -> None:
    # Draws of two seeds end there, clipped.
    assert problems_needed(np.ones((1, 8)), [1.0], kind) == pytest.approx(SIZES[0])


def test_seeds_are_spread_like_students_t() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        low, high = seed_interval(rng.normal(size=5), draws=400)
        hits += low <= 0 <= high
    assert 0.91 <= hits / 400 <= 0.99  # a plain bootstrap of five has about 0.83
    weights = seed_weights(5, 100)
    assert weights.sum(axis=1) == pytest.approx(np.ones(100)) and (seed_weights(1, 3) == 1).all()
    assert all(math.isnan(x) for x in seed_interval([0.5]))


def test_pairing_narrows_a_difference() -> None:
    """The same hard problems and lucky seeds on both sides cancel out."""
    rng = np.random.default_rng(0)
    hard, luck = rng.random(200), 0.1 * rng.normal(size=5)
    keys = [(arm, 64, s) for arm in ("x", "y") for s in range(5)]
    rates = np.array([np.clip(hard + luck[s] + (0.02 if a == "y" else 0), 0, 1) for a, _, s in keys])
    sample = resample(keys, rates, 500)
    x, y = (sample.cell(a, 64, range(5)) for a in "xy")
    gap, low, high = difference(x, y)
    assert 0.01 < gap < 0.03 and high - low < 0.01
    assert np.subtract(*censored(x[1])[::-1]) > 0.1


def test_problems_may_be_seen_by_some_points_only() -> None:
    rates = np.array([[1.0, 0.0, np.nan, np.nan], [np.nan, np.nan, 1.0, 1.0]])
    sample = resample([("a", 1, 0), ("a", 1, 1)], rates, 200)
    assert sample.error.tolist() == [0.5, 0.0] and (sample.drawn[:, 1][sample.drawn[:, 1] < 1] == 0).all()


def test_beaten_up_to_and_costs() -> None:
    sample = simulate(np.random.default_rng(3), law(0.7, 0.15), 0.7 * (AT * 8) ** -0.15, noise=0.02)
    curve = curve_of(sample, range(5))
    cell = sample.cell("arm", AT, range(5))
    assert beaten_up_to(curve, *cell) in (512, 1024)
    assert beaten_up_to(curve, 0.9, np.full(300, 0.9)) is None
    ratio = cost_ratio(curve, SIZES / 10, *cell, cost=40.0)  # 8 x 256 problems at 0.1 s each, over 40 s
    assert ratio.value == pytest.approx(5.1, rel=0.4) and ratio.low < ratio.value < ratio.high
    assert ratio.most == pytest.approx(819.2 / 40)


def test_a_curve_needs_two_sizes_with_the_seeds() -> None:
    sample = simulate(np.random.default_rng(0), law(0.7, 0.15), 0.2, seeds=2)
    with pytest.raises(ValueError, match="two sizes"):
        curve_of(sample, [0, 7])
    assert len(curve_of(sample, [1]).sizes) == 8
