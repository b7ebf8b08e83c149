"""K rollouts after every step but the last (Math-Shepherd, arXiv:2312.08935; VinePPO, arXiv:2410.01679).

The peer to beat: nothing is spent cleverly, and nothing can go subtly wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from negrl.labelers.base import Ask, CountingLabeler, LabelerSpec, LookOptions, Opening, Task


class FixedLabeler(CountingLabeler):
    name = "fixed"

    def __init__(self, k: int, confidence: float, best_of: int = 1):
        super().__init__(confidence, best_of)
        self.k = k
        self._asked = False

    def start(self, tasks: Sequence[Task]) -> None:
        super().start(tasks)
        self._asked = False

    def ask(self) -> list[Ask]:
        if self._asked:
            return []
        self._asked = True
        return [Ask(t, i, self.k) for t, task in enumerate(self.tasks) for i in range(len(task.steps) - 1)]


def _open(opening: Opening) -> FixedLabeler:
    settings = opening.settings
    return FixedLabeler(settings.k, settings.confidence, settings.best_of)


LABELER = LabelerSpec("fixed", _open, LookOptions)
