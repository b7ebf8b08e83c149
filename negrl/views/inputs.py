"""What every view is built from, and what every view returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from negrl.records import CORRECT, INCORRECT, Problem, Rollout, SftRow, Step, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from negrl.labeling.section import LabelSection

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class ViewInputs:
    """One round's tables; those that the method does not need (`Method.needs`) are empty.

    `solutions`: the reference solutions, tokenized and ending with EOS. `steps`: by trace id, in order. `v0`: the
    value of each problem's prompt. `max_length`: in tokens, prompt and response together (None: no limit).
    `tokenizer` and `label` split rollouts into steps just as the traces were. `prompts`: token ids by problem id."""

    problems: dict[str, Problem]
    solutions: list[Trace]
    traces: list[Trace]
    steps: dict[str, list[Step]]
    rollouts: list[Rollout]
    v0: dict[str, float]
    label: LabelSection
    max_length: int | None
    tokenizer: PreTrainedTokenizerBase
    prompts: dict[str, list[int]] = field(default_factory=dict)

    def fits(self, *parts: list[int]) -> bool:
        """Do these tokens together fit in `max_length`?"""
        return self.max_length is None or sum(map(len, parts)) <= self.max_length


@dataclass(frozen=True, slots=True)
class View(Generic[Row]):
    """A training table and plain facts about how it came about."""

    rows: list[Row]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Responses:
    """The distinct responses to one problem, by verdict. Undecided ones are in neither list."""

    right: list[Trace]
    wrong: list[Trace]


def by_problem(inputs: ViewInputs, counts: dict[str, int]) -> dict[str, Responses]:
    """The decided traces of each problem: equal ones (by token ids) once, without those that exceed
    `max_length`. Counts duplicates, undecided and refused_no_room. Problems and traces are
    in an order that depends on their ids alone, not on the order of the input."""
    counts.update(duplicates=0, undecided=0, refused_no_room=0)
    seen: set[tuple[str, tuple[int, ...]]] = set()
    out: dict[str, Responses] = {}
    for trace in in_order(inputs.traces):
        if trace.verdict not in (CORRECT, INCORRECT):
            counts["undecided"] += 1
            continue
        key = (trace.problem_id, tuple(trace.token_ids))
        if key in seen:
            counts["duplicates"] += 1
        elif not inputs.fits(trace.prompt_token_ids, trace.token_ids):
            counts["refused_no_room"] += 1
        else:
            responses = out.setdefault(trace.problem_id, Responses([], []))
            (responses.right if trace.verdict == CORRECT else responses.wrong).append(trace)
        seen.add(key)
    return out


def in_order(traces: Iterable[Trace]) -> list[Trace]:
    return sorted(traces, key=lambda t: (t.problem_id, t.round, t.sample_index, t.trace_id))


def sft_row(trace: Trace) -> SftRow:
    """Prompt and response; only the response has a loss."""
    prompt, response = trace.prompt_token_ids, trace.token_ids
    return SftRow(trace.problem_id, trace.trace_id, prompt + response, [-100] * len(prompt) + response)
