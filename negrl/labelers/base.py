"""What a labeler is, and what it declares.

A labeler is pure logic and knows no engine. The driver (negrl/labeling) hands it all traces at once (`start`), then
takes its asks and tells it the outcomes, round after round, until it asks for nothing more. So every
labeler batches over thousands of traces, and each is tested without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from negrl.options import Options
from negrl.records import Problem
from negrl.steps.split import Span
from negrl.steps.values import Difference, Estimate, difference, estimate, verdict_value, with_best_of


@dataclass(frozen=True, slots=True)
class Branch:
    """`n` samples of the policy that follow a trace through its step `left` (-1: not even the first) and
    then leave it; `successes` of them came out right.

    `met`: the last step of the trace after which they have worked out the same facts, in whatever words; at least
    `left`, and known only for labelers that read facts.
    """

    left: int
    n: int
    successes: int
    met: int = -1

    @property
    def followed(self) -> int:
        """The last step that they share with the trace, be it by words or by facts."""
        return max(self.left, self.met)


@dataclass(frozen=True, slots=True)
class Task:
    """One decided trace to label. `steps` has at least one step; `v0` is its problem's V_0."""

    problem: Problem
    verdict: str
    v0: Estimate
    steps: list[Span]
    step_logps: list[float] | None = None
    """log p of each step after the ones before it, under the sampling that the rollouts have too; None where
    the trace is not this policy's, or was drawn otherwise."""
    samples: tuple[Branch, ...] = ()
    """What the policy's other sampled traces of this problem came to. Only for labelers that read branches."""
    beliefs: list[float] | None = None
    """log p(gold answer | prefix) of the prompt and then of each step's end, so one more than there are
    steps. Only for labelers that read beliefs."""


@dataclass(frozen=True, slots=True)
class Ask:
    """`count` more rollouts from the prefix of task `trace` (its index in `start`) that ends with
    step `step_index`; -1: from the prompt."""

    trace: int
    step_index: int
    count: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`successes` of `n` new rollouts from that prefix came out right; together they took `tokens`.

    A trace is also told what other traces with an equal prefix asked for. `n` may be less than was
    asked (rollouts that the verifier could not judge), and is 0 where the prefix leaves no room for
    a rollout: asking again gets 0 again. `branches` are the same rollouts by where they left this trace
    (only for labelers that read branches).
    """

    trace: int
    step_index: int
    n: int
    successes: int
    tokens: int = 0
    branches: tuple[Branch, ...] = ()


Need = Literal["rollouts", "branches", "facts", "beliefs", "rewards", "world"]
"""What a labeler can ask of its surroundings.

