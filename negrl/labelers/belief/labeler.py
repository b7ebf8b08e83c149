"""The labeler `belief`: its package says how it works."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from negrl.intervals import z_score
from negrl.labelers.base import (
    Ask,
    Branch,
    Need,
    Outcome,
    Task,
    plain_differences,
)
from negrl.records import CORRECT, stable_seed
from negrl.steps.values import Difference, Estimate, verdict_value, with_best_of

Floats = NDArray[np.float64]

_FOLDS = 5
_RIDGE = 1.0  # traces' worth of pull to 0, on features of unit spread
_NEWTON_STEPS = 50
_FEW_PAIRS = 30


class BeliefLabeler:
    """Values without rollouts (so n = 0). Their interval says how far the true value may lie from the fitted one:
    z standard deviations of that distance, sqrt(rho V (1 - V)), cut to [0, 1]. rho is measured: two traces that
    share a prefix are two independent samples of its value, so the mean product of their residuals (verdict minus
    fitted value) is the mean squared distance. Later steps are seldom shared, so for them it is a guess from the
    earlier ones; with few such pairs nothing is known, and rho is 1.
    Advantages combine two such intervals as if they were independent: theirs are too wide rather than too narrow.
    """

    name = "belief"

    def __init__(self, confidence: float, best_of: int = 1, calibrated: bool = True):
        self.confidence, self.best_of, self.calibrated = confidence, best_of, calibrated
        self.needs: frozenset[Need] = frozenset({"beliefs", "branches"} if calibrated else {"beliefs"})

    def start(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)
        self._rows = [(t, i) for t, task in enumerate(tasks) if task.beliefs for i in range(len(task.steps) - 1)]
        self._first_row: dict[int, int] = {}
        for row, (t, _) in enumerate(self._rows):
            self._first_row.setdefault(t, row)
        self._fitted, self.rho = np.zeros(0), 1.0
        if self._rows and self.calibrated:
            self._calibrate()

    def _calibrate(self) -> None:
        """The fitted value of each (task, step), by a regression that saw nothing of its problem; and rho."""
        of = [self._tasks[t] for t, _ in self._rows]
        belief = np.array([(task.beliefs or [])[i + 1] for task, (_, i) in zip(of, self._rows, strict=True)])
        share = np.array([(i + 1) / len(task.steps) for task, (_, i) in zip(of, self._rows, strict=True)])
        right = np.array([task.verdict == CORRECT for task in of], float)
        weight = 1 / np.array([len(task.steps) - 1 for task in of], float)  # each trace counts once
        fold = np.array([stable_seed(task.problem.problem_id) % _FOLDS for task in of])
        others = np.array([_sum(task.samples) for task in of], float)
        through = np.array(
            [_sum(b for b in task.samples if b.left >= i) for task, (_, i) in zip(of, self._rows, strict=True)], float
        )

        fits: dict[int, Floats] = {}
        plain = _features(belief, share, _logit(others))
        mean, spread = plain.mean(axis=0), plain.std(axis=0) + 1e-9
        for k in set(fold.tolist()):
            rest = fold != k
            x, offset = (plain[rest] - mean) / spread, _logit(others)[rest]
            fits[k] = ridge_logistic(x, right[rest], offset, weight[rest], _RIDGE)
        w = np.stack([fits[k] for k in fold.tolist()])

        def fitted(known: Floats) -> Floats:
            """The values, when V_0 is that of `known` (n, successes)."""
            x = (_features(belief, share, _logit(known)) - mean) / spread
            return _sigmoid(_logit(known) + w[:, 0] + (x * w[:, 1:]).sum(axis=1))

        self._fitted = fitted(others)
        shared = through[:, 0] > 0
        if shared.sum() >= _FEW_PAIRS:
            # A value that was fitted with the help of the pair's other trace can't be held against it.
            n, successes = through.T
            without_right, without_wrong = fitted(others - [1, 1]), fitted(others - [1, 0])
            products = successes * (right - without_right) * (1 - without_right)
            products -= (n - successes) * (right - without_wrong) * without_wrong
            scale = self._fitted * (1 - self._fitted)
            self.rho = float(np.clip((products[shared] / n[shared]).sum() / scale[shared].sum(), 0, 1))

    def ask(self) -> list[Ask]:
        return []

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            raise ValueError("belief asked for nothing")

    def values(self, trace: int) -> list[Estimate | None]:
        """None all through for a task without beliefs. The last step's value is the verdict."""
        task = self._tasks[trace]
        if not task.beliefs:
            return [None] * len(task.steps)
        if not self.calibrated:
            return [*(self._believed(b) for b in task.beliefs[1:-1]), verdict_value(task.verdict)]
        at = self._first_row.get(trace, 0)
        fitted = (float(v) for v in self._fitted[at : at + len(task.steps) - 1])
        return [*(self._estimate(v) for v in fitted), verdict_value(task.verdict)]

    def _estimate(self, value: float) -> Estimate | None:
        half = z_score(self.confidence) * (self.rho * value * (1 - value)) ** 0.5
        plain = Estimate(value, max(0.0, value - half), min(1.0, value + half))
        return with_best_of(plain, self.confidence, self.best_of)

    def _believed(self, belief: float) -> Estimate | None:
        """A belief as a value. How far it is from the true one is not known, so its interval is [0, 1]."""
        return with_best_of(Estimate(math.exp(belief), 0.0, 1.0), self.confidence, self.best_of)

    def advantages(self, trace: int) -> list[Difference | None]:
        task = self._tasks[trace]
        if self.calibrated or not task.beliefs:
            v0 = with_best_of(task.v0, self.confidence, self.best_of)
        else:
            v0 = self._believed(task.beliefs[0])
        return plain_differences(self.values(trace), v0)


def ridge_logistic(features: Floats, right: Floats, offset: Floats, weight: Floats, ridge: float) -> Floats:
    """(intercept, w...) that maximise the weighted log likelihood of logit P(right) = offset + intercept +
    features @ w, minus ridge / 2 of their squares, by Newton's method.

    Args:
        features: (rows, features).
        right: 0 or 1, (rows,). offset, weight: (rows,).
    """
    x = np.column_stack([np.ones(len(features)), features])
    w = np.zeros(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(offset + x @ w)
        gradient = x.T @ (weight * (p - right)) + ridge * w
        curvature = (x.T * (weight * p * (1 - p))) @ x + ridge * np.eye(len(w))
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / (np.abs(step).max() + 1e-12))  # far from the top Newton's steps are too long
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return w


def _features(belief: Floats, share: Floats, logit_v0: Floats) -> Floats:
    """(rows, 7): log p, p and logit V_0; the share of the steps done; what each comes to mean with it."""
    each = np.stack([belief, np.exp(belief), logit_v0], axis=1)
    return np.column_stack([each, share, each * share[:, None]])


def _sum(samples: Iterable[Branch]) -> tuple[int, int]:
    """(n, successes)"""
    listed = list(samples)
    return sum(b.n for b in listed), sum(b.successes for b in listed)


def _logit(counts: Floats) -> Floats:
    """Of successes / n in (rows, 2), half a trace added to either side."""
    n, successes = counts.T
    return np.log((np.maximum(successes, 0) + 0.5) / (np.maximum(n - successes, 0) + 0.5))


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
