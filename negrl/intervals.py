"""Intervals of counted shares, and of what a bootstrap drew."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@functools.cache
def z_score(confidence: float) -> float:
    """How many standard deviations a two-sided interval at `confidence` (in (0, 1)) reaches."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@functools.lru_cache(maxsize=65536)
def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a chance of which `successes` of `n` trials were seen.

    Raises:
        ValueError: not 0 <= successes <= n, or n is 0.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    p, z2 = successes / n, z_score(confidence) ** 2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends the bound is p itself: rounding must not push it past.
    return (0.0 if successes == 0 else max(0.0, center - half)), (1.0 if successes == n else min(1.0, center + half))


def percentiles(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    """The interval of bootstrap draws [...] that leaves out as many below as above."""
    import numpy as np  # here, because the start-up path reads this file

    tail = 50 * (1 - confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
