"""How good a labeler's step labels are, against the true values, and what they cost.

Everything is a ratio of sums over problems, so a bootstrap over problems (the traces of a problem share
prefixes, so they are no independent draws) is a matrix product. The same resamples serve every labeler.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from negrl.bench.stats import interval
from negrl.records import CORRECT, INCORRECT, Step
from negrl.steps.credit import label_steps
from negrl.steps.values import Difference, exact

if TYPE_CHECKING:
    from negrl.recipe import LabelSection


@dataclass(frozen=True, slots=True)
class Bounds:
    """A value lies in [low, high]; `value` is the middle."""

    low: float
    high: float

    @property
    def value(self) -> float:
        return (self.low + self.high) / 2


FIELDS = (
    "traces", "tokens", "rollouts", "steps", "blur", "squares", "later_steps", "later_squares", "unlabelled",
    "pit_hit", "pit_said", "pit_true", "spurious_hit", "spurious_said", "spurious_true", "bad_hit", "bad_said",
    "intervals", "covered", "covered_middle", "width",
)  # fmt: skip
_AT = {name: i for i, name in enumerate(FIELDS)}


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure of a labeler: `times` the sum of `top` over that of `bottom`, or the `root` of it. On the page it
    stands under `head`; without one it is in the CSV alone."""

    name: str
    top: str
    bottom: tuple[str, ...]
    head: str = ""
    digits: int = 3
    percent: bool = False
    times: int = 1
    root: bool = False

    @property
    def lower_is_better(self) -> bool:
        return self.root

    def of(self, sums: np.ndarray) -> np.ndarray:
        """From sums [..., FIELDS]; NaN where nothing was there to measure."""
        top, bottom = self.times * sums[..., _AT[self.top]], sum(sums[..., _AT[name]] for name in self.bottom)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)
        return np.sqrt(ratio) if self.root else ratio


METRICS = {
    m.name: m
    for m in (
        Metric("tokens", "tokens", ("traces",), "tokens a trace", digits=1),
        Metric("rollouts", "rollouts", ("traces",)),
        Metric("rmse", "squares", ("steps",), "RMSE of A", root=True),
        Metric("rmse_later", "later_squares", ("later_steps",), root=True),
        Metric("pit_f1", "pit_hit", ("pit_said", "pit_true"), "pit F1", times=2),
        Metric("spurious_f1", "spurious_hit", ("spurious_said", "spurious_true"), "spurious F1", times=2),
        Metric("bad_f1", "bad_hit", ("bad_said", "spurious_true"), "by sign alone", times=2),
        Metric("coverage", "covered", ("intervals",), "intervals cover A", percent=True),
        Metric("coverage_middle", "covered_middle", ("intervals",)),
        Metric("width", "width", ("intervals",), "mean width", digits=2),
        Metric("unlabelled", "unlabelled", ("steps",)),
    )
}

QUALITY = tuple(METRICS[name] for name in ("rmse", "pit_f1", "spurious_f1"))
"""What labelers are held against each other by."""


def advantage_bounds(before: Bounds, after: Bounds, chance: float) -> Bounds:
    """Bounds of A = V_after - V_before, tighter than those of two unrelated values.

    V_before = chance V_after + rest, where the rest (all other continuations) has bounds of its own, which the
    enumeration gives by subtraction; so A = (1 - chance) V_after - rest, and what is unknown of V_after hardly
    matters where the step was all but certain.

    Args:
        chance: of the step's tokens, after `before`'s prefix.
    """
    rest_low, rest_high = before.low - chance * after.low, before.high - chance * after.high
    low = max((1 - chance) * after.low - rest_high, after.low - before.high)
    high = min((1 - chance) * after.high - rest_low, after.high - before.low)
    return Bounds(min(low, high), max(low, high))  # rounding may turn two equal bounds around


