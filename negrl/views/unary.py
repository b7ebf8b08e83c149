"""Right and wrong responses without partners: what `kto` trains on."""

from __future__ import annotations

from negrl.methods.kto import KtoOptions
from negrl.records import UnaryRow
from negrl.views.inputs import View, ViewInputs, by_problem


def build(inputs: ViewInputs, options: KtoOptions) -> View[UnaryRow]:
    """The distinct decided responses, at most `responses_per_problem` right and as many wrong ones per
    problem. Each row's `kl_ids` is a response to another problem; each response is used for that once."""
    counts = {"rows": 0, "right": 0, "wrong": 0, "problems": 0}
    rows: list[UnaryRow] = []
    groups: list[int] = []  # rows of each problem; they stand together
    for problem_id, responses in by_problem(inputs, counts).items():
        sides = {True: responses.right, False: responses.wrong}
        taken = [(t, right) for right, side in sides.items() for t in side[: options.responses_per_problem]]
        rows += [
            UnaryRow(problem_id, t.trace_id, t.prompt_token_ids, t.token_ids, right, kl_ids=[]) for t, right in taken
        ]
        groups.append(len(taken))
        counts["right"] += sum(right for _, right in taken)
        counts["wrong"] += sum(not right for _, right in taken)
    counts.update(rows=len(rows), problems=len(groups))
    for row, other in zip(rows, _others(groups), strict=True):
        partner = rows[other].completion_ids
        room = len(partner) if inputs.max_length is None else inputs.max_length - len(row.prompt_ids)
        row.kl_ids.extend(partner[:room])  # a truncated one will do for the estimate: nothing is learned from it
    return View(rows, counts)


def _others(groups: list[int]) -> list[int]:
    """For each of sum(groups) rows the index of a row of another group; a permutation.

    A shift by the largest group's size leaves a row's own group, and returns to it only if that group holds more
    than half of all rows: then some rows get one of their own group.
    """
    total = sum(groups)
    return [(i + max(groups)) % total for i in range(total)]
