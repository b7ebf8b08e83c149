"""Whole responses, raised or lowered by their verdict: what `nsr`, `psr_nsr` and `topr` train on."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from negrl.methods.nsr import OutcomeOptions
from negrl.records import CORRECT, INCORRECT, AdvantageRow, Step, Trace
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
    written: dict[str, list[list[int]]] = defaultdict(list)
    if options.spare_shared:
        counts["spared_tokens"] = 0
        for trace in inputs.traces:
            if trace.verdict == CORRECT:
                written[trace.problem_id].append(trace.token_ids)
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
            advantage: float | list[float] = options.positive_weight if right else -1.0
            if options.spare_shared and not right:
                shared = shared_prefix(trace.token_ids, written[trace.problem_id])
                advantage = [0.0] * shared + [-1.0] * (len(trace.token_ids) - shared)
                counts["spared_tokens"] += shared
            rows.append(response_row(trace, advantage))
            counts["right" if right else "wrong"] += 1
    counts["rows"] = len(rows)
    return View(rows, counts)


def shared_prefix(tokens: list[int], others: list[list[int]]) -> int:
    """For how many tokens `tokens` follows one of the others, at most."""

    def together(other: list[int]) -> int:
        pairs = enumerate(zip(tokens, other, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(tokens), len(other)))

    return max(map(together, others), default=0)


def groups(inputs: ViewInputs, counts: dict[str, int]) -> Iterator[list[Trace]]:
    """The decided traces of each problem, in an order that depends on their ids alone; counts undecided ones."""
    for _, traces in itertools.groupby(in_order(inputs.traces), key=lambda t: t.problem_id):
        decided = []
        for trace in traces:
            if trace.verdict in (CORRECT, INCORRECT) and trace.token_ids:
                decided.append(trace)
            else:
                counts["undecided"] += 1
        if decided:
            yield decided


def response_row(trace: Trace, advantage: float | list[float], steps: Sequence[Step] = ()) -> AdvantageRow:
    """The row of a whole response.

    Args:
        advantage: of every token, or of each.
        steps: they tile the response; without them it is one step, so that the taper covers the whole response.
    """
    before, tokens = len(trace.prompt_token_ids), len(trace.token_ids)
    fit = trace.logprobs and trace.sampling.fit_for_ratios
    step_ids = [step.step_index for step in steps for _ in range(step.start, step.end)] or [0] * tokens
    return AdvantageRow(
        problem_id=trace.problem_id,
        trace_id=trace.trace_id,
        input_ids=trace.prompt_token_ids + trace.token_ids,
        labels=[-100] * before + trace.token_ids,
        advantages=[0.0] * before + ([advantage] * tokens if isinstance(advantage, float) else advantage),
        logprobs=[0.0] * before + trace.logprobs if fit and trace.logprobs else [],  # empty: the trainer scores the row
        step_ids=[-1] * before + step_ids,
        correct=trace.verdict == CORRECT,
    )
