"""Whole responses, wrong ones penalized by how sure the policy was of them: what `lens` trains on."""

from __future__ import annotations

import math
import statistics

from negrl.errors import InputError
from negrl.methods.lens import LensOptions
from negrl.records import CORRECT, AdvantageRow, Trace
from negrl.views.inputs import View, ViewInputs
from negrl.views.outcome import groups, response_row


def build(inputs: ViewInputs, options: LensOptions) -> View[AdvantageRow]:
    """One row for each decided trace: all its tokens have the advantage of its calibrated reward (`rewards`) within the
    problem's decided traces: minus the mean, over the standard deviation; in a group without a right answer
    `negative_groups` times the reward minus the mean, or with `centered: false` times the reward. Groups in which all
    are right have no advantages and are left out, unless there is an anchor.

    Raises:
        InputError: a wrong trace has no log-probs of its sampler (imported traces).
    """
    counts = {"rows": 0, "right": 0, "wrong": 0, "undecided": 0, "no_weight": 0, "negative_groups": 0}
    counts["refused_no_room"] = 0
    rows: list[AdvantageRow] = []
    for traces in groups(inputs, counts):
        advantages = _advantages(traces, options)
        counts["negative_groups"] += all(t.verdict != CORRECT for t in traces)
        for trace, advantage in zip(traces, advantages, strict=True):
            anchored = trace.verdict == CORRECT and options.anchor > 0
            if not advantage and not anchored:
                counts["no_weight"] += 1
            elif not inputs.fits(trace.prompt_token_ids, trace.token_ids):
                counts["refused_no_room"] += 1
            else:
                rows.append(response_row(trace, advantage))
                counts["right" if trace.verdict == CORRECT else "wrong"] += 1
    counts["rows"] = len(rows)
    return View(rows, counts)


def rewards(right: list[bool], confidences: list[float]) -> list[float]:
    """The calibrated rewards of one group (Feng et al. 2025, sec. 5.1): 1 if right, else -p / (D - p) / G, in
    [-1 / G, 0].

    D is twice the largest p, and at least 1 / mean(right / p) where there is a right answer (eq. 14).

    Args:
        confidences: p of each response, the geometric mean of its tokens' probabilities under the sampler.
    """
    difficulty = 2 * max(confidences)
    if any(right):
        seen = sum(r / p for r, p in zip(right, confidences, strict=True)) / len(right)
        difficulty = max(difficulty, 1 / seen)
    return [1.0 if r else -p / (difficulty - p) / len(right) for r, p in zip(right, confidences, strict=True)]


def _advantages(traces: list[Trace], options: LensOptions) -> list[float]:
    right = [t.verdict == CORRECT for t in traces]
    if all(right):
        return [0.0] * len(traces)
    found = rewards(right, [_confidence(t) for t in traces])
    mean = statistics.fmean(found)
    if not any(right):
        return [options.negative_groups * (r - mean if options.centered else r) for r in found]
    spread = statistics.stdev(found)
    return [(r - mean) / spread for r in found]


def _confidence(trace: Trace) -> float:
    if not trace.logprobs:
        raise InputError(
            f"train: lens weighs responses by the sampler's log-probs, and trace {trace.trace_id} has none "
            "(imported?): sample the traces, or train with topr"
        )
    return math.exp(statistics.fmean(trace.logprobs))
