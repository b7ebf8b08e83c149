"""Counts in, estimates and intervals out.

The value of a prefix is the chance of a right answer from there: successes of n rollouts, with
Wilson's interval. The advantage of a step is the difference of two values, with Newcombe's hybrid
score interval (Newcombe 1998, Stat. Med. 17:873, method 10), which combines the two Wilson intervals.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from negrl.records import CORRECT, INCORRECT

if TYPE_CHECKING:
    from negrl.records import Trace


VERIFIER_FAILED = ("timeout", "unparsable", "gold_unparsable")
"""Verdict reasons that say nothing about the policy."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A chance in [0, 1] with its interval, out of `successes` of `n` (0 of 0 when it is exact)."""

    value: float
    low: float
    high: float
    n: int = 0
    successes: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two chances, in [-1, 1], with its interval."""

    value: float
    low: float
    high: float


@functools.cache
def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@functools.lru_cache(maxsize=65536)
def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a chance of which `successes` of `n` trials were seen.

    Raises:
        ValueError: not 0 <= successes <= n, or n is 0.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    p, z2 = successes / n, _z(confidence) ** 2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends the bound is p itself: rounding must not push it past.
    return (0.0 if successes == 0 else max(0.0, center - half)), (1.0 if successes == n else min(1.0, center + half))


def estimate(successes: int, n: int, confidence: float) -> Estimate | None:
    """The value from counts; None without any."""
    return Estimate(successes / n, *wilson(successes, n, confidence), n, successes) if n else None


def exact(value: float) -> Estimate:
    """A value that is known: the verdict of a finished trace, or an oracle's. Zero-width interval."""
    return Estimate(value, value, value)


def verdict_value(verdict: str) -> Estimate:
    """The value of the last step of a finished trace: 1 for a right answer, 0 for a wrong one."""
    return exact({CORRECT: 1.0, INCORRECT: 0.0}[verdict])


def difference(after: Estimate, before: Estimate) -> Difference:
    """`after - before` with Newcombe's interval, from the two estimates' own intervals."""
    d = after.value - before.value
    low = d - math.hypot(after.value - after.low, before.high - before.value)
    high = d + math.hypot(after.high - after.value, before.value - before.low)
    return Difference(d, low, high)


def prompt_values(traces: Iterable[Trace], confidence: float) -> dict[str, Estimate]:
    """V_0 of each problem: its own sampled traces count, as rollouts do. One that is cut off or gives no
    answer is not successful; one that the verifier failed to judge is not counted. Problems without
    a counted trace are missing."""
    decided: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for trace in traces:
        decided[trace.problem_id] += trace.verdict is not None and trace.verdict_reason not in VERIFIER_FAILED
        right[trace.problem_id] += trace.verdict == CORRECT
    values = {p: estimate(right[p], n, confidence) for p, n in decided.items()}
    return {p: v for p, v in values.items() if v is not None}
