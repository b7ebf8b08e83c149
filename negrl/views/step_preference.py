"""What led to a right answer against the step that is to blame: what `step_dpo` trains on.

`pairs: step`. Rejected: the pit of a wrong trace, or a spurious step of a right one. Chosen: how the policy
itself continued the same prefix when its answer ended right: the step of a labeling rollout that started there or
passed through, or of another right trace with the same prefix (at the first step: any right trace). The prefix
counts as prompt.

`pairs: solution` (Setlur et al. 2024, arXiv:2406.14532, Algorithm 1). Rejected: a wrong trace up to and
including its pit. Chosen: a whole right trace of the problem. Only the problem's prompt counts as prompt.

Nothing is added to either side: it ends with EOS only if the policy wrote one. So chosen solutions have one, and a
rejected prefix has none unless its pit is the last step.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from negrl.methods.step_dpo import StepDpoOptions
from negrl.records import CORRECT, INCORRECT, PreferenceRow
from negrl.views.continuations import Continuations, Place, Tokens, right_continuations
from negrl.views.inputs import View, ViewInputs, in_order


@dataclass(slots=True)
class _Blamed:
    """What to reject after `place`. `prompt` is the problem's prompt without the prefix."""

    place: Place
    step: Tokens
    trace_id: str
    kind: str
    prompt: list[int]


def build(inputs: ViewInputs, options: StepDpoOptions) -> View[PreferenceRow]:
    """At most `pairs_per_problem` pairs of each problem, no two alike.

    Blamed steps take turns, pits first, until all pairs are made or the limit is reached. Each takes the chosen
    side that most right answers had, first of those that no other pair with the same prefix has used, then of those
    that it has not used itself. A chosen side that begins with the rejected one does not count.

    `chosen_trace_id` is a rollout id where the chosen step comes from a rollout. Counted: pairs (of
    them pit_pairs and spurious_pairs, and through_pairs: the chosen step is known only from rollouts that
    started earlier and passed through the place), duplicates (the same step blamed after the same prefix
    in several traces), no_chosen (blamed steps without a right continuation that is different),
    refused_no_room (pairs of which a side with its prefix is longer than `max_length`), undecided.
    """
    counts = {"pairs": 0, "pit_pairs": 0, "spurious_pairs": 0, "through_pairs": 0, "duplicates": 0, "no_chosen": 0}
    counts.update(refused_no_room=0, undecided=0)
    whole = options.pairs == "solution"
    blamed = _blamed(inputs, counts, whole)
    if whole:
        chosen = _solutions(inputs)
    else:
        chosen = right_continuations(inputs, {item.place for items in blamed.values() for item in items})
    rows: list[PreferenceRow] = []
    for items in blamed.values():
        rows += _pairs(items, chosen, inputs, options.pairs_per_problem, counts)
    counts["pairs"] = len(rows)
    return View(rows, counts)


def _blamed(inputs: ViewInputs, counts: dict[str, int], whole: bool) -> dict[str, list[_Blamed]]:
    """By problem, pits before spurious steps, each distinct (prefix, step) once. With `whole` the pits alone,
    each with all that stands before it."""
    out: dict[str, dict[tuple[Place, Tokens], _Blamed]] = defaultdict(dict)
    for trace in in_order(inputs.traces):
        if trace.verdict not in (CORRECT, INCORRECT):
            counts["undecided"] += 1
            continue
        kind = "pit" if trace.verdict == INCORRECT else "spurious"
        for step in inputs.steps.get(trace.trace_id, []):
            if step.label == kind and not (whole and kind == "spurious"):
                start = 0 if whole else step.start
                place = (trace.problem_id, tuple(trace.token_ids[:start]))
                tokens = tuple(trace.token_ids[start : step.end])
                known = out[trace.problem_id].get((place, tokens))
                counts["duplicates"] += known is not None
                if known is None or (kind == "pit" and known.kind != "pit"):
                    blamed = _Blamed(place, tokens, trace.trace_id, kind, trace.prompt_token_ids)
                    out[trace.problem_id][place, tokens] = blamed
    return {p: sorted(items.values(), key=lambda b: b.kind != "pit") for p, items in out.items()}


def _solutions(inputs: ViewInputs) -> Continuations:
    """The right traces of each problem, whole, as what follows its prompt; those written most often first."""
    found: Continuations = defaultdict(lambda: defaultdict(list))
    for trace in in_order(inputs.traces):
        if trace.verdict == CORRECT:
            found[trace.problem_id, ()][tuple(trace.token_ids)].append((False, trace.trace_id))
    return {place: dict(sorted(whole.items(), key=lambda item: -len(item[1]))) for place, whole in found.items()}


def _pairs(
    items: list[_Blamed],
    chosen: Continuations,
    inputs: ViewInputs,
    limit: int,
    counts: dict[str, int],
) -> list[PreferenceRow]:
    waiting: list[list[Tokens]] = []  # of each item: chosen sides that it has not used yet
    for item in items:
        prompt = [*item.prompt, *item.place[1]]
        different = [step for step in chosen.get(item.place, {}) if step[: len(item.step)] != item.step]
        fitting = [s for s in different if inputs.fits(prompt, list(s)) and inputs.fits(prompt, list(item.step))]
        counts["no_chosen"] += not different
        counts["refused_no_room"] += len(different) - len(fitting)
        waiting.append(fitting)
    used: dict[Place, set[Tokens]] = defaultdict(set)
    rows: list[PreferenceRow] = []
    while any(waiting):
        for item, steps in zip(items, waiting, strict=True):
            if len(rows) == limit:
                return rows
            if not steps:
                continue
            step = next((s for s in steps if s not in used[item.place]), steps[0])
            steps.remove(step)
            used[item.place].add(step)
            through, chosen_id = chosen[item.place][step][0]
            counts[f"{item.kind}_pairs"] += 1
            counts["through_pairs"] += through
            rows.append(
                PreferenceRow(
                    problem_id=item.place[0],
                    chosen_trace_id=chosen_id,
                    rejected_trace_id=item.trace_id,
                    prompt_ids=[*item.prompt, *item.place[1]],
                    chosen_ids=list(step),
                    rejected_ids=list(item.step),
                )
            )
    return rows
