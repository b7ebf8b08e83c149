"""Rows of a few problems, held out before training, and what each of their tokens stands for.

The problems are those whose ids have the smallest hashes, so all arms and reruns hold out the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from negrl.methods.guards import GuardOptions
from negrl.records import AdvantageRow, PreferenceRow, SftRow, UnaryRow, stable_id
from negrl.trainers.rows import flat_column

ROW_TYPES = (SftRow, AdvantageRow, PreferenceRow, UnaryRow)


@dataclass(slots=True)
class Probe:
    """One held-out sequence. All lists have the length of `input_ids`; the first token is never scored.

    `prompt`: number of tokens of the problem's prompt. `right`: tokens of a right trace, without those of its bad
    steps. `good`, `bad`: tokens of steps that helped or hurt. `prefix`: tokens of a wrong trace before its first bad
    step. `steps`: the token's step, -1 for none. `sampler`: log mu, None if unknown."""

    problem_id: str
    prompt: int
    input_ids: list[int]
    right: list[bool]
    good: list[bool]
    bad: list[bool]
    prefix: list[bool]
    steps: list[int]
    sampler: list[float] | None = None
    kinds: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        kinds = ("right", "good", "bad", "prefix")
        self.kinds = frozenset(name for name in kinds if any(getattr(self, name)[1:]))


def hold_out(view: pa.Table, row_type: type, options: GuardOptions | None) -> tuple[pa.Table, pa.Table]:
    """(training rows, held-out rows), by problem and in the order given. Nothing is held out when guards are
    off, when the row type is not one of ROW_TYPES, or when there would be fewer than `options.at_least` problems."""
    nothing = view.slice(0, 0)
    if options is None or not options.enabled or row_type not in ROW_TYPES:
        return view, nothing
    problems = sorted(pc.unique(view.column("problem_id")).to_pylist(), key=_order)
    count = min(options.problems, round(options.holdout * len(problems)))
    if count < options.at_least:
        return view, nothing
    held = pc.is_in(view.column("problem_id"), value_set=pa.array(problems[:count], pa.string()))
    return view.filter(pc.invert(held)), view.filter(held)


def probes(rows: Sequence[Any], limit: int) -> list[Probe]:
    """At most `limit` probes from held-out rows, half of them with bad steps if there are any, taken from the problems
    in turn."""
    prompts: dict[str, int] = {}
    for row in rows:
        if isinstance(row, PreferenceRow):  # may contain a shared prefix: the shortest has the least of it
            prompts[row.problem_id] = min(prompts.get(row.problem_id, len(row.prompt_ids)), len(row.prompt_ids))
    found: list[Probe] = []
    for row in rows:
        if isinstance(row, PreferenceRow):
            found += _pair(row, prompts[row.problem_id])
        else:
            found.append(_unary(row) if isinstance(row, UnaryRow) else _single(row))
    bad = _in_turn([p for p in found if "bad" in p.kinds])
    other = _in_turn([p for p in found if "bad" not in p.kinds])
    take = min(len(bad), max(limit // 2, limit - len(other)))
    return bad[:take] + other[: limit - take]


def _single(row: Any) -> Probe:
    trained = [label != -100 for label in row.labels]
    prompt = next((i for i, t in enumerate(trained) if t), len(trained))
    nothing = [False] * len(trained)
    if isinstance(row, SftRow):
        return Probe(row.problem_id, prompt, row.input_ids, trained, nothing, nothing, nothing, [-1] * len(trained))
    good = [t and a > 0 for t, a in zip(trained, row.advantages, strict=True)]
    bad = [t and a < 0 for t, a in zip(trained, row.advantages, strict=True)]
    first = next((i for i, b in enumerate(bad) if b), 0)
    right = [t and not b for t, b in zip(trained, bad, strict=True)] if row.correct else nothing
    prefix = nothing if row.correct else [t and i < first for i, t in enumerate(trained)]
    return Probe(
        row.problem_id, prompt, row.input_ids, right, good, bad, prefix, row.step_ids, row.logprobs or None
    )  # fmt: skip


def _unary(row: UnaryRow) -> Probe:
    size = len(row.prompt_ids)
    ids = [*row.prompt_ids, *row.completion_ids]
    response, nothing = [i >= size for i in range(len(ids))], [False] * len(ids)
    steps = [0 if r else -1 for r in response]
    if row.label:
        return Probe(row.problem_id, size, ids, response, response, nothing, nothing, steps)
    return Probe(row.problem_id, size, ids, nothing, nothing, response, nothing, steps)


def _pair(row: PreferenceRow, prompt: int) -> list[Probe]:
    """Chosen and rejected, each after the prompt. What they share is the prefix; what differs is the step."""
    size = len(row.prompt_ids)
    both = zip(row.chosen_ids, row.rejected_ids, strict=False)
    shared = next((i for i, (c, r) in enumerate(both) if c != r), min(len(row.chosen_ids), len(row.rejected_ids)))
    out = []
    for ids, is_right in ((row.chosen_ids, True), (row.rejected_ids, False)):
        at = range(size + len(ids))
        response, differs = [i >= size for i in at], [i >= size + shared for i in at]
        nothing = [False] * len(at)
        out.append(
            Probe(
                problem_id=row.problem_id,
                prompt=prompt,
                input_ids=[*row.prompt_ids, *ids],
                right=response if is_right else nothing,
                good=differs if is_right else nothing,
                bad=nothing if is_right else differs,
                prefix=nothing if is_right else [prompt <= i < size + shared for i in at],
                steps=[0 if d else -1 for d in differs],
            )
        )
    return out


def _in_turn(items: list[Probe]) -> list[Probe]:
    """The first of each problem, then the second of each, and so on; problems in the order of their hashes."""
    rounds: dict[str, int] = {}
    keyed = []
    for item in items:
        turn = rounds[item.problem_id] = rounds.get(item.problem_id, -1) + 1
        keyed.append((turn, _order(item.problem_id), item))
    return [item for _, _, item in sorted(keyed, key=lambda k: k[:2])]


def _order(problem_id: str) -> str:
    return stable_id("guard", problem_id)


def unweighted_share(view: pa.Table) -> float | None:
    """Share of the steps to which credit gave no weight (dead zone, after the pit, outside the value band). None for
    rows without advantages."""
    if "advantages" not in view.column_names:
        return None
    offsets, steps = flat_column(view, "step_ids")
    advantages = flat_column(view, "advantages")[1]
    begins = np.ones(len(steps), bool)
    begins[1:] = steps[1:] != steps[:-1]
    begins[offsets[:-1][offsets[:-1] < len(steps)]] = True
    begins &= steps != -1
    return float((advantages[begins] == 0).mean()) if begins.any() else None
