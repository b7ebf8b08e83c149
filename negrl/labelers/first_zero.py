"""The first pit from the left (Self-Explore, arXiv:2404.10346, k = 4): K rollouts after each step from the start
on, until after one of them none comes out right. That is the step; when there is none it is the last."""

from __future__ import annotations

from negrl.labelers.base import LabelerSpec, LookOptions
from negrl.labelers.search import SearchLabeler


class FirstZeroLabeler(SearchLabeler):
    name = "first_zero"

    def _search(self, trace: int) -> tuple[int | None, int | None]:
        last = len(self.tasks[trace].steps) - 1
        for step in range(last):
            look = self._look(trace, step)
            if look == "unknown":
                return step, None
            if look != "alive":
                return None, step if look == "dead" else None
        return None, last


LABELER = LabelerSpec("first_zero", FirstZeroLabeler.open, LookOptions)
