"""What `bisect` and `first_zero` share: looking for the step of a wrong trace from which nothing comes out right."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from negrl.labelers.base import Ask, CountingLabeler, Opening, Outcome, Task
from negrl.records import INCORRECT
from negrl.steps.values import Difference, Estimate


class SearchLabeler(CountingLabeler, ABC):
    """Looks at some steps of each wrong trace, `k` rollouts a look, until `_search` has found its step. Right
    traces are not searched: they cost nothing and stay unlabelled.

    Every counted value is given, but of the advantages only that of the found step: the search says of
    the others where they stand and no more. So the pit of `credit.label_steps` is the found step or none: none
    where the value before it (counted, or V_0) is no more than the dead zone above the 0 after it. With K=8
    and a dead zone of 0.2, 1 of 8 and then 0 of 8 is no fall; `found` says the step all the same.
    """

    def __init__(self, k: int, confidence: float, best_of: int = 1):
        super().__init__(confidence, best_of)
        self.k = k
        self._blind: set[tuple[int, int]] = set()
        """Looks that gave nothing: no room for a rollout, or none that could be judged."""

    @classmethod
    def open(cls, opening: Opening) -> Self:
        settings = opening.settings
        return cls(settings.k, settings.confidence, settings.best_of)

    def start(self, tasks: Sequence[Task]) -> None:
        super().start(tasks)
        self._blind = set()

    def ask(self) -> list[Ask]:
        looks = ((t, self._search(t)[0]) for t in range(len(self.tasks)) if self._searched(t))
        return [Ask(t, step, self.k) for t, step in looks if step is not None]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        super().tell(outcomes)
        self._blind.update((o.trace, o.step_index) for o in outcomes if o.n == 0)

    def found(self, trace: int) -> int | None:
        """The step that the search ended at. None in a right trace, while there is more to ask, and where
        the place could not be looked at."""
        return self._search(trace)[1] if self._searched(trace) else None

    def values(self, trace: int) -> list[Estimate | None]:
        return super().values(trace) if self._searched(trace) else [None] * len(self.tasks[trace].steps)

    def advantages(self, trace: int) -> list[Difference | None]:
        found = self.found(trace)
        return [a if i == found else None for i, a in enumerate(super().advantages(trace))]

    def _searched(self, trace: int) -> bool:
        return self.tasks[trace].verdict == INCORRECT

    @abstractmethod
    def _search(self, trace: int) -> tuple[int | None, int | None]:
        """Of a wrong trace, by what is known now: the step to look at next, or else the step found."""

    def _look(self, trace: int, step: int) -> str:
        """ "alive" (some rollout came out right), "dead" (none did), "blind" or "unknown"."""
        n, successes = self.counts[trace][step]
        if n:
            return "alive" if successes else "dead"
        return "blind" if (trace, step) in self._blind else "unknown"
