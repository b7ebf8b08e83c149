"""The labeler `adaptive`: its package says how it works."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from negrl.labelers.adaptive.facts import Followers, learn_discount
from negrl.labelers.adaptive.posterior import Floats, PathPosterior, Paths
from negrl.labelers.base import Ask, Branch, Need, Outcome, Task
from negrl.labelers.belief.labeler import BeliefLabeler
from negrl.records import CORRECT
from negrl.steps.values import Difference, Estimate, verdict_value

_BATCH, _BATCH_SHARE = 2, 4  # rollouts per ask, and at least 1 for so many that the trace has asked for
_SURE = 0.95  # a step is settled when one side of the dead zone has this chance ...
_CLOSE = 0.1  # ... and, outside, the advantage is known to this standard deviation
_FIRST_LESSONS = 3  # EM iterations before the first ask


class AdaptiveLabeler:
    name = "adaptive"

    def __init__(self, settings: Any):
        """`settings`: `AdaptiveOptions`, `confidence` and `dead_zone` as attributes."""
        self.settings = settings
        needs: set[Need] = {"rollouts", "branches"}
        if settings.belief is not None:
            needs.add("beliefs")
        if settings.merge == "facts":
            needs.add("facts")
        self.needs: frozenset[Need] = frozenset(needs)

    def start(self, tasks: Sequence[Task]) -> None:
        known = self.settings.step_chances
        self._tasks = list(tasks) if known else [replace(t, step_logps=None) for t in tasks]
        self._merge()
        self._spent_tokens, self._rounds, self._learned_at = 0, 0, 0
        self._known: Paths | None = None
        self._followers: Followers | None = None
        if self.settings.merge == "facts":
            known_p = np.array([self._tasks[t].step_logps is not None for t in self._first], bool)
            discount = learn_discount(self._tasks)
            self._followers = Followers(self._posterior, self._posterior.p, known_p, discount, self.settings.confidence)
        for path, t in enumerate(self._first):
            for branch in self._tasks[t].samples:
                self._add(path, branch)
        self._update()
        if self.settings.belief is not None:
            self._posterior.hints = self._hints()
        self._posterior.learn(_FIRST_LESSONS)
        self._open = np.arange(len(self._first))
        self._least = self._worth_of_a_sample() if self.settings.rollouts == "worthwhile" and len(self._first) else 0.0

    def _add(self, path: int, branch: Branch, begin: int = -1) -> None:
        """Samples that were started after step `begin` of a path."""
        if self._followers is not None:
            self._followers.add(path, branch, begin)
        else:  # without p only where they were started is known
            left = branch.left if self._tasks[self._first[path]].step_logps else begin
            self._posterior.add(path, left, branch.n, branch.successes)

    def _update(self) -> None:
        if self._followers is not None:
            self._followers.update()

    def _merge(self) -> None:
        """Traces that are the same in all steps are one path; prefixes that are the same have one number."""
        tasks = self._tasks
        path_of: dict[tuple[object, ...], int] = {}
        self._path: list[int] = []
        self._first: list[int] = []  # the first trace of each path speaks for all
        for t, task in enumerate(tasks):
            key = (task.problem.problem_id, task.verdict, task.step_logps is None, *(s.text for s in task.steps))
            if key not in path_of:
                path_of[key] = len(path_of)
                self._first.append(t)
            self._path.append(path_of[key])
        n, m = len(self._first), max((len(t.steps) for t in tasks), default=0)
        p, self._cost = np.zeros((n, m), np.float32), np.ones((n, m), np.float32)
        self._prefix = np.zeros((n, m), np.int64)
        numbers: dict[tuple[str, ...], int] = {}
        for path, t in enumerate(self._first):
            task = tasks[t]
            prefix: tuple[str, ...] = (task.problem.problem_id,)
            for i, step in enumerate(task.steps):
                self._prefix[path, i] = numbers.setdefault(prefix, len(numbers))
                self._cost[path, i] = task.steps[-1].end - step.start
                prefix = (*prefix, step.text)
            if task.step_logps is not None:
                p[path, : len(task.steps)] = np.exp(task.step_logps)
        self._prefixes = len(numbers)
        self._weight = np.bincount(self._path, minlength=n).astype(np.float32)
        self._steps = np.array([len(tasks[t].steps) for t in self._first], np.int64)
        right = np.array([tasks[t].verdict == CORRECT for t in self._first], bool)
        self._posterior = PathPosterior(p, self._steps, right, self._weight, self.settings.best_of)
        self._asked = np.zeros(n, np.int64)
        self._direct: dict[tuple[int, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
        self._exhausted = np.zeros((n, m), bool)

    def _hints(self) -> Floats | None:
        """The calibrated beliefs as pseudo-counts: a value known to variance rho V (1 - V) is worth 1 / rho - 1
        samples. The beliefs of one trace err together, so they share that number; and only the share of the
        verdicts' log loss by which they beat V_0, which is known already, is news."""

        belief = BeliefLabeler(self.settings.confidence)
        belief.start(self._tasks)
        hints = np.zeros((len(self._first), self._prefix.shape[1] + 1, 2), np.float32)
        worth, loss, loss_of_v0 = 1 / max(belief.rho, 0.01) - 1, 0.0, 0.0
        for path, t in enumerate(self._first):
            values = belief.values(t)[:-1]
            n, right = (sum(getattr(b, name) for b in self._tasks[t].samples) for name in ("n", "successes"))
            v0 = (right + 0.5) / (n + 1)
            for i, value in enumerate(values, start=1):
                if value is not None:
                    hints[path, i] = np.array([value.value, 1 - value.value]) * worth / len(values)
                    told, before = (v if self._tasks[t].verdict == CORRECT else 1 - v for v in (value.value, v0))
                    loss -= self._weight[path] / len(values) * np.log(max(told, 1e-6))
                    loss_of_v0 -= self._weight[path] / len(values) * np.log(max(before, 1e-6))
        return hints * (1 - loss / loss_of_v0) if loss < loss_of_v0 else None

    @property
    def discount(self) -> float | None:
        """What a sample in the same state counts, learned from the traces; None with `merge: tokens`."""
        return None if self._followers is None else self._followers.discount

    def ask(self) -> list[Ask]:
        limit, budget = self.settings.max_rollouts, self.settings.budget_tokens
        self._open = self._open[self._asked[self._open] < limit]
        if not len(self._open) or (budget is not None and self._spent_tokens >= budget):
            return []
        if self._rounds >= 2 * self._learned_at:  # after rounds 1, 2, 4, 8, ...
            self._learned_at = max(1, self._rounds)
            self._posterior.learn()
        self._rounds += 1
        settings = self.settings
        known = self._posterior.paths(self._open, settings.confidence, settings.dead_zone, covariance=True)
        unsettled = self._unsettled(known)
        going = np.asarray(unsettled.any(1))
        self._open, unsettled = self._open[going], unsettled[going]
        worth = self._worth(known, going, unsettled)
        asks: dict[int, tuple[float, Ask, int]] = {}
        best = worth.argmax(1)
        batch = np.maximum(_BATCH, self._asked[self._open] // _BATCH_SHARE)
        for row, path in enumerate(self._open):
            i = int(best[row])
            if worth[row, i] <= self._least:
                continue
            count = int(min(batch[row], limit - self._asked[path]))
            number = int(self._prefix[path, i])
            before = asks[number][1].count if number in asks else 0
            ask = Ask(self._first[path], i - 1, max(count, before))
            asks[number] = (float(worth[row, i]), ask, int(path))
            self._asked[path] += count
        chosen = sorted(asks.values(), key=lambda a: -a[0])
        if budget is not None:
            costs = np.cumsum([ask.count * self._cost[path, ask.step_index + 1] for _, ask, path in chosen])
            chosen = chosen[: int((self._spent_tokens + costs <= budget).sum())]
        return [ask for _, ask, _ in chosen]

    def _unsettled(self, known: Paths) -> np.ndarray:
        """(open paths, M): the steps of which training could still read something else."""
        neutral = 1 - known.helps - known.hurts
        sure = np.maximum(np.maximum(known.helps, known.hurts), neutral) >= _SURE
        unsettled = ~sure | ((neutral < 1 - _SURE) & (known.advantage_sd > _CLOSE))
        inside: np.ndarray = np.arange(unsettled.shape[1]) < self._steps[self._open][:, None]
        return unsettled & inside

    def _worth(self, known: Paths, going: np.ndarray, unsettled: np.ndarray) -> Floats:
        """(open paths, M): what a batch from before each step buys per token, for all traces that share it."""
        assert known.covariance is not None
        explained = (known.covariance[going] ** 2 * unsettled[:, None, :]).sum(2)
        variance, mean = known.variance[going], known.plain_value[going]
        noise = np.maximum(mean * (1 - mean) - variance, 0) / _BATCH
        gain = explained / (variance + noise + 1e-6) * self._weight[self._open][:, None]
        inside = np.arange(gain.shape[1]) < self._steps[self._open][:, None]
        usable = inside & ~self._exhausted[self._open]
        number = self._prefix[self._open]
        total = np.bincount(number[usable], weights=gain[usable], minlength=self._prefixes)
        return np.where(usable, total[number] / self._cost[self._open], 0)

    def _worth_of_a_sample(self) -> float:
        """What a token of a fresh trace brings, in the unit of `_worth` (a batch for the price of one rollout)."""
        every = np.arange(len(self._first))
        known = self._posterior.paths(every, self.settings.confidence, self.settings.dead_zone)
        tokens = np.array([self._tasks[t].steps[-1].end for t in self._first], np.float32)
        signal = (known.advantage**2).sum(1)
        return float(_BATCH * (self._weight * signal).sum() / max(1.0, (self._weight * tokens).sum()))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        self._known = None
        told: set[int] = set()
        for o in outcomes:
            path = self._path[o.trace]
            if self._first[path] != o.trace:
                continue
            task = self._tasks[o.trace]
            number = int(self._prefix[path, o.step_index + 1]) if o.step_index + 1 < len(task.steps) else -1
            if number not in told:
                told.add(number)
                self._spent_tokens += o.tokens
            if not o.n:  # no room for a rollout here
                self._exhausted[path, o.step_index + 1] = True
            n, successes = self._direct[path, o.step_index]
            self._direct[path, o.step_index] = (n + o.n, successes + o.successes)
            for branch in o.branches:
                self._add(path, branch, o.step_index)
        self._update()

    def _all(self) -> Paths:
        if self._known is None:
            self._posterior.learn()
            every = np.arange(len(self._first))
            self._known = self._posterior.paths(every, self.settings.confidence, self.settings.dead_zone)
        return self._known

    def values(self, trace: int) -> list[Estimate | None]:
        """Posterior means and central intervals. n and successes are the rollouts from exactly this prefix;
        the value rests on more than these."""
        known, path, task = self._all(), self._path[trace], self._tasks[trace]
        earlier: list[Estimate | None] = [
            Estimate(
                float(known.value[path, i + 1]),
                float(known.value_low[path, i + 1]),
                float(known.value_high[path, i + 1]),
                *self._direct.get((path, i), (0, 0)),
            )
            for i in range(len(task.steps) - 1)
        ]
        return [*earlier, verdict_value(task.verdict)]

    def advantages(self, trace: int) -> list[Difference | None]:
        known, path = self._all(), self._path[trace]
        columns = (known.advantage, known.advantage_low, known.advantage_high)
        return [Difference(*(float(c[path, i]) for c in columns)) for i in range(len(self._tasks[trace].steps))]
