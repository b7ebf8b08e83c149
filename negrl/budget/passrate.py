"""What a round's own samples say of the policy that drew them: its pass rate on the training problems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from negrl.budget.allocation import Allocation
from negrl.intervals import z_score


@dataclass(frozen=True, slots=True)
class PassRate:
    """pass@1 on the training problems, with its standard error for these very problems."""

    mean: float
    error: float

    def rise_at_least(self, before: PassRate, confidence: float) -> float:
        """The one-sided lower bound of how much higher this is than `before`. Given the problems, the samples of two
        rounds err independently, so this is the comparison paired by problem."""
        both = math.hypot(self.error, before.error)
        return self.mean - before.mean - z_score(2 * confidence - 1) * both


def pass_rate(allocation: Allocation, drawn: Mapping[str, tuple[int, int]]) -> PassRate:
    """Solved, hopeless and other problems are strata, of which those asked are a random part: two-stage sampling
    (Cochran 1977, Sampling Techniques, eq. 11.24), strata weighted by their problems.

    Args:
        drawn: problem id -> (right samples, judged samples).
    """
    total, mean, variance = len(allocation.bands), 0.0, 0.0
    for band in sorted(set(allocation.bands.values())):
        problems = allocation.in_band(band)
        asked = [drawn[p] for p in problems if drawn.get(p, (0, 0))[1]]
        weight, m = len(problems) / total, len(asked)
        if not asked:  # never seen: anything is possible
            mean, variance = mean + weight / 2, variance + weight**2 / 12
            continue
        rates = [right / n for right, n in asked]
        center = math.fsum(rates) / m
        # Of one sample a problem there is no variance within; the pooled rate's is its upper bound.
        one = center * (1 - center)
        within = math.fsum(r * (1 - r) / (n - 1) if n > 1 else one for r, (_, n) in zip(rates, asked, strict=True))
        between = math.fsum((r - center) ** 2 for r in rates) / (m - 1) if m > 1 else one
        share = m / len(problems)
        mean += weight * center
        variance += weight**2 * ((1 - share) * between / m + share * within / m**2)
    return PassRate(mean, math.sqrt(variance))
