"""How many times more problems does SFT need for the same error? The statistics of the sample-efficiency bench.

Errors are 1 - pass@1. Uncertainty has two sources, drawn again on their own and added: the evaluation problems
(bootstrap; one draw serves all seeds, arms and sizes that share them) and the seeds (bootstrap of their measured
errors; the same draw for SFT and the arm). A plain bootstrap of a handful of seeds is too narrow, so the seeds'
deviations are widened to those of Student's t with seeds - 1 degrees of freedom. The samples' own noise is in both
parts: intervals err on the wide side.

A multiplier is read off the SFT curve between its smallest and its largest size and nowhere else: an error that
the curve does not reach reads as infinity ("> largest / N"), one that its smallest size undercuts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from negrl.bench.stats import censored, resamples, seed_weights

LEAST = 1e-4
"""Errors are clipped to [LEAST, 1]: logarithms are taken of them."""
KINDS = ("power", "floor", "isotonic")
"""How the SFT curve is read: a N^-b; a N^-b + c; straight lines between the measured sizes, made monotone."""
_FLOORS = 40


@dataclass(frozen=True)
class Sample:
    """The points' errors, as measured and drawn again.

    keys: (arm, size, seed) of each point. error: float64 [points]. drawn: float64 [draws, points], over problems.
    """

    keys: list[tuple[str, int, int]]
    error: np.ndarray
    drawn: np.ndarray
    random_seed: int = 0

    def seeds(self, arm: str, size: int) -> list[int]:
        return sorted(seed for a, n, seed in self.keys if (a, n) == (arm, size))

    def cell(self, arm: str, size: int, seeds: Sequence[int]) -> tuple[float, np.ndarray]:
        """Mean error over `seeds`, and its draws over problems and seeds [draws].

        Cells asked for with the same seeds have the same draws of problems and of seeds: they are paired.

        Raises:
            KeyError: a seed that this cell lacks.
        """
        at = {key: i for i, key in enumerate(self.keys)}
        columns = [at[arm, size, seed] for seed in seeds]
        measured = self.error[columns]
        weights = seed_weights(len(columns), len(self.drawn), self.random_seed)
        drawn = self.drawn[:, columns].mean(axis=1) + (weights - 1 / len(columns)) @ measured
        return float(measured.mean()), np.clip(drawn, LEAST, 1.0)


def resample(keys: Sequence[tuple[str, int, int]], rates: np.ndarray, draws: int = 2000, seed: int = 0) -> Sample:
    """Draw the evaluation problems again.

    Args:
        keys: (arm, size, seed) of each point.
        rates: float64 [points, problems], a point's share of right samples; NaN where it did not see the problem.
        draws: bootstrap resamples.
    """
    seen = ~np.isnan(rates)
    right = np.where(seen, rates, 0.0)
    counts = resamples(rates.shape[1], draws, [seed, 1]).astype(np.float64)
    drawn = 1 - (counts @ right.T) / np.maximum(counts @ seen.T.astype(np.float64), 1.0)
    return Sample(list(keys), 1 - right.sum(axis=1) / seen.sum(axis=1), drawn, seed)


@dataclass(frozen=True)
class Fit:
    """err(N) = a N^-b + c with b >= 0, one of each [...]: more problems are never taken to hurt SFT."""

    log_a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def at(self, size: np.ndarray | float) -> np.ndarray:
        """The error at `size`, broadcast against [..., 1] for an array of sizes."""
        n = np.log(np.asarray(size, dtype=np.float64))
        if n.ndim:
            return np.exp(self.log_a[..., None] - self.b[..., None] * n) + self.c[..., None]
        return np.exp(self.log_a - self.b * n) + self.c


def fit_curve(sizes: Sequence[int], errors: np.ndarray, deviation: np.ndarray, floor: bool = False) -> Fit:
    """Weighted least squares of log(err - c) on log N, for every row of errors.

    The floor c is the one of a grid from 0 to just below the smallest error that leaves the least
    chi-square. A curve that does not fall gets b = 0.

    Args:
        sizes: problems, [sizes].
        errors: float64 [..., sizes].
        deviation: standard deviation of each size's error, [sizes].
    """
    errors = np.clip(errors, LEAST, 1.0)
    least = errors.min(axis=-1, keepdims=True)
    shares = np.linspace(0, 0.95, _FLOORS) if floor else np.zeros(1)
    x = np.log(np.asarray(sizes, dtype=np.float64))
    spread = np.maximum(deviation, LEAST)
    best: tuple[np.ndarray, ...] | None = None
    for share in shares:
        c = share * least
        y = np.log(errors - c)
        weight = ((errors - c) / spread) ** 2  # of a logarithm: deviation / value
        weight = weight / weight.sum(axis=-1, keepdims=True)
        x_mean, y_mean = (weight * x).sum(axis=-1), (weight * y).sum(axis=-1)
        dx = x - x_mean[..., None]
        slope = (weight * dx * y).sum(axis=-1) / (weight * dx**2).sum(axis=-1)
        b = np.maximum(-slope, 0.0)
        log_a = y_mean + b * x_mean
        fitted = np.exp(log_a[..., None] - b[..., None] * x) + c
        chi2 = (((errors - fitted) / spread) ** 2).sum(axis=-1)
        found = (chi2, log_a, b, np.broadcast_to(c[..., 0], b.shape))
        best = (
            found if best is None else tuple(np.where(chi2 < best[0], n, o) for n, o in zip(found, best, strict=True))
        )
    assert best is not None
    return Fit(*best[1:])


def isotonic(errors: np.ndarray) -> np.ndarray:
    """The non-increasing sequence closest to errors [..., sizes], by the max-min formula (Robertson et al. 1988)."""
    sizes = errors.shape[-1]
    total = np.concatenate([np.zeros((*errors.shape[:-1], 1)), np.cumsum(errors, axis=-1)], axis=-1)

    def mean(j: int, k: int) -> np.ndarray:
        return (total[..., k + 1] - total[..., j]) / (k + 1 - j)

    out = [
        np.min([np.max([mean(j, k) for k in range(i, sizes)], axis=0) for j in range(i + 1)], axis=0)
        for i in range(sizes)
    ]
    return np.stack(out, axis=-1)


def shape_of(sizes: Sequence[int], curve: np.ndarray, deviation: np.ndarray, kind: str) -> Fit | np.ndarray:
    """SFT's curve [..., sizes] in the form that `needed` reads: a fit, or log errors that never rise."""
    if kind == "isotonic":
        return np.log(isotonic(np.clip(curve, LEAST, 1.0)))
    return fit_curve(sizes, curve, deviation, floor=kind == "floor")


