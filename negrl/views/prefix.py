"""Traces credited up to their first error: what `vppo` trains on."""

from __future__ import annotations

from negrl.methods.vppo import VppoOptions
from negrl.records import CORRECT, AdvantageRow, Step, Trace
from negrl.views.inputs import View, ViewInputs
from negrl.views.outcome import groups, response_row

ERRORS = {"bad": ("bad", "pit"), "pit": ("pit",)}


def build(inputs: ViewInputs, options: VppoOptions) -> View[AdvantageRow]:
    """One row for each decided trace in which some token has an advantage and, where there is an anchor, for every
    right trace. A token's advantage is what it is worth (`_worth`) minus the mean of what the problem's decided
    responses are worth (a response: the mean of its tokens). The steps are those of the labels, and the taper looks at
    each of them.

    A wrong trace in which no step is to blame (`no_error`) is worth nothing throughout.
    """
    counts = {"rows": 0, "right": 0, "wrong": 0, "undecided": 0, "no_weight": 0, "no_error": 0, "refused_no_room": 0}
    rows: list[AdvantageRow] = []
    for traces in groups(inputs, counts):
        steps = [inputs.steps.get(t.trace_id, []) for t in traces]
        saved = [_saved(s, options) for s in steps]
        worth = [_worth(t, n, options) for t, n in zip(traces, saved, strict=True)]
        mean = sum(sum(w) / len(w) for w in worth) / len(worth)
        for trace, own, tokens, prefix in zip(traces, steps, worth, saved, strict=True):
            right = trace.verdict == CORRECT
            advantages = [w - mean for w in tokens]
            if options.keep_prefix and not right and prefix is not None:
                advantages[:prefix] = [max(a, 0.0) for a in advantages[:prefix]]
            if not any(advantages) and not (right and options.anchor > 0):
                counts["no_weight"] += 1
            elif not inputs.fits(trace.prompt_token_ids, trace.token_ids):
                counts["refused_no_room"] += 1
            else:
                rows.append(response_row(trace, advantages, own))
                counts["right" if right else "wrong"] += 1
                counts["no_error"] += not right and prefix is None
    counts["rows"] = len(rows)
    return View(rows, counts)


def _saved(steps: list[Step], options: VppoOptions) -> int | None:
    """How many tokens stand before the first error; None if there is none."""
    found = (s.start for s in steps if s.label in ERRORS[options.first_error])
    return next(found, None)


def _worth(trace: Trace, saved: int | None, options: VppoOptions) -> list[float]:
    """Of each token: 1 in a right trace; before the first error of a wrong one `prefix_reward`, else 0."""
    if trace.verdict == CORRECT:
        return [1.0] * len(trace.token_ids)
    rewarded = max((saved or 0) - options.shorten, 0)
    return [options.prefix_reward] * rewarded + [0.0] * (len(trace.token_ids) - rewarded)
