"""`label.merge: facts`: samples that share a trace's facts, but not its words, as evidence about its steps.

By tokens, a sample follows a trace up to where its words differ. By facts it may go on: it has worked out the same
later on, in other words or in another order (`Branch.met`). If the state were all that counts, its verdict would be
evidence about the alternatives to the step after the last state that the two share, and every such sample one more
that took the same step: the chance p of a step would be that of all its wordings together, q >= p.

The state is not all that counts, so a sample is taken for a follower by facts with the chance d, and for one that left
where its words did with 1 - d; what it says is shared out accordingly. d, the discount, is learned: it is the one that
best predicts the verdict of each trace at each of its places from the other samples (`learn_discount`). With d = 0
this is `merge: tokens`, and a sample with equal tokens counts in full whatever d is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from negrl.intervals import z_score
from negrl.labelers.adaptive.posterior import Floats, PathPosterior
from negrl.labelers.base import Branch, Task
from negrl.records import CORRECT

_DISCOUNTS = np.linspace(0, 1, 21)
_WEIGHTS_OF_V0 = 2.0 ** np.arange(-2, 6)  # V_0 counts like so many samples from the place
_SHARED = 1.0
"""How often other words mean the same step is taken from all steps together, as so many samples of this one."""


def learn_discount(tasks: Sequence[Task]) -> float:
    """The chance that a sample in the same state is one from the same prefix, by maximum marginal likelihood.

    What is to be predicted is each trace's verdict at each of its places, each trace counting once. A prefix's value is
    Beta distributed around V_0 (of the other samples) with a weight that is fitted, too. Samples with the same tokens
    count in full, others in the same state as d of a sample. 0 where there are no others.
    """
    rows: list[tuple[float, ...]] = []  # right, weight, V_0, then (n, successes) by tokens and by facts alone
    for task in tasks:
        n, successes = _total(task.samples)
        places = len(task.steps) - 1
        for i in range(places):
            same = _total([b for b in task.samples if b.left >= i])
            other = _total([b for b in task.samples if b.left < i <= b.met])
            if other[0]:
                v0 = (successes + 0.5) / (n + 1)
                rows.append((task.verdict == CORRECT, 1 / places, v0, *same, *other))
    if not rows:
        return 0.0
    right, weight, v0, n, successes, n_other, successes_other = np.array(rows, float).T
    best = (-np.inf, 0.0)
    for d in _DISCOUNTS:
        for a in _WEIGHTS_OF_V0:
            chance = (a * v0 + successes + d * successes_other) / (a + n + d * n_other)
            likelihood = float((weight * np.log(np.where(right > 0, chance, 1 - chance))).sum())
            if likelihood > best[0] + 1e-9:
                best = (likelihood, float(d))
    return best[1]


class Followers:
    """Shares out samples along paths, and says how likely the steps are, whatever their words."""

    def __init__(
        self, posterior: PathPosterior, p: Floats, known: NDArray[np.bool_], discount: float, confidence: float
    ):
        """
        Args:
            p: (n, M), the chances of the steps as they are worded.
            known: (n,), False for a path of which p is not known.
            discount: by `learn_discount`.
            confidence: of the intervals on q.
        """
        self.posterior, self.p, self.known, self.discount = posterior, p, known, discount
        self.confidence = confidence
        self.seen, self.same = np.zeros_like(p), np.zeros_like(p)
        """Samples at the place before a step that did not write it in these words; those that then met the path."""

    def add(self, path: int, branch: Branch, begin: int = -1) -> None:
        """Samples that were started after step `begin` of a path."""
        left, far, n = branch.left, branch.followed, branch.n
        steps = int(self.posterior.steps[path])
        for i in range(begin + 1, min(far + 2, steps)):
            if i <= left:
                if not self.known[path]:
                    self.seen[path, i] += n
                    self.same[path, i] += n
                continue
            self.seen[path, i] += n if i == left + 1 else self.discount * n
            if i <= far:
                self.same[path, i] += self.discount * n
        share = self.discount if far > left else 0.0
        if share < 1:
            self.posterior.add(path, left, (1 - share) * n, (1 - share) * branch.successes)
        if share > 0:
            self.posterior.add(path, far, share * n, share * branch.successes)

    def update(self) -> None:
        """Tell the posterior q, as far as it is known by now, with a Wilson interval on it. What all steps have in
        common counts as `_SHARED` samples of each."""
        same, seen = np.zeros_like(self.p), np.zeros_like(self.p)
        for rows in (self.known, ~self.known):
            total = self.seen[rows].sum()
            usual = self.same[rows].sum() / total if total else 0.0
            same[rows], seen[rows] = self.same[rows] + _SHARED * usual, self.seen[rows] + _SHARED
        share = same / seen
        if not share.any():  # nobody means the same in other words: p is exact
            return self.posterior.set_chances(self.p)
        z2 = z_score(self.confidence) ** 2
        middle = (same + z2 / 2) / (seen + z2)
        half = np.sqrt(z2 * (share * (1 - share) * seen + z2 / 4)) / (seen + z2)
        q, low, high = (self.p + (1 - self.p) * part for part in (share, middle - half, middle + half))
        self.posterior.set_chances(q, low, high)


def _total(samples: Sequence[Branch]) -> tuple[int, int]:
    return sum(b.n for b in samples), sum(b.successes for b in samples)
