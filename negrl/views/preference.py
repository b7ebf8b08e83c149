"""A right response against a wrong one to the same problem: what `dpo` trains on."""

from __future__ import annotations

import math
from collections.abc import Iterator

from negrl.methods.dpo import DpoOptions
from negrl.records import PreferenceRow
from negrl.views.inputs import View, ViewInputs, by_problem


def build(inputs: ViewInputs, options: DpoOptions) -> View[PreferenceRow]:
    """At most `pairs_per_problem` pairs of distinct responses of each problem.

    Responses (not pairs) are counted as duplicates, undecided and refused_no_room.
    """
    counts = {"pairs": 0, "problems": 0}
    rows: list[PreferenceRow] = []
    for problem_id, responses in by_problem(inputs, counts).items():
        right, wrong = responses.right, responses.wrong
        counts["problems"] += bool(right and wrong)
        for i, j in _schedule(len(right), len(wrong), options.pairs_per_problem):
            rows.append(
                PreferenceRow(
                    problem_id=problem_id,
                    chosen_trace_id=right[i].trace_id,
                    rejected_trace_id=wrong[j].trace_id,
                    prompt_ids=right[i].prompt_token_ids,
                    chosen_ids=right[i].token_ids,
                    rejected_ids=wrong[j].token_ids,
                )
            )
    counts["pairs"] = len(rows)
    return View(rows, counts)


def _schedule(right: int, wrong: int, limit: int) -> Iterator[tuple[int, int]]:
    """Distinct pairs of `range(right)` x `range(wrong)`, in an order in which no index is used again before all
    others of its side.

    Both sides cycle. After lcm(right, wrong) pairs they would repeat themselves, so from then on the wrong side is
    shifted by one.
    """
    if not right or not wrong:
        return
    lap = math.lcm(right, wrong)
    for k in range(min(limit, right * wrong)):
        yield k % right, (k + k // lap) % wrong
