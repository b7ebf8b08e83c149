"""Counts in, estimates and intervals out.

The value of a prefix is the chance of a right answer from there: successes of n rollouts, with
Wilson's interval. The advantage of a step is the difference of two values, with Newcombe's hybrid
score interval (Newcombe 1998, Stat. Med. 17:873, method 10), which combines the two Wilson intervals.
With best-of-K values the policy tries K times from every prefix and a perfect judge picks the best: the
prover of Setlur et al. 2024 (arXiv:2406.14532, K = 5).
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from negrl.intervals import wilson
from negrl.records import CORRECT, INCORRECT

if TYPE_CHECKING:
    from negrl.records import Trace


VERIFIER_FAILED = ("timeout", "memory", "crashed", "unparsable", "gold_unparsable")
"""Verdict reasons that say nothing about the policy."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A probability in [0, 1] with its interval, from `successes` out of `n` (0 of 0 if it is exact)."""

    value: float
    low: float
    high: float
    n: int = 0
    successes: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two probabilities, in [-1, 1], with its interval."""

    value: float
    low: float
    high: float


@functools.lru_cache(maxsize=65536)
def estimate(successes: int, n: int, confidence: float, best_of: int = 1) -> Estimate | None:
    """The value from counts: the chance that the best of `best_of` rollouts is right. None if there are fewer counts
    than that, or none."""
    if n < max(best_of, 1):
        return None
    low, high = wilson(successes, n, confidence)
    if best_of == 1:
        return Estimate(successes / n, low, high, n, successes)
    value = best_of_counts(successes, n, best_of)
    # The unbiased estimate may lie outside the interval of the probability (1 success of 5, best of 5: 1.0).
    low, high = min(at_least_one(low, best_of), value), max(at_least_one(high, best_of), value)
    return Estimate(value, low, high, n, successes)


def best_of_counts(successes: int, n: int, best_of: int) -> float:
    """1 - C(n - successes, K) / C(n, K): the share of the K-subsets of n rollouts that contain a right one. Its mean
    over draws is exactly 1 - (1 - p)^K (Chen et al. 2021, arXiv:2107.03374, eq. 1, for pass@k). Using successes / n
    for p would underestimate it, by up to 0.10 for K = 5 and n = 8.

    Raises:
        ValueError: not 1 <= K <= n, or not 0 <= successes <= n.
    """
    if not 1 <= best_of <= n or not 0 <= successes <= n:
        raise ValueError(f"best of {best_of} from {successes} successes of {n} trials")
    return 1 - math.comb(n - successes, best_of) / math.comb(n, best_of)


def at_least_one(p: float, tries: int) -> float:
    """The chance that at least one of `tries` independent rollouts is right, if each is right with chance `p`."""
    return 1 - (1 - p) ** tries


def with_best_of(plain: Estimate, confidence: float, best_of: int) -> Estimate | None:
    """A plain value as a best-of-K value: from its counts (None if there are fewer than K), else from its formula (a
    known probability stays known)."""
    if best_of == 1:
        return plain
    if plain.n:
        return estimate(plain.successes, plain.n, confidence, best_of)
    value, low, high = (at_least_one(p, best_of) for p in (plain.value, plain.low, plain.high))
    return Estimate(value, low, high)


def exact(value: float) -> Estimate:
    """A value that is known, from the verdict of a finished trace or from an oracle. Its interval has no width."""
    return Estimate(value, value, value)


def verdict_value(verdict: str) -> Estimate:
    """The value of the last step of a finished trace: 1 for a right answer, 0 for a wrong one."""
    return exact({CORRECT: 1.0, INCORRECT: 0.0}[verdict])


@functools.lru_cache(maxsize=65536)
def difference(after: Estimate, before: Estimate) -> Difference:
    """`after - before` with Newcombe's interval, computed from the intervals of the two estimates."""
    d = after.value - before.value
    low = d - math.hypot(after.value - after.low, before.high - before.value)
    high = d + math.hypot(after.high - after.value, before.value - before.low)
    return Difference(d, low, high)


def prompt_values(traces: Iterable[Trace], confidence: float) -> dict[str, Estimate]:
    """V_0 of each problem, from its own sampled traces, which count like rollouts. A trace that is cut off or gives no
    answer is not successful; one that the verifier failed to judge is not counted. Problems without a counted trace
    are missing."""
    decided: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for trace in traces:
        decided[trace.problem_id] += trace.verdict is not None and trace.verdict_reason not in VERIFIER_FAILED
        right[trace.problem_id] += trace.verdict == CORRECT
    values = {p: estimate(right[p], n, confidence) for p, n in decided.items()}
    return {p: v for p, v in values.items() if v is not None}
