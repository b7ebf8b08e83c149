"""What the samples say of a trace's value path: a posterior over V_0 ... V_M, exact on a grid.

The value before a step is the mean over the steps that the policy might write there. One of them, with
chance p_i, is the step that the trace took, and leads to V_i; the others together lead to some U_i:

    V_(i-1) = p_i V_i + (1 - p_i) U_i,    so    A_i = V_i - V_(i-1) = (1 - p_i) (V_i - U_i).

p_i is known exactly: it is in the sampler's logprobs. So a step that was all but certain cannot have
changed the value, and that takes no rollout to know. Where p_i is not known it counts as 0: then V_(i-1) is
free, which is always right and says less.

The prior: mostly all ways to go on are worth the same (U_i = V_i); now and then they are not, and then U_i
comes from a histogram. How often, and the histogram, are learned from the traces at hand (EM). The end of the
path is known: V_M is the verdict. The evidence: a sample of the policy (a rollout, or another trace of the
problem) that follows the trace through step i - 1 and leaves it there came out right with chance U_i, from
whichever prefix it was started. So every sample counts once, where it says something, and shared prefixes share.

Read from its end, the path is a Markov chain on a grid of values, so forward-backward gives its posterior.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_GRID = 17
_P = np.array([0, 0.02, *(i / 20 for i in range(1, 20)), 0.97, 0.985, 0.995, 1], np.float32)
"""p is rounded to one of these for the tables; A is scaled with the exact p."""
_SURE = len(_P) - 1
_FLOOR = 1e-4  # a chance of exactly 0 or 1 would let one odd sample rule out a whole path
_JUMP, _JUMP_STEPS, _JUMP_WIDTH = 0.15, 1.0, 0.1  # the chance to begin with, worth so many steps; smoothed over p
_OTHER_STEPS, _OTHER_WIDTH = 5.0, 0.15  # the same for the histogram, smoothed over V
_CHUNK = 512  # paths whose (grid x grid) tables are in memory together


@dataclass(frozen=True)
class Paths:
    """What is known of n value paths of up to M steps. Shapes: values (n, M + 1), V_0 first; the rest (n, M).
    low, high: central intervals. Past a path's end: the verdict's value, and zeros."""

    value: Floats
    value_low: Floats
    value_high: Floats
    advantage: Floats
    advantage_low: Floats
    advantage_high: Floats
    advantage_sd: Floats
    hurts: Floats
    """Chance that A is below minus the dead zone."""
    helps: Floats
    """Chance that A is above the dead zone."""
    variance: Floats
    """(n, M): of V_(i-1), the value of the prefix before step i."""
    plain_value: Floats
    """(n, M): mean of V_(i-1) as the chance of one try, whatever `best_of`."""
    covariance: Floats | None
    """(n, M, M): of V_(i-1), first index, with A_j, second; None where it was not asked for."""


@dataclass(frozen=True)
class _Tables:
    grid: Floats
    mix: Floats
    """(p, V', U, V): where p V' + (1 - p) U falls, shared between the two nearest grid points."""
    change: Floats
    """(p, V' x U, bins): where A / (1 - p) / best_of falls in -1..1."""
    bins: Floats


@functools.cache
def _tables(best_of: int) -> _Tables:
    grid = np.linspace(0, 1, _GRID, dtype=np.float32)
    after, other = np.meshgrid(grid, grid, indexing="ij")
    bins = np.linspace(-1, 1, 2 * (_GRID - 1) * min(best_of, 4) + 1, dtype=np.float32)
    mix = np.zeros((len(_P), _GRID, _GRID, _GRID), np.float32)
    change = np.zeros((len(_P), _GRID * _GRID, len(bins)), np.float32)
    for k, p in enumerate(_P):
        before = np.clip(p * after + (1 - p) * other, 0, 1)
        _spread(mix[k], before * (_GRID - 1))
        if k != _SURE:
            scaled = (_best(after, best_of) - _best(before, best_of)) / (1 - p) / best_of
            _spread(change[k].reshape(_GRID, _GRID, -1), (np.clip(scaled, -1, 1) + 1) / 2 * (len(bins) - 1))
    change[_SURE, :, len(bins) // 2] = 1
    return _Tables(grid, mix, change, bins)


def _spread(table: Floats, at: Floats) -> None:
    """Share 1 between the two indices of the last axis that `at` lies between: the mean is kept."""
    low = np.minimum(at.astype(int), table.shape[-1] - 2)
    i, j = np.indices(low.shape)
    table[i, j, low] += 1 - (at - low)
    table[i, j, low + 1] += at - low


def _best(chance: Floats, best_of: int) -> Floats:
    return 1 - (1 - chance) ** best_of


class PathPosterior:
    """Evidence in, posteriors out. `successes`, `failures`: (n, M), of the samples that left path n before
    step i, counted by `add`."""

    def __init__(self, p: Floats, steps: Ints, right: NDArray[np.bool_], weight: Floats, best_of: int = 1):
        """
        Args:
            p: (n, M), the chance of each step after those before it; 0 where unknown.
            steps: (n,), how many steps each path has; the columns beyond are ignored.
            right: (n,), the verdicts.
            weight: (n,), how many traces went this way: what EM counts.
            best_of: A and the values are those of the best of so many tries.
        """
        self.steps, self.right, self.weight, self.best_of = steps, right, weight, best_of
        self.set_chances(p)
        self.successes = np.zeros_like(self.p)
        self.failures = np.zeros_like(self.p)
        self.hints: Floats | None = None
        """(n, M + 1, 2): what else is thought of V_0 ... V_M, as so many successes and failures seen there."""
        self._tables = _tables(best_of)
        self._jump = np.full(len(_P), _JUMP, np.float32)
        flat = np.ones((_GRID, _GRID), np.float32)
        flat[:, [0, -1]] = 2  # values at the very ends are common: a slip that can't be mended, a trivial rest
        self._first_other = self._other = flat / flat.sum(1, keepdims=True)

    def set_chances(self, p: Floats, low: Floats | None = None, high: Floats | None = None) -> None:
        """p, as in the constructor. Where it is only estimated, `low` and `high` are its interval: A = (1 - p) (V - U)
        is then that much less certain."""
        inside = np.arange(p.shape[1]) < self.steps[:, None]
        self.p = np.where(inside, np.clip(p, 0, 1), 1).astype(np.float32)
        self.p_low = self.p if low is None else np.where(inside, np.clip(low, 0, 1), 1).astype(np.float32)
        self.p_high = self.p if high is None else np.where(inside, np.clip(high, 0, 1), 1).astype(np.float32)
        self._bucket = np.abs(self.p[..., None] - _P[:_SURE]).argmin(-1)
        self._bucket[self.p == 1] = _SURE

    def add(self, path: int, left: int, n: float, successes: float) -> None:
        """`n` samples that follow the path through step `left` (-1: not even the first) and then leave it.
        Those that never leave it say nothing that the verdict has not said."""
        if left + 1 < self.steps[path]:
            self.successes[path, left + 1] += successes
            self.failures[path, left + 1] += n - successes

    def learn(self, iterations: int = 1) -> None:
        """Fit the prior to the evidence: EM on how often steps matter, by p, and on what the others are worth."""
        inside = np.eye(_GRID, dtype=bool)
        near_p = np.exp(-0.5 * ((_P[:, None] - _P) / _JUMP_WIDTH) ** 2)
        grid = self._tables.grid
        near_value = np.exp(-0.5 * ((grid[:, None] - grid) / _OTHER_WIDTH) ** 2)
        for _ in range(iterations):
            seen = np.zeros((len(_P), _GRID, _GRID), np.float32)
            for rows in self._chunks(np.arange(len(self.steps))):
                for bucket, _, chosen, joint in _Pass(self, rows).joints():
                    seen[bucket] += np.tensordot(self.weight[rows[chosen]], joint, 1)
            jumped = seen.copy()
            chance = self._jump[:, None] * np.diag(self._other)
            jumped[:, inside] *= chance / (1 - self._jump[:, None] + chance)
            total, jumps = near_p @ seen.sum((1, 2)), near_p @ jumped.sum((1, 2))
            self._jump = ((jumps + _JUMP_STEPS * _JUMP) / (total + _JUMP_STEPS)).astype(np.float32)
            other = near_value @ jumped.sum(0) + _OTHER_STEPS * self._first_other
            self._other = (other / other.sum(1, keepdims=True)).astype(np.float32)

    def paths(self, rows: Ints, confidence: float, dead_zone: float, covariance: bool = False) -> Paths:
        """The posteriors of some paths, with intervals at `confidence`."""
        parts = [_Pass(self, part).paths(confidence, dead_zone, covariance) for part in self._chunks(rows)]
        joined: dict[str, Any] = {}
        for name in Paths.__dataclass_fields__:
            found = [getattr(part, name) for part in parts]
            joined[name] = None if found[0] is None else np.concatenate(found)
        return Paths(**joined)

    def _chunks(self, rows: Ints) -> Iterator[Ints]:
        for at in range(0, len(rows), _CHUNK):
            yield rows[at : at + _CHUNK]


class _Pass:
    """Forward and backward over some paths. Messages are (n, grid); message i is about V_i."""

    def __init__(self, posterior: PathPosterior, rows: Ints):
        self.of, self.rows, self.tables = posterior, rows, posterior._tables
        self.n, self.m = len(rows), posterior.p.shape[1]
        jump = posterior._jump[:, None, None]
        self.prior = (1 - jump) * np.eye(_GRID, dtype=np.float32) + jump * posterior._other
        bucket = posterior._bucket[rows]
        self.groups = [[(k, np.flatnonzero(bucket[:, i] == k)) for k in np.unique(bucket[:, i])] for i in range(self.m)]
        u = np.clip(self.tables.grid, _FLOOR, 1 - _FLOOR)
        log = posterior.successes[rows][..., None] * np.log(u) + posterior.failures[rows][..., None] * np.log1p(-u)
        self.evidence = np.exp(log - log.max(-1, keepdims=True))  # (n, M, U)
        self.hint = np.ones((self.m + 1, 1, 1), np.float32)
        if posterior.hints is not None:
            seen = posterior.hints[rows].transpose(1, 0, 2)
            log = seen[..., :1] * np.log(u) + seen[..., 1:] * np.log1p(-u)
            self.hint = np.exp(log - log.max(-1, keepdims=True))
        self._backward()
        self._forward()

    def _weights(self, k: int, chosen: Ints, i: int) -> Floats:
        """(chosen, V', U): prior times evidence."""
        return self.prior[k] * self.evidence[chosen, i][:, None, :]

    def _backward(self) -> None:
        self.later = np.zeros((self.m + 1, self.n, _GRID), np.float32)
        self.later[self.m, np.arange(self.n), np.where(self.of.right[self.rows], _GRID - 1, 0)] = 1
        for i in reversed(range(self.m)):
            for k, chosen in self.groups[i]:
                after = self.later[i + 1, chosen]
                if k != _SURE:
                    joint = after[:, :, None] * self._weights(k, chosen, i)
                    after = joint.reshape(len(chosen), -1) @ self.tables.mix[k].reshape(-1, _GRID)
                self.later[i, chosen] = after / after.sum(1, keepdims=True)
            self.later[i] *= self.hint[i]
            self.later[i] /= self.later[i].sum(1, keepdims=True)

    def _forward(self) -> None:
        self.earlier = np.ones((self.m + 1, self.n, _GRID), np.float32)  # without what is hinted of V_i itself
        self._joints: list[tuple[int, int, Ints, Floats]] = []
        for i in range(self.m):
            for k, chosen in self.groups[i]:
                before = (self.earlier[i] * self.hint[i])[chosen]
                if k == _SURE:
                    self.earlier[i + 1, chosen] = before
                    continue
                joint = (before @ self.tables.mix[k].reshape(-1, _GRID).T).reshape(-1, _GRID, _GRID)
                joint *= self._weights(k, chosen, i)
                after = joint.sum(2)
                self.earlier[i + 1, chosen] = after / after.sum(1, keepdims=True)
                joint *= self.later[i + 1, chosen][:, :, None]
                self._joints.append((k, i, chosen, joint / joint.sum((1, 2), keepdims=True)))

    def joints(self) -> list[tuple[int, int, Ints, Floats]]:
        """(bucket of p, step, paths, P(V', U | all evidence)) of every step that was not certain."""
        return self._joints

    def paths(self, confidence: float, dead_zone: float, covariance: bool) -> Paths:
        tables, best_of, rows = self.tables, self.of.best_of, self.rows
        belief = self.earlier * self.later
        belief = (belief / belief.sum(2, keepdims=True)).transpose(1, 0, 2)  # (n, M + 1, V)
        change = np.zeros((self.n, self.m, len(tables.bins)), np.float32)
        change[..., len(tables.bins) // 2] = 1
        for k, i, chosen, joint in self._joints:
            change[chosen, i] = joint.reshape(len(chosen), -1) @ tables.change[k]
        scale = (1 - self.of.p[rows]) * best_of
        mean = change @ tables.bins
        spread = np.sqrt(np.maximum(change @ tables.bins**2 - mean**2, 0))
        tails = ((1 - confidence) / 2, (1 + confidence) / 2)
        least, most = ((1 - bound[rows]) * best_of for bound in (self.of.p_high, self.of.p_low))
        zone = (dead_zone / np.maximum(most, 1e-9))[..., None]
        change_low, change_high = (_quantile(change, tables.bins, level) for level in tails)
        plain = belief @ tables.grid
        low, high = (_best(_quantile(belief, tables.grid, level), best_of) for level in tails)
        ended = np.arange(self.m + 1) >= self.of.steps[rows][:, None]
        value = np.where(ended, plain, belief @ _best(tables.grid, best_of))
        return Paths(
            value=value,
            value_low=np.where(ended, plain, low),
            value_high=np.where(ended, plain, high),
            advantage=mean * scale,
            advantage_low=change_low * np.where(change_low < 0, most, least),
            advantage_high=change_high * np.where(change_high > 0, most, least),
            advantage_sd=spread * most,
            hurts=(change * (tables.bins < -zone)).sum(-1),
            helps=(change * (tables.bins > zone)).sum(-1),
            variance=np.maximum(belief @ tables.grid**2 - plain**2, 0)[:, :-1],
            plain_value=plain[:, :-1],
            covariance=self._covariance(belief, plain) if covariance else None,
        )

    def _covariance(self, belief: Floats, plain: Floats) -> Floats:
        """Of every V_(i-1) with every A_j, from E[V_i V_j] = E[V_j E[V_i | V_j]]."""
        back = np.zeros((self.m, self.n, _GRID, _GRID), np.float32)  # P(V_(i-1) | V_i, evidence)
        back[:] = np.eye(_GRID, dtype=np.float32)
        for k, i, chosen, _ in self._joints:
            weights = self._weights(k, chosen, i).transpose(1, 0, 2)
            table = (
                np.matmul(weights, self.tables.mix[k]).transpose(1, 0, 2)
                * (self.earlier[i] * self.hint[i])[chosen][:, None, :]
            )
            back[i, chosen] = table / np.maximum(table.sum(2, keepdims=True), 1e-30)
        grid, m = self.tables.grid, self.m
        product = np.zeros((self.n, m + 1, m + 1), np.float32)
        expected = np.zeros((self.n, _GRID, 0), np.float32)  # E[V_i | V_j] of all i < j
        for j in range(m + 1):
            if j:
                expected = np.matmul(back[j - 1], expected)
            expected = np.concatenate([expected, np.broadcast_to(grid[:, None], (self.n, _GRID, 1))], 2)
            product[:, j, : j + 1] = ((belief[:, j] * grid)[:, None, :] @ expected)[:, 0]
            product[:, : j + 1, j] = product[:, j, : j + 1]
        values = product - plain[:, :, None] * plain[:, None, :]
        return values[:, :-1, 1:] - values[:, :-1, :-1]


def _quantile(mass: Floats, points: Floats, level: float) -> Floats:
    """Of distributions on `points`, each point's mass spread evenly over its cell. mass: (..., points)."""
    edges = np.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])
    below = np.cumsum(mass, -1)
    below = np.concatenate([np.zeros_like(below[..., :1]), below / below[..., -1:]], -1)
    cell = np.clip((below <= level).sum(-1) - 1, 0, len(points) - 1)
    start, end = (np.take_along_axis(below, (cell + d)[..., None], -1)[..., 0] for d in (0, 1))
    share = np.clip((level - start) / np.maximum(end - start, 1e-12), 0, 1)
    return edges[cell] + share * (edges[cell + 1] - edges[cell])
