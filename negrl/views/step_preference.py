"""After a shared prefix, a step that led to a right answer against the step that is to blame: what
`step_dpo` trains on.

Rejected: the pit of a wrong trace, or a spurious step of a right one. Chosen: how the policy itself
went on from the same prefix where its answer came out right: the first step of a labelling rollout,
or the step of another right trace that shares the prefix (at the first step: any right trace).
Nothing is added to either side: it ends with EOS only if the step itself does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from negrl.records import CORRECT, INCORRECT, PreferenceRow
from negrl.steps.split import split_steps
from negrl.trainers.methods import Options
from negrl.trainers.methods.step_dpo import StepDpoOptions
from negrl.views.inputs import View, ViewInputs, in_order

Tokens = tuple[int, ...]
Place = tuple[str, Tokens]
"""A problem and the response's tokens so far."""


@dataclass(slots=True)
class _Blamed:
    """A step to reject. `prompt` is the problem's prompt without the prefix."""

    place: Place
    step: Tokens
    trace_id: str
    kind: str
    prompt: list[int]


def build(inputs: ViewInputs, options: Options) -> View[PreferenceRow]:
    """At most `pairs_per_problem` pairs of each problem, no two alike.

    Blamed steps take turns, pits first, until all pairs are made or the limit is reached. Each takes
    the chosen step that most right continuations began with, of those that no other pair of the same
    prefix has used yet, or, when all are used, of all that it has not used itself.

    `chosen_trace_id` is a rollout id where the chosen step comes from a rollout. Counted: pairs (of
    them pit_pairs and spurious_pairs), duplicates (the same step blamed after the same prefix in
    several traces), no_chosen (blamed steps without a right continuation that is different),
    refused_no_room (pairs of which a side with its prefix is longer than `max_length`), undecided.
    """
    assert isinstance(options, StepDpoOptions)
    counts = {"pairs": 0, "pit_pairs": 0, "spurious_pairs": 0, "duplicates": 0, "no_chosen": 0}
    counts.update(refused_no_room=0, undecided=0)
    blamed = _blamed(inputs, counts)
    chosen = _chosen(inputs, {item.place for items in blamed.values() for item in items})
    rows: list[PreferenceRow] = []
    for items in blamed.values():
        rows += _pairs(items, chosen, inputs, options.pairs_per_problem, counts)
    counts["pairs"] = len(rows)
    return View(rows, counts)


def _blamed(inputs: ViewInputs, counts: dict[str, int]) -> dict[str, list[_Blamed]]:
    """By problem, pits before spurious steps, each distinct (prefix, step) once."""
    out: dict[str, dict[tuple[Place, Tokens], _Blamed]] = defaultdict(dict)
    for trace in in_order(inputs.traces):
        if trace.verdict not in (CORRECT, INCORRECT):
            counts["undecided"] += 1
            continue
        kind = "pit" if trace.verdict == INCORRECT else "spurious"
        for step in inputs.steps.get(trace.trace_id, []):
            if step.label == kind:
                place = (trace.problem_id, tuple(trace.token_ids[: step.start]))
                tokens = tuple(trace.token_ids[step.start : step.end])
                known = out[trace.problem_id].get((place, tokens))
                counts["duplicates"] += known is not None
                if known is None or (kind == "pit" and known.kind != "pit"):
                    blamed = _Blamed(place, tokens, trace.trace_id, kind, trace.prompt_token_ids)
                    out[trace.problem_id][place, tokens] = blamed
    return {p: sorted(items.values(), key=lambda b: b.kind != "pit") for p, items in out.items()}


def _chosen(inputs: ViewInputs, places: set[Place]) -> dict[Place, dict[Tokens, list[str]]]:
    """How right answers went on from each place: first step -> ids of the traces and rollouts that
    began with it, those with the most first."""
    found: dict[Place, dict[Tokens, list[str]]] = defaultdict(lambda: defaultdict(list))
    for trace in in_order(inputs.traces):
        if trace.verdict != CORRECT:
            continue
        for step in inputs.steps.get(trace.trace_id, []):
            place = (trace.problem_id, tuple(trace.token_ids[: step.start]))
            if place in places and step.label not in ("bad", "spurious"):
                found[place][tuple(trace.token_ids[step.start : step.end])].append(trace.trace_id)

    traces = {t.trace_id: t for t in inputs.traces}
    place_of: dict[tuple[str, int], Place] = {}
    first_step: dict[Tokens, Tokens] = {}
    for rollout in sorted(inputs.rollouts, key=lambda r: r.rollout_id):
        if rollout.verdict != CORRECT or not rollout.token_ids:
            continue
        at = (rollout.trace_id, rollout.step_index)
        if at not in place_of:
            end = 0 if rollout.step_index < 0 else inputs.steps[rollout.trace_id][rollout.step_index].end
            place_of[at] = (rollout.problem_id, tuple(traces[rollout.trace_id].token_ids[:end]))
        if place_of[at] in places:
            tokens = tuple(rollout.token_ids)
            if tokens not in first_step:
                first_step[tokens] = tokens[: split_steps(rollout.token_ids, inputs.tokenizer, inputs.label)[0].end]
            found[place_of[at]][first_step[tokens]].append(rollout.rollout_id)
    return {
        place: dict(sorted(steps.items(), key=lambda item: (-len(item[1]), item[0]))) for place, steps in found.items()
    }


def _pairs(
    items: list[_Blamed],
    chosen: dict[Place, dict[Tokens, list[str]]],
    inputs: ViewInputs,
    limit: int,
    counts: dict[str, int],
) -> list[PreferenceRow]:
    waiting: list[list[Tokens]] = []  # of each item: chosen steps that it has not used yet
    for item in items:
        prompt = [*item.prompt, *item.place[1]]
        different = [step for step in chosen.get(item.place, {}) if step != item.step]
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
            counts[f"{item.kind}_pairs"] += 1
            rows.append(
                PreferenceRow(
                    problem_id=item.place[0],
                    chosen_trace_id=chosen[item.place][step][0],
                    rejected_trace_id=item.trace_id,
                    prompt_ids=[*item.prompt, *item.place[1]],
                    chosen_ids=list(step),
                    rejected_ids=list(item.step),
                )
            )
    return rows
