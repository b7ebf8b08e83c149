"""The bootstrap of the benches: draws of problems and of seeds, and the intervals of what they give.

scipy.stats.bootstrap resamples one statistic at a time. Here one draw of the problems serves all arms, sizes, seeds
and labelers that share them, so that their differences and ratios are paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from negrl.intervals import percentiles

CONFIDENCE = 0.95
"""Of every interval of the benches."""


def resamples(items: int, draws: int, seed: int | Sequence[int]) -> np.ndarray:
    """How often each item is drawn, int64 [draws, items]: `items` draws with replacement."""
    return np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=draws)


def seed_weights(seeds: int, draws: int, seed: int = 0) -> np.ndarray:
    """Weights [draws, seeds] that sum to 1: draws of the seeds with replacement, their deviation from the mean
    scaled by sqrt(n / (n - 1)) sqrt((n - 1) / chi2_{n-1}), so that a weighted mean is spread like Student's t.
    One seed always weighs 1: it says nothing about others."""
    if seeds == 1:
        return np.ones((draws, 1))
    rng = np.random.default_rng([seed, 2, seeds])
    counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    scale = np.sqrt(seeds / rng.chisquare(seeds - 1, size=draws))[:, None]
    return 1 / seeds + scale * (counts - 1 / seeds)


def seed_interval(values: Sequence[float], draws: int = 2000) -> tuple[float, float]:
    """Interval of the mean of one number per seed; NaN, NaN for fewer than two."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return float("nan"), float("nan")
    return censored(seed_weights(len(found), draws) @ found)


def interval(drawn: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Percentile interval; draws that measured nothing (NaN) are left out."""
    found = np.asarray(drawn, dtype=np.float64)
    found = found[~np.isnan(found)]
    return percentiles(found, CONFIDENCE) if len(found) else (float("nan"), float("nan"))


def censored(drawn: np.ndarray) -> tuple[float, float]:
    """Percentile interval without interpolation: an end is infinite (censored) only when that quantile is."""
    tail = (1 - CONFIDENCE) / 2
    low = np.quantile(drawn, tail, method="lower")
    return float(low), float(np.quantile(drawn, 1 - tail, method="higher"))
