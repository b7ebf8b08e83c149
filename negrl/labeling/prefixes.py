"""Prefixes of traces, equal ones merged, and where other responses leave a trace's path."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from negrl.labelers.base import Branch
from negrl.records import CORRECT, Trace
from negrl.steps.facts import State
from negrl.steps.split import Span
from negrl.steps.values import VERIFIER_FAILED, Estimate


@dataclass(slots=True, eq=False)
class Prefix:
    """One distinct prefix: the first `end` tokens of `trace`, that end with step `step_index` (-1: none)."""

    trace: Trace
    step_index: int
    end: int
    members: list[tuple[int, int]] = field(default_factory=list)
    """(task, step index) of every trace that begins like this."""
    drawn: int = 0
    """Rollouts so far."""
    followed_by: dict[tuple[int, ...], Prefix] = field(default_factory=dict)
    """By the tokens of the next step."""
    _key: str = ""

    @property
    def key(self) -> str:
        """Depends on the problem, the prompt and the tokens only: the same wherever the prefix turns up."""
        if not self._key:
            digest = blake2b(self.trace.problem_id.encode(), digest_size=16)
            prompt = self.trace.prompt_token_ids
            digest.update(array("q", [len(prompt), *prompt, *self.token_ids]).tobytes())
            self._key = digest.hexdigest()
        return self._key

    @property
    def token_ids(self) -> list[int]:
        """Without the prompt."""
        return self.trace.token_ids[: self.end]


def merge_prefixes(tasks: Sequence[tuple[Trace, Sequence[Span]]]) -> list[list[Prefix]]:
    """For each task its prefixes, the prompt first (so the prefix of step i is at i + 1); equal ones
    (same problem, same tokens) are one object."""
    roots: dict[tuple[str, tuple[int, ...]], Prefix] = {}
    out: list[list[Prefix]] = []
    for task, (trace, spans) in enumerate(tasks):
        place = (trace.problem_id, tuple(trace.prompt_token_ids))
        at = roots.get(place)
        if at is None:
            at = roots[place] = Prefix(trace, -1, 0)
        at.members.append((task, -1))
        mine = [at]
        for i, span in enumerate(spans):
            step = tuple(trace.token_ids[span.start : span.end])
            after = at.followed_by.get(step)
            if after is None:
                after = at.followed_by[step] = Prefix(trace, i, span.end)
            after.members.append((task, i))
            mine.append(after)
            at = after
        out.append(mine)
    return out


@dataclass(frozen=True, slots=True)
class Path:
    """A trace's tokens, where its steps end, and what it has worked out there (only for a labeler that reads facts)."""

    token_ids: list[int]
    ends: list[int]
    right: bool = False
    states: list[State] | None = None

    def left_by(self, token_ids: list[int], step_index: int) -> int:
        """The last step of this trace that a continuation of its prefix up to `step_index` follows whole."""
        at = start = self.ends[step_index] if step_index >= 0 else 0
        for index, end in enumerate(self.ends[step_index + 1 :], start=step_index + 1):
            if token_ids[at - start : end - start] != self.token_ids[at:end]:
                return index - 1
            at = end
        return len(self.ends) - 1

    def met_by(self, passed: Collection[State], right: bool) -> int:
        """The last step after which a response that went through the states `passed` has worked out the same; -1:
        none. The same in the end is a response with the same verdict only."""
        last = len(self.ends) - 1
        states = self.states or []
        return next(
            (i for i in reversed(range(len(states))) if states[i] in passed and (i < last or right == self.right)), -1
        )


def branches(samples: Iterable[tuple[int, int, bool]]) -> tuple[Branch, ...]:
    """(left, met, right) of each sample, counted."""
    counted: dict[tuple[int, int], tuple[int, int]] = {}
    for left, met, right in samples:
        n, successes = counted.get((left, met), (0, 0))
        counted[left, met] = (n + 1, successes + right)
    return tuple(Branch(left, n, successes, met) for (left, met), (n, successes) in sorted(counted.items()))


def other_samples(
    traces: Sequence[Trace],
    paths: Mapping[int, Path],
    v0: Mapping[str, Estimate],
    passed: Callable[[Trace], Collection[State]] = lambda trace: (),
) -> list[tuple[Branch, ...]]:
    """For each of `paths` (by index into `traces`), the outcomes of its problem's other traces by where they
    leave it. Of a trace that the policy did not write nothing is known but V_0.

    Args:
        passed: the states that a trace goes through, for a labeler that reads facts.
    """
    by_problem: dict[str, list[int]] = {}
    for i, trace in enumerate(traces):
        if trace.logprobs is not None and trace.verdict is not None and trace.verdict_reason not in VERIFIER_FAILED:
            by_problem.setdefault(trace.problem_id, []).append(i)
    found: list[tuple[Branch, ...]] = []
    for i, path in paths.items():
        trace, prompt = traces[i], v0[traces[i].problem_id]
        if trace.logprobs is None:
            found.append((Branch(-1, prompt.n, prompt.successes),) if prompt.n else ())
        else:
            others = [(traces[j], traces[j].verdict == CORRECT) for j in by_problem[trace.problem_id] if j != i]
            found.append(branches((path.left_by(o.token_ids, -1), path.met_by(passed(o), ok), ok) for o, ok in others))
    return found
