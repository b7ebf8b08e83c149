"""From verdicts to numbers: pass@1, pass@k, the share of right answers that hide a wrong step.

Every number has an interval from a bootstrap over problems. Samples of one problem are not independent, so problems
are resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from negrl.intervals import percentiles
from negrl.records import CORRECT, INCORRECT, UNDECIDED

_CHUNK = 1_000_000
"""Most indices drawn at once (8 MB)."""


class ScoredSample(NamedTuple):
    """One evaluated sample. `has_wrong_step` is what the world says of its steps; None: not checked. A plain tuple in
    this order works as well."""

    problem_id: str
    verdict: str
    verdict_reason: str | None
    has_wrong_step: bool | None


@dataclass(frozen=True, slots=True)
class EvalSummary:
    """What an evaluation found. Shares and rates are in [0, 1]; an interval is (low, high) at `confidence`.
    `spurious_share` is the share of right answers with checked steps that contain a wrong step; None if there are
    no such answers. An undecided sample counts as not right."""

    pass_at_1: float
    pass_at_1_ci: tuple[float, float]
    problems: int
    samples: int
    truncated_rate: float
    undecided_rate: float
    no_answer_rate: float
    spurious_share: float | None
    spurious_share_ci: tuple[float, float] | None
    confidence: float


def pass_at_1(right: Sequence[Sequence[int]]) -> float:
    """Mean over problems of the mean over a problem's samples.

    Args:
        right: one list of 0/1 per problem; the lists may differ in length, none may be empty.
    """
    return float(np.mean(_problem_means(right)))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate, from `c` right samples out of `n`, of the chance that at least one of `k` samples is right:
    1 - C(n-c, k) / C(n, k) (Chen et al. 2021), computed as a product so that nothing overflows.

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n}, c={c}, k={k}")
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def bootstrap_interval(
    per_problem_means: Sequence[float], confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the mean over problems; the same arguments give the same interval.

    It cannot reflect what no problem showed: with all problems at 1 (or all at 0) its width is 0.

    Args:
        per_problem_means: one number per problem, at least one.
        confidence: in (0, 1).
        samples: bootstrap resamples.
        seed: for the resampling.
    """
    means = np.asarray(per_problem_means, dtype=np.float64)
    return _bootstrap_ratio(means, np.ones_like(means), confidence, samples, seed)


def summarise(
    rows: Sequence[tuple[str, str, str | None, bool | None]],
    generated: int,
    confidence: float = 0.95,
    bootstrap: int = 2000,
    seed: int = 0,
) -> EvalSummary:
    """Summarize an evaluation.

    Args:
        rows: `ScoredSample`s, or tuples (problem_id, verdict, verdict_reason, has_wrong_step).
        generated: how many samples were drawn. A lost sample is an error, never a smaller n.
        confidence: of the intervals.
        bootstrap: resamples per interval.
        seed: for the resampling.

    Raises:
        ValueError: no rows, fewer or more rows than were generated, or an unknown verdict.
    """
    samples = [ScoredSample(*row) for row in rows]
    if len(samples) != generated:
        raise ValueError(f"{generated} samples were generated, but {len(samples)} were scored")
    if not samples:
        raise ValueError("nothing to evaluate: no samples were generated")
    if unknown := {s.verdict for s in samples} - {CORRECT, INCORRECT, UNDECIDED}:
        raise ValueError(f"unknown verdict {sorted(unknown)[0]!r}")

    by_problem: dict[str, list[ScoredSample]] = {}
    for sample in samples:
        by_problem.setdefault(sample.problem_id, []).append(sample)
    means = _problem_means([[int(s.verdict == CORRECT) for s in group] for group in by_problem.values()])

    # Per problem: right answers with checked steps, and how many of these contain a wrong step.
    checked = [
        [s.has_wrong_step for s in group if s.verdict == CORRECT and s.has_wrong_step is not None]
        for group in by_problem.values()
    ]
    wrong_inside = np.array([sum(c) for c in checked], dtype=np.float64)
    looked_at = np.array([len(c) for c in checked], dtype=np.float64)
    has_share = looked_at.sum() > 0

    def rate(matches: int) -> float:
        return matches / len(samples)

    return EvalSummary(
        pass_at_1=float(means.mean()),
        pass_at_1_ci=bootstrap_interval(means.tolist(), confidence, bootstrap, seed),
        problems=len(by_problem),
        samples=len(samples),
        truncated_rate=rate(sum(s.verdict_reason == "truncated" for s in samples)),
        undecided_rate=rate(sum(s.verdict == UNDECIDED for s in samples)),
        no_answer_rate=rate(sum(s.verdict_reason == "no_answer" for s in samples)),
        spurious_share=float(wrong_inside.sum() / looked_at.sum()) if has_share else None,
        spurious_share_ci=_bootstrap_ratio(wrong_inside, looked_at, confidence, bootstrap, seed) if has_share else None,
        confidence=confidence,
    )


def _problem_means(right: Sequence[Sequence[int]]) -> np.ndarray:
    if not right or not all(len(r) for r in right):
        raise ValueError("every problem needs at least one sample, and there must be a problem")
    return np.array([sum(r) / len(r) for r in right], dtype=np.float64)


def _bootstrap_ratio(
    numerator: np.ndarray, denominator: np.ndarray, confidence: float, samples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of sum(numerator) / sum(denominator), both float64 [problems], over problems drawn with
    replacement. Draws whose denominator is 0 carry no information and are left out."""
    count = len(numerator)
    if count == 0:
        raise ValueError("no problems to draw from")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    rng = np.random.default_rng(seed)
    ratios = []
    rows = max(1, _CHUNK // count)
    for first in range(0, samples, rows):
        drawn = rng.integers(0, count, size=(min(rows, samples - first), count))
        below = denominator[drawn].sum(axis=1)
        ratios.append(numerator[drawn].sum(axis=1)[below > 0] / below[below > 0])
    return percentiles(np.concatenate(ratios), confidence)
