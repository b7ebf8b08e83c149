"""Whole responses and their prompt's pass rate: what `nft` trains on."""

from __future__ import annotations

from negrl.methods.nft import NftOptions
from negrl.records import CORRECT, AdvantageRow
from negrl.views.inputs import View, ViewInputs
from negrl.views.outcome import groups, response_row


def build(inputs: ViewInputs, options: NftOptions) -> View[AdvantageRow]:
    """One row for each decided trace of the problems that have right and wrong ones: all its tokens have the advantage
    1 - r (right) or -r (wrong), with the pass rate r of the problem's decided traces."""
    counts = {"rows": 0, "right": 0, "wrong": 0, "undecided": 0, "one_sided": 0, "refused_no_room": 0}
    rows: list[AdvantageRow] = []
    for traces in groups(inputs, counts):
        right = sum(t.verdict == CORRECT for t in traces)
        if right in (0, len(traces)):
            counts["one_sided"] += len(traces)
            continue
        rate = min(max(right / len(traces), options.rate_bound), 1 - options.rate_bound)
        for trace in traces:
            if not inputs.fits(trace.prompt_token_ids, trace.token_ids):
                counts["refused_no_room"] += 1
                continue
            rows.append(response_row(trace, (trace.verdict == CORRECT) - rate))
            counts["right" if trace.verdict == CORRECT else "wrong"] += 1
    counts["rows"] = len(rows)
    return View(rows, counts)
