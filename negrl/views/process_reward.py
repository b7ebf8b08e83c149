"""Traces with the values of their steps: what `process_reward` trains on."""

from __future__ import annotations

import math

from negrl.methods.process_reward import ProcessRewardOptions
from negrl.records import CORRECT, INCORRECT, Step, StepValueRow, Trace
from negrl.views.inputs import View, ViewInputs, in_order


def build(inputs: ViewInputs, options: ProcessRewardOptions) -> View[StepValueRow]:
    """One row for each distinct decided trace with a valued step: the targets are at the last tokens of
    its steps, and V_0 at the prompt's last token if `options.prompts` asks for it. With hard targets a value
    above 0 is 1."""
    counts = {"rows": 0, "targets": 0, "undecided": 0, "no_value": 0, "duplicates": 0, "refused_no_room": 0}
    rows: list[StepValueRow] = []
    seen: set[tuple[str, tuple[int, ...]]] = set()
    for trace in in_order(inputs.traces):
        known = [s for s in inputs.steps.get(trace.trace_id, []) if not math.isnan(s.value)]
        key = (trace.problem_id, tuple(trace.token_ids))
        if trace.verdict not in (CORRECT, INCORRECT):
            counts["undecided"] += 1
        elif not known:
            counts["no_value"] += 1
        elif key in seen:
            counts["duplicates"] += 1
        elif not inputs.fits(trace.prompt_token_ids, trace.token_ids):
            counts["refused_no_room"] += 1
        else:
            seen.add(key)
            row = _row(trace, known, inputs.v0.get(trace.problem_id) if options.prompts else None)
            if options.targets == "hard":
                row.values[:] = [float(v > 0) for v in row.values]
            rows.append(row)
            counts["targets"] += len(row.values)
    counts["rows"] = len(rows)
    return View(rows, counts)


def _row(trace: Trace, steps: list[Step], v0: float | None) -> StepValueRow:
    before = len(trace.prompt_token_ids)
    positions = [before + step.end - 1 for step in steps]
    values = [step.value for step in steps]
    if v0 is not None:
        positions, values = [before - 1, *positions], [v0, *values]
    return StepValueRow(trace.problem_id, trace.trace_id, trace.prompt_token_ids + trace.token_ids, positions, values)
