"""Whole responses, raised or lowered by their verdict: what `nsr`, `psr_nsr` and `topr` train on."""

from __future__ import annotations

from collections import defaultdict

from negrl.methods.nsr import OutcomeOptions
from negrl.records import CORRECT, INCORRECT, AdvantageRow, Trace
from negrl.views.inputs import View, ViewInputs, in_order


def build(inputs: ViewInputs, options: OutcomeOptions) -> View[AdvantageRow]:
    """One row for each decided trace: all its tokens have the advantage `positive_weight` or -1 and are one
    step, so that the taper covers the whole response. Duplicates stay: how often the policy writes
    something is part of its gradient. Right traces with neither weight nor anchor are left out.
    """
    counts = {"rows": 0, "right": 0, "wrong": 0, "undecided": 0, "no_weight": 0, "one_sided": 0, "refused_no_room": 0}
    verdicts: dict[str, set[str]] = defaultdict(set)
    for trace in inputs.traces:
        if trace.verdict in (CORRECT, INCORRECT):
            verdicts[trace.problem_id].add(trace.verdict)
    rows: list[AdvantageRow] = []
    for trace in in_order(inputs.traces):
        right = trace.verdict == CORRECT
        if trace.verdict not in (CORRECT, INCORRECT):
            counts["undecided"] += 1
        elif not options.one_sided and len(verdicts[trace.problem_id]) < 2:
            counts["one_sided"] += 1
        elif right and not options.positive_weight and not options.anchor:
            counts["no_weight"] += 1
        elif not inputs.fits(trace.prompt_token_ids, trace.token_ids):
            counts["refused_no_room"] += 1
        else:
            rows.append(_row(trace, options.positive_weight if right else -1.0))
            counts["right" if right else "wrong"] += 1
    counts["rows"] = len(rows)
    return View(rows, counts)


def _row(trace: Trace, advantage: float) -> AdvantageRow:
    before, tokens = len(trace.prompt_token_ids), len(trace.token_ids)
    fit = trace.logprobs and trace.sampling.fit_for_ratios
    return AdvantageRow(
        problem_id=trace.problem_id,
        trace_id=trace.trace_id,
        input_ids=trace.prompt_token_ids + trace.token_ids,
        labels=[-100] * before + trace.token_ids,
        advantages=[0.0] * before + [advantage] * tokens,
        logprobs=[0.0] * before + trace.logprobs if fit and trace.logprobs else [],  # empty: the trainer scores the row
        step_ids=[-1] * before + [0] * tokens,
        correct=trace.verdict == CORRECT,
    )