`rollouts`: continuations of prefixes (`ask`). `branches`: where the problem's other traces, and the rollouts, leave a
trace. `facts`: with the branches, where they meet it again by what has been worked out (negrl/steps/facts.py, or the
world's own `facts`). `beliefs`: log p(gold answer | prefix), after the text of the option `belief`. `rewards`:
log p(right | prefix) of the process reward model that the option `prm` names. `world`: the problem source's oracle. The
policy is loaded into an engine for rollouts and beliefs only.
"""
NOTHING: frozenset[Need] = frozenset()


class Labeler(Protocol):
    name: str
    needs: frozenset[Need]
    """What it wants in its tasks and outcomes; may depend on its options."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Forget everything and begin with these traces. Called once, before the first `ask`."""
        ...

    def ask(self) -> list[Ask]:
        """What is wanted now; empty when every trace is finished."""
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came of the last asks, and for prefixes that others asked for: more than was asked may come. Only
        called after an ask."""
        ...

    def values(self, trace: int) -> list[Estimate | None]:
        """V_i of each step of a task, None where nothing is known."""
        ...

    def advantages(self, trace: int) -> list[Difference | None]:
        """A_i of each step of a task, None where nothing is known."""
        ...


class CountingLabeler:
    """What labelers by rollouts share: counts per prefix, plain ratios as values, plain differences
    as advantages. A subclass decides what to ask.

    With `best_of` K > 1 the values (V_0 in the differences too) are the chance that the best of K tries is
    right, by the unbiased estimator; fewer counts than K give none.
    """

    needs: frozenset[Need] = frozenset({"rollouts"})

    def __init__(self, confidence: float, best_of: int = 1):
        self.confidence, self.best_of = confidence, best_of
        self.tasks: list[Task] = []
        self.counts: list[list[tuple[int, int]]] = []
        """(n, successes) of each step of each task."""

    def start(self, tasks: Sequence[Task]) -> None:
        self.tasks = list(tasks)
        self.counts = [[(0, 0)] * len(t.steps) for t in self.tasks]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for o in outcomes:
            if o.step_index >= 0:
                n, successes = self.counts[o.trace][o.step_index]
                self.counts[o.trace][o.step_index] = (n + o.n, successes + o.successes)

    def values(self, trace: int) -> list[Estimate | None]:
        """The last step's value is the verdict: the trace is finished, nothing is left to chance."""
        known = self.counts[trace][:-1]
        earlier = [estimate(successes, n, self.confidence, self.best_of) for n, successes in known]
        return [*earlier, verdict_value(self.tasks[trace].verdict)]

    def advantages(self, trace: int) -> list[Difference | None]:
        return plain_differences(self.values(trace), self.v0(trace))

    def v0(self, trace: int) -> Estimate | None:
        """V_0 of a task's problem, as the values are given."""
        return with_best_of(self.tasks[trace].v0, self.confidence, self.best_of)


def plain_differences(values: Sequence[Estimate | None], v0: Estimate | None) -> list[Difference | None]:
    """A_i = V_i - V_(i-1), with V_0 before the first; None where either side is missing."""
    before: list[Estimate | None] = [v0, *values[:-1]]
    return [difference(v, b) if v and b else None for v, b in zip(values, before, strict=True)]


@dataclass(frozen=True, slots=True)
class Opening:
    """What a labeler is made from.

    `settings`: the keys of the `label` section that the labeler declares (its options, its `reads`, and
    `confidence`), as attributes; reading any other is an error, since its value would not be in the stage's key.
    `value`: the world's oracle, None where the problems have none. `part(name, **changes)`: opens another labeler, for
    one that combines several, with some settings changed.
    """

    settings: Any
    value: Callable[[Problem, str], float] | None
    part: Callable[..., Labeler]


def _no_parts(data: Mapping[str, Any]) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True)
class LabelerSpec:
    """A labeler as its module declares it; `LABELER` by custom.

    Args:
        name: what `label.labeler` says.
        open: makes the labeler. It must load no model: it is called by preflight, too.
        options: keys of the `label` section that are there with this labeler only. All are in the stage's key,
            unless declared with `unkeyed`. An option `budget_tokens` (of a round) is shared out among the shards.
        reads: the common keys of the `label` section, beside `confidence`, that its values depend on.
        parts: for a labeler that combines others: their names, by the section's keys as given. Their options and
            `reads` come on top.
        whole_round: it learns from all traces of a round at once, not shard by shard.
        makes_values: False: it puts no value on any step.
    """

    name: str
    open: Callable[[Opening], Labeler]
    options: type[Options] = Options
    reads: tuple[str, ...] = ()
    parts: Callable[[Mapping[str, Any]], Iterable[str]] = _no_parts
    whole_round: bool = False
    makes_values: bool = True


class BestOfOptions(Options):
    best_of: int = Field(1, ge=1)
    """Values are the chance that the best of this many tries is right (Setlur et al. 2024: 5). 1: of one try. Fewer
    counts than this give no value, so k (and sample.n, for V_0) must not be smaller."""


class LookOptions(BestOfOptions):
    """Of the labelers that draw k rollouts wherever they look."""

    k: int = Field(8, ge=1)
    """Rollouts after every step that is looked at."""


class BeliefOptions(BestOfOptions):
    belief: str | None = None
    """Text between a prefix and the gold answer whose log p tells the policy's belief in it, e.g. "\\n#### ". Default:
    by `verify.extract` for labeler belief; none for adaptive, whose prior it would be."""