def needed(sizes: Sequence[int], shape: Fit | np.ndarray, error: np.ndarray) -> np.ndarray:
    """The problems that SFT needs to get down to `error` [...], read off the shape of its curve [..., sizes].

    Returns:
        Problems [...]; infinity where the curve is still above the error at its largest size, 0 where it is below
        it at its smallest already.
    """
    if isinstance(shape, np.ndarray):
        return _between(np.log(np.asarray(sizes, dtype=np.float64)), shape, error)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        inside = np.exp((shape.log_a - np.log(np.maximum(error - shape.c, 1e-12))) / shape.b)
    # On a flat curve, exactly at the error, the smallest size will do (0 / 0 above).
    inside = np.clip(np.where(np.isnan(inside), sizes[0], inside), sizes[0], sizes[-1])
    return np.where(error > shape.at(sizes[0]), 0.0, np.where(error < shape.at(sizes[-1]), np.inf, inside))


def _between(x: np.ndarray, y: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Where the falling lines through (x, y [..., sizes]) first reach log error [...]."""
    goal = np.log(np.clip(error, LEAST, 1.0))
    y = np.broadcast_to(y, (*goal.shape, y.shape[-1]))
    reached = y <= goal[..., None]
    first = np.argmax(reached, axis=-1)
    last = np.maximum(first - 1, 0)  # the size before
    after, before = (np.take_along_axis(y, at[..., None], -1)[..., 0] for at in (first, last))
    share = (before - goal) / np.where(before > after, before - after, 1.0)
    inside = np.where(first == 0, np.exp(x[0]), np.exp(x[last] + share * (x[first] - x[last])))
    below = (first == 0) & (y[..., 0] < goal)
    return np.where(~reached.any(axis=-1), np.inf, np.where(below, 0.0, inside))


@dataclass(frozen=True)
class Reading:
    """A ratio with its interval. Infinity says `> most`, 0 says `< least`: beyond what was measured.
    `above`: the share of draws that lie beyond `most`."""

    value: float
    low: float
    high: float
    least: float
    most: float
    above: float

    @property
    def at_least(self) -> float:
        """What the interval's lower end vouches for."""
        return self.most if self.low == np.inf else self.low

    @property
    def side(self) -> int:
        """1: the whole interval lies above a ratio of 1; -1: below; 0: neither."""
        above = self.low > 1 and self.at_least >= 1
        below = self.high < 1 and (self.least if self.high == 0 else self.high) <= 1
        return int(above) - int(below)

    def word(self, x: float) -> str:
        """ "12", "0.8", "> 32", "< 0.25"."""
        if x in (np.inf, 0.0):
            return f"> {_short(self.most)}" if x else f"< {_short(self.least)}"
        return _short(x)

    def __str__(self) -> str:
        """ "12x [8, > 32]", or "> 32x [> 32]" where the whole interval lies beyond."""
        low, high = self.word(self.low), self.word(self.high)
        return f"{self.word(self.value)}x [{low}]" if low == high else f"{self.word(self.value)}x [{low}, {high}]"


def _short(x: float) -> str:
    return f"{x:,.0f}" if x >= 10 or x == round(x) else f"{x:.2g}"


@dataclass(frozen=True)
class Curve:
    """SFT by size over the seeds that are compared. error: [sizes]; drawn: [draws, sizes]."""

    sizes: list[int]
    seeds: list[int]
    error: np.ndarray
    drawn: np.ndarray
    _shapes: dict[str, tuple[Fit | np.ndarray, Fit | np.ndarray]] = field(default_factory=dict, repr=False)

    @property
    def deviation(self) -> np.ndarray:
        """Of each size's error; by quantiles, since Student's t with few seeds may have no variance."""
        low, high = np.quantile(self.drawn, [0.16, 0.84], axis=0)
        return np.maximum((high - low) / 2, LEAST)

    def shapes(self, kind: str) -> tuple[Fit | np.ndarray, Fit | np.ndarray]:
        """Of the measured errors, and of every draw: made once, read for every arm."""
        if kind not in self._shapes:
            measured, drawn = (shape_of(self.sizes, e, self.deviation, kind) for e in (self.error, self.drawn))
            self._shapes[kind] = measured, drawn
        return self._shapes[kind]

    def needed(self, kind: str, error: float, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Problems for `error`, and for each of its draws [draws]."""
        measured, each = self.shapes(kind)
        return needed(self.sizes, measured, np.array(error)), needed(self.sizes, each, drawn)


def curve_of(sample: Sample, seeds: Sequence[int], arm: str = "sft") -> Curve:
    """The curve of `arm` over `seeds`, of the sizes that have them all.

    Raises:
        ValueError: fewer than two sizes do, or no seeds.
    """
    sizes = sorted({n for a, n, _ in sample.keys if a == arm and n > 0})
    sizes = [n for n in sizes if seeds and set(seeds) <= set(sample.seeds(arm, n))]
    if len(sizes) < 2:
        raise ValueError(f"a curve of {arm!r} needs two sizes or more with the seeds {list(seeds)}")
    cells = [sample.cell(arm, n, seeds) for n in sizes]
    return Curve(sizes, list(seeds), np.array([e for e, _ in cells]), np.stack([d for _, d in cells], axis=1))


def multiplier(curve: Curve, error: float, drawn: np.ndarray, size: int, kind: str = "power") -> Reading:
    """Problems that SFT needs for `error` / `size`.

    Args:
        curve: of SFT, paired with `drawn`.
        error: of the arm at `size`, with `drawn` [draws].
        kind: one of KINDS.
    """
    value, each = curve.needed(kind, error, drawn)
    return reading(value / size, each / size, curve.sizes[0] / size, curve.sizes[-1] / size)


def cost_ratio(curve: Curve, costs: Sequence[float], error: float, drawn: np.ndarray, cost: float) -> Reading:
    """What SFT spends for `error` / what the arm spent: by the power law, and by log cost between SFT's sizes.

    Args:
        costs: of SFT at each of the curve's sizes (seconds, say), taken as known.
        cost: of the arm.
    """
    x, y = np.log(np.array(curve.sizes, dtype=np.float64)), np.log(np.maximum.accumulate(np.asarray(costs, float)))

    def spent(problems: np.ndarray) -> np.ndarray:
        inside = np.exp(np.interp(np.log(np.clip(problems, curve.sizes[0], curve.sizes[-1])), x, y))
        return np.where((problems == 0) | np.isinf(problems), problems, inside) / cost

    value, each = curve.needed("power", error, drawn)
    return reading(spent(value), spent(each), np.exp(y[0]) / cost, np.exp(y[-1]) / cost)


def reading(value: np.ndarray, drawn: np.ndarray, least: float, most: float) -> Reading:
    """The ratio and the interval of its draws."""
    return Reading(float(value), *censored(drawn), float(least), float(most), above=float(np.isinf(drawn).mean()))


def difference(first: tuple[float, np.ndarray], second: tuple[float, np.ndarray]) -> tuple[float, float, float]:
    """First minus second with its interval; both (error, draws) of `Sample.cell` with the same seeds."""
    return (first[0] - second[0], *censored(first[1] - second[1]))


def beaten_up_to(curve: Curve, error: float, drawn: np.ndarray) -> int | None:
    """The largest SFT size that is significantly worse than the arm, as are all smaller ones; None: not even the
    smallest. No fit: paired differences of measured errors."""
    best = None
    for i, size in enumerate(curve.sizes):
        _, low, _ = difference((float(curve.error[i]), curve.drawn[:, i]), (error, drawn))
        if low <= 0:
            break
        best = size
    return best
