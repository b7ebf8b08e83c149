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

from negrl.bench.truth import Bounds
from negrl.records import CORRECT, INCORRECT, Step
from negrl.steps.credit import label_steps
from negrl.steps.values import Difference, exact

if TYPE_CHECKING:
    from negrl.recipe import LabelSection

FIELDS = (
    "traces", "tokens", "rollouts", "steps", "blur", "squares", "later_steps", "later_squares", "unlabelled",
    "pit_hit", "pit_said", "pit_true", "spurious_hit", "spurious_said", "spurious_true", "bad_hit", "bad_said",
    "intervals", "covered", "covered_middle", "width",
)  # fmt: skip
_AT = {name: i for i, name in enumerate(FIELDS)}
LOWER_IS_BETTER = {"rmse"}


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


def metric(name: str, sums: np.ndarray) -> np.ndarray:
    """A metric from sums [..., FIELDS]; NaN where nothing was there to measure."""

    def of(field: str) -> np.ndarray:
        return sums[..., _AT[field]]

    def f1(hit: str, said: str, true: str) -> tuple[np.ndarray, np.ndarray]:
        return 2 * of(hit), of(said) + of(true)

    top, bottom = {
        "tokens": (of("tokens"), of("traces")),
        "rollouts": (of("rollouts"), of("traces")),
        "rmse": (of("squares"), of("steps")),
        "rmse_later": (of("later_squares"), of("later_steps")),
        "pit_f1": f1("pit_hit", "pit_said", "pit_true"),
        "spurious_f1": f1("spurious_hit", "spurious_said", "spurious_true"),
        "bad_f1": f1("bad_hit", "bad_said", "spurious_true"),
        "coverage": (of("covered"), of("intervals")),
        "coverage_middle": (of("covered_middle"), of("intervals")),
        "width": (of("width"), of("intervals")),
        "unlabelled": (of("unlabelled"), of("steps")),
    }[name]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)
    return np.sqrt(ratio) if name.startswith("rmse") else ratio


def resamples(problems: int, count: int, seed: int) -> np.ndarray:
    """How often each problem is drawn, int64 [count, problems]: `problems` draws with replacement."""
    return np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), size=count)


def interval(draws: Sequence[float] | np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap draws; those that measured nothing (NaN) are left out."""
    found = np.asarray(draws, dtype=np.float64)
    found = found[~np.isnan(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.percentile(found, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


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


def token_ratio(
    peer: np.ndarray, budgets: Sequence[np.ndarray], name: str, draws: np.ndarray, confidence: float
) -> Ratio:
    """How many times the labeler's tokens a peer takes for the same `name` (a metric).

    Args:
        peer: sums [problems, FIELDS].
        budgets: the same of the labeler, one for each budget.
        draws: `resamples`.
    """
    lower = name in LOWER_IS_BETTER

    def ratio(weights: np.ndarray) -> tuple[float | None, bool]:
        base = weights @ peer
        sums = np.stack([weights @ b for b in budgets])
        target = float(metric(name, base))
        if target != target:
            return float("nan"), False
        found = tokens_to_reach(target, metric("tokens", sums).tolist(), metric(name, sums).tolist(), lower)
        if found is None:
            return None, False
        return float(metric("tokens", base)) / found[0], found[1]

    value, at_least = ratio(np.ones(len(peer)))
    sampled = [ratio(weights)[0] for weights in draws]
    missed = sum(s is None for s in sampled) / len(sampled)
    sign = 1 if lower else -1
    goal = sign * metric(name, peer.sum(axis=0))
    totals = [b.sum(axis=0) for b in budgets]
    free = any(metric("tokens", t) == 0 and sign * metric(name, t) <= goal for t in totals)
    return Ratio(value, *interval([0.0 if s is None else s for s in sampled], confidence), at_least, free, missed)
