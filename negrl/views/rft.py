"""The policy's own right answers, each once: what `rft` trains on."""

from __future__ import annotations

from negrl.methods import Options
from negrl.records import SftRow
from negrl.views.inputs import View, ViewInputs, by_problem, sft_row


def build(inputs: ViewInputs, options: Options) -> View[SftRow]:
    """One row for each distinct right trace of a problem (equal token ids are duplicates)."""
    counts = {"rows": 0, "problems": 0}
    right = [responses.right for responses in by_problem(inputs, counts).values() if responses.right]
    rows = [sft_row(trace) for traces in right for trace in traces]
    counts.update(rows=len(rows), problems=len(right))
    return View(rows, counts)