def tally(
    steps: Sequence[Step], truth: Sequence[Bounds], chances: Sequence[float], verdict: str, section: LabelSection
) -> dict[str, float]:
    """One trace's share of the sums (all of FIELDS but tokens and rollouts).

    A step without an advantage says "no effect": 0. An interval covers the true advantage when it meets the
    bounds of it. The true labels are `label_steps` on the true values.

    Args:
        steps: as labelled, in order.
        truth: V_0, then V_i of each step.
        chances: of each step's tokens after those before it.
    """
    out = dict.fromkeys(FIELDS, 0.0)
    out["traces"], out["steps"], out["later_steps"] = 1, len(steps), len(steps) - 1
    values = [exact(b.value) for b in truth]
    pairs = zip(itertools.pairwise(truth), chances, strict=True)
    bounds = [advantage_bounds(before, after, chance) for (before, after), chance in pairs]
    true = [Difference(b.value, b.value, b.value) for b in bounds]
    for i, (step, advantage) in enumerate(zip(steps, true, strict=True)):
        known = step.advantage == step.advantage  # not NaN
        out["blur"] += (bounds[i].high - bounds[i].low) / 2
        square = ((step.advantage if known else 0.0) - advantage.value) ** 2
        out["squares"] += square
        out["later_squares"] += square if i else 0.0
        if not known:
            out["unlabelled"] += 1
            continue
        out["intervals"] += 1
        out["covered"] += step.advantage_low <= bounds[i].high and bounds[i].low <= step.advantage_high
        out["covered_middle"] += step.advantage_low <= advantage.value <= step.advantage_high
        out["width"] += step.advantage_high - step.advantage_low
    wanted = label_steps(values[1:], true, verdict, section)
    said = [s.label for s in steps]
    if verdict == INCORRECT:
        _compare(out, "pit", [x == "pit" for x in said], [x == "pit" for x in wanted])
    elif verdict == CORRECT:
        bad = [x == "spurious" for x in wanted]  # exact: no interval stands between bad and spurious
        _compare(out, "spurious", [x == "spurious" for x in said], bad)
        out["bad_hit"] = sum(s in ("bad", "spurious") and w for s, w in zip(said, bad, strict=True))
        out["bad_said"] = sum(s in ("bad", "spurious") for s in said)
    return out


def _compare(out: dict[str, float], what: str, said: list[bool], true: list[bool]) -> None:
    out[f"{what}_hit"] = sum(s and t for s, t in zip(said, true, strict=True))
    out[f"{what}_said"], out[f"{what}_true"] = sum(said), sum(true)


def table(tallies: Mapping[str, Sequence[dict[str, float]]], problems: Sequence[str]) -> np.ndarray:
    """Sums [problems, FIELDS], float64, of tallies by problem; zeros where a problem has none."""
    out = np.zeros((len(problems), len(FIELDS)))
    for row, problem in enumerate(problems):
        for one in tallies.get(problem, ()):
            out[row] += [one[name] for name in FIELDS]
    return out


def tokens_to_reach(
    target: float, tokens: Sequence[float], quality: Sequence[float], lower: bool
) -> tuple[float, bool] | None:
    """The tokens at which a labeler of several budgets is first as good as `target`.

    Between two measured budgets log tokens is interpolated against log quality (`lower`: an error, the smaller
    the better) or against quality (an F1, the larger the better). Nothing is extrapolated, and a budget that took
    no tokens is no point.

    Returns:
        Tokens, and whether that is only an upper bound (the smallest budget reaches the target already);
        None when no budget reaches it.
    """
    scale = (lambda q: np.log(np.maximum(q, 1e-12))) if lower else (lambda q: -np.asarray(q))
    points = sorted((float(t), float(scale(q))) for t, q in zip(tokens, quality, strict=True) if q == q and t > 0)
    goal = float(scale(target))
    for i, (cost, error) in enumerate(points):
        if error > goal:
            continue
        if i == 0:
            return cost, True
        cost_before, error_before = points[i - 1]
        share = (error_before - goal) / (error_before - error)
        return float(np.exp(np.log(cost_before) + share * (np.log(cost) - np.log(cost_before)))), False
    return None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Tokens of a peer over tokens of the labeler at equal quality. `at_least`: the labeler's smallest budget
    was as good already; `free`: so it was without any rollouts. `value` is None when no budget reached the peer;
    `missed`: share of the resamples in which none did (they count as 0 in the interval)."""

    value: float | None
    low: float
    high: float
    at_least: bool
    free: bool
    missed: float


def token_ratio(peer: np.ndarray, budgets: Sequence[np.ndarray], metric: Metric, draws: np.ndarray) -> Ratio:
    """How many times the labeler's tokens a peer takes for the same `metric`.

    Args:
        peer: sums [problems, FIELDS].
        budgets: the same of the labeler, one for each budget.
        draws: `resamples`.
    """
    lower, tokens = metric.lower_is_better, METRICS["tokens"]

    def ratio(weights: np.ndarray) -> tuple[float | None, bool]:
        base = weights @ peer
        sums = np.stack([weights @ b for b in budgets])
        target = float(metric.of(base))
        if target != target:
            return float("nan"), False
        found = tokens_to_reach(target, tokens.of(sums).tolist(), metric.of(sums).tolist(), lower)
        if found is None:
            return None, False
        return float(tokens.of(base)) / found[0], found[1]

    value, at_least = ratio(np.ones(len(peer)))
    sampled = [ratio(weights)[0] for weights in draws]
    missed = sum(s is None for s in sampled) / len(sampled)
    sign = 1 if lower else -1
    goal = sign * metric.of(peer.sum(axis=0))
    totals = [b.sum(axis=0) for b in budgets]
    free = any(tokens.of(t) == 0 and sign * metric.of(t) <= goal for t in totals)
    return Ratio(value, *interval([0.0 if s is None else s for s in sampled]), at_least, free, missed)
