"""`none`: no values at all. The traces are split into steps and shown; nothing is sampled."""

from __future__ import annotations

from collections.abc import Sequence

from negrl.labelers.base import NOTHING, Ask, LabelerSpec, Outcome, Task
from negrl.steps.values import Difference, Estimate


class NoLabeler:
    """Asks nothing, knows nothing."""

    name = "none"
    needs = NOTHING

    def start(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)

    def ask(self) -> list[Ask]:
        return []

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        raise ValueError(f"nothing was asked, but {len(outcomes)} outcomes came")

    def values(self, trace: int) -> list[Estimate | None]:
        return [None] * len(self._tasks[trace].steps)

    def advantages(self, trace: int) -> list[Difference | None]:
        return [None] * len(self._tasks[trace].steps)


LABELER = LabelerSpec("none", lambda opening: NoLabeler(), makes_values=False)
