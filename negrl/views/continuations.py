"""How right answers continue from given places: those that started there, and those that passed through.

A place is a problem and the first tokens of a response. Looking up every prefix of every response by its
tokens would take quadratic time. Here a rolling hash (Karp & Rabin 1987) is updated token by token, and tokens
themselves are compared only where it equals a place's. So the time is linear.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from negrl.records import CORRECT, Rollout, Step, Trace
from negrl.steps.split import split_steps
from negrl.views.inputs import ViewInputs, in_order

Tokens = tuple[int, ...]
Place = tuple[str, Tokens]
"""A problem and the response's tokens so far."""
Continuations = dict[Place, dict[Tokens, list[tuple[bool, str]]]]
"""Place -> the next step of right answers -> (passed through?, trace or rollout id) of those that began with it."""

_BASE, _MODULUS = 1_000_003, (1 << 61) - 1


def right_continuations(inputs: ViewInputs, places: Iterable[Place]) -> Continuations:
    """The steps that follow each place in right answers, those that began most of them first; under each,
    traces come before rollouts that started at the place, and these before rollouts that started earlier and
    passed through it.

    Of a trace only its own steps count, except those known to be bad or spurious. A rollout counts for places at or
    after its start: what is before that belongs to the trace that it continues.
    """
    known = _Places(places)
    found: Continuations = defaultdict(lambda: defaultdict(list))
    for trace in in_order(inputs.traces):
        if trace.verdict == CORRECT and trace.problem_id in known:
            for place, step in _after_steps(trace, inputs.steps.get(trace.trace_id, []), known):
                found[place][step].append((False, trace.trace_id))
    walks = _Walks(inputs)
    passing: list[tuple[Place, Tokens, str]] = []
    for rollout in sorted(inputs.rollouts, key=lambda r: r.rollout_id):
        if rollout.verdict != CORRECT or not rollout.token_ids or rollout.problem_id not in known:
            continue
        for place, offset in walks.places(rollout, known):
            step = walks.step_at(rollout, offset)
            if offset:
                passing.append((place, step, rollout.rollout_id))
            else:
                found[place][step].append((False, rollout.rollout_id))
    for place, step, rollout_id in passing:
        found[place][step].append((True, rollout_id))
    return {
        place: dict(sorted(steps.items(), key=lambda item: (-len(item[1]), item[0]))) for place, steps in found.items()
    }


class _Places:
    """Places by problem and hash."""

    def __init__(self, places: Iterable[Place]):
        self._by_hash: dict[str, dict[int, list[Place]]] = defaultdict(dict)
        for place in places:
            self._by_hash[place[0]].setdefault(_hash(0, place[1]), []).append(place)

    def __contains__(self, problem_id: str) -> bool:
        return problem_id in self._by_hash

    def hashes(self, problem_id: str) -> dict[int, list[Place]]:
        return self._by_hash[problem_id]


def _hash(before: int, tokens: Sequence[int]) -> int:
    for token in tokens:
        before = (before * _BASE + token + 1) % _MODULUS
    return before


def _after_steps(trace: Trace, steps: list[Step], known: _Places) -> Iterator[tuple[Place, Tokens]]:
    table, hashed, at = known.hashes(trace.problem_id), 0, 0
    for step in steps:
        hashed, at = _hash(hashed, trace.token_ids[at : step.start]), step.start
        for place in table.get(hashed, ()):
            if step.label not in ("bad", "spurious") and place[1] == tuple(trace.token_ids[:at]):
                yield place, tuple(trace.token_ids[at : step.end])


class _Walks:
    """Along the tokens of rollouts, from where each leaves its trace."""

    def __init__(self, inputs: ViewInputs):
        self._inputs = inputs
        self._traces = {t.trace_id: t for t in inputs.traces}
        self._prefix_hashes: dict[str, list[int]] = {}
        self._first_steps: dict[Tokens, Tokens] = {}
        self._steps: tuple[str, dict[int, Tokens]] = ("", {})

    def places(self, rollout: Rollout, known: _Places) -> Iterator[tuple[Place, int]]:
        """Each place that the rollout starts at or passes, and how many of its tokens stand before it."""
        table, (hashed, end) = known.hashes(rollout.problem_id), self._start(rollout)
        before, tokens = self._traces[rollout.trace_id].token_ids, rollout.token_ids
        for offset, token in enumerate(tokens):
            for place in table.get(hashed, ()):
                if place[1] == tuple(before[:end] + tokens[:offset]):
                    yield place, offset
            hashed = (hashed * _BASE + token + 1) % _MODULUS

    def _start(self, rollout: Rollout) -> tuple[int, int]:
        """The hash of the prefix that the rollout continues, and how many of its trace's tokens that is."""
        trace = self._traces[rollout.trace_id]
        if trace.trace_id not in self._prefix_hashes:
            hashes = [0]  # of the prompt alone, then up to the end of each step
            for step in self._inputs.steps.get(trace.trace_id, []):
                hashes.append(_hash(hashes[-1], trace.token_ids[step.start : step.end]))
            self._prefix_hashes[trace.trace_id] = hashes
        index = rollout.step_index
        end = self._inputs.steps[trace.trace_id][index].end if index >= 0 else 0
        return self._prefix_hashes[trace.trace_id][index + 1], end

    def step_at(self, rollout: Rollout, offset: int) -> Tokens:
        """The step that begins after `offset` tokens of the rollout."""
        if self._steps[0] != rollout.rollout_id:
            self._steps = (rollout.rollout_id, self._split(rollout.token_ids) if offset else {})
        tokens = self._steps[1].get(offset)
        return tokens if tokens is not None else self._first_step(rollout.token_ids[offset:])

    def _split(self, token_ids: list[int]) -> dict[int, Tokens]:
        spans = split_steps(token_ids, self._inputs.tokenizer, self._inputs.label)
        return {s.start: tuple(token_ids[s.start : s.end]) for s in spans}

    def _first_step(self, token_ids: list[int]) -> Tokens:
        key = tuple(token_ids)
        if key not in self._first_steps:
            end = split_steps(token_ids, self._inputs.tokenizer, self._inputs.label)[0].end
            self._first_steps[key] = key[:end]
        return self._first_steps[key]
