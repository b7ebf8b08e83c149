"""Which problems a round's samples go to.

What is believed of a problem's pass rate is a Beta posterior: the counts of the arm's own rounds, older ones discounted
because the policy has moved, on Jeffreys' prior. Problems whose expected pass rate lies in the band get nearly all
samples. Of those above it (solved) and below it (hopeless), a random quarter gets one sample each: so the pass rate of
the policy on all problems can be estimated without bias, and a problem that changed sides is found.

Within the band samples are spread as Neyman's allocation does, in proportion to the standard deviation sqrt(p (1 - p))
of one sample: at a given number of samples, this makes the variance of the mean over problems smallest, and groups
mixed. In whole numbers the optimum is reached by giving sample after sample to the problem of the highest priority
s / sqrt(n (n + 1)) (Wright 2012, The American Statistician 66(4):217).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from negrl.records import stable_id

Band = Literal["band", "solved", "hopeless"]

GROUP = 2
"""Samples of a problem in the band at least: fewer can't be compared."""
PER_PROBLEM = 4
"""Samples of a problem in the band on average, or more."""
DISCOUNT = 0.7
"""What a round's counts are worth one round later."""
_PRIOR = 0.5  # Jeffreys: of each, right and wrong
_LOW, _HIGH = 0.15, 0.85  # the band; four samples that agree leave it, two or three do not
_PROBED = 0.25  # the share of the solved and hopeless problems that a round asks
_MOST = 16  # samples of a problem in the band, on average: what is more goes to solved and hopeless ones


@dataclass(frozen=True, slots=True)
class Belief:
    """A Beta posterior of a pass rate, from discounted counts."""

    right: float = 0.0
    wrong: float = 0.0

    @property
    def mean(self) -> float:
        return (self.right + _PRIOR) / (self.right + self.wrong + 2 * _PRIOR)

    @property
    def spread(self) -> float:
        """E sqrt(p (1 - p)): B(a + 1/2, b + 1/2) / B(a, b)."""
        a, b = self.right + _PRIOR, self.wrong + _PRIOR
        return math.exp(math.lgamma(a + 0.5) - math.lgamma(a) + math.lgamma(b + 0.5) - math.lgamma(b)) / (a + b)

    @property
    def band(self) -> Band:
        return "solved" if self.mean > _HIGH else "hopeless" if self.mean < _LOW else "band"


@dataclass(frozen=True, slots=True)
class Allocation:
    """A round's samples. `counts`: problem id -> samples, of those that get any. `bands`: of all problems."""

    counts: dict[str, int]
    bands: dict[str, Band]

    def in_band(self, band: Band) -> list[str]:
        return [problem for problem, its in self.bands.items() if its == band]


def believe(problems: Sequence[str], history: Sequence[Mapping[str, tuple[int, int]]]) -> dict[str, Belief]:
    """What is believed of each problem.

    Args:
        history: of each round, the oldest first: problem id -> (right samples, judged samples).
    """
    found = {}
    for problem in problems:
        right = wrong = 0.0
        for counts in history:
            good, judged = counts.get(problem, (0, 0))
            right, wrong = DISCOUNT * right + good, DISCOUNT * wrong + judged - good
        found[problem] = Belief(right, wrong)
    return found


def allocate(samples: int, beliefs: Mapping[str, Belief], *key: object) -> Allocation:
    """`samples` of them, no more and no fewer.

    Where they are too few for `PER_PROBLEM` of every problem in the band, problems are drawn at random.

    Args:
        key: what the random choices depend on: a seed, the round. The order of `beliefs` plays no part.
    """
    order = sorted(beliefs, key=lambda problem: stable_id("allocate", *key, problem))
    bands = {problem: beliefs[problem].band for problem in order}
    band = [problem for problem in order if bands[problem] == "band"]
    over = samples - _MOST * len(band)  # more than the band can use
    share = max(_PROBED, over / max(1, len(order) - len(band)))
    probes: list[str] = []
    for side in ("solved", "hopeless"):
        outside = [problem for problem in order if bands[problem] == side]
        probes += outside[: math.ceil(len(outside) * min(1, share))]
    if over <= 0:
        probes = probes[: samples // 4]
    groups = band[: max(1, (samples - len(probes)) // PER_PROBLEM)]
    least = {**dict.fromkeys(groups, GROUP), **dict.fromkeys(probes, 1)}
    if over > 0:
        return Allocation(_spread(samples, [*groups, *probes], beliefs, least), bands)
    counts = _spread(samples - len(probes), groups, beliefs, least)
    return Allocation({**counts, **dict.fromkeys(probes, 1)}, bands)


def _spread(
    samples: int, problems: Sequence[str], beliefs: Mapping[str, Belief], least: Mapping[str, int]
) -> dict[str, int]:
    """Neyman's allocation among `problems`, of each `least` at least (as far as there are samples)."""
    counts = {problem: least.get(problem, 0) for problem in problems}
    over = max(0, sum(counts.values()) - samples)
    for problem in reversed(problems):  # there are fewer samples than `least` wants
        taken = min(counts[problem], over)
        counts[problem], over = counts[problem] - taken, over - taken
    # n + 1/2 in place of sqrt(n (n + 1)) for n = 0, where every problem's priority would be infinite.
    heap = [(-beliefs[p].spread / (math.sqrt(n * (n + 1)) or 0.5), i) for i, (p, n) in enumerate(counts.items())]
    heapq.heapify(heap)
    for _ in range(samples - sum(counts.values())):
        _, i = heap[0]
        problem = problems[i]
        counts[problem] += 1
        n = counts[problem]
        heapq.heapreplace(heap, (-beliefs[problem].spread / math.sqrt(n * (n + 1)), i))
    return {problem: n for problem, n in counts.items() if n}
