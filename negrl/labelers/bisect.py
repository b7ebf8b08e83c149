"""Binary search for the first error (OmegaPRM, arXiv:2406.06592): K rollouts in the middle; one that comes
out right sends the search to the right, none to the left. O(K log M) rollouts for M steps.

It takes correctness to be monotone: a trace is right up to its error and lost after it. Where it recovers
in between, another step may be found.
"""

from __future__ import annotations

from negrl.labelers.base import LabelerSpec, LookOptions
from negrl.labelers.search import SearchLabeler


class BisectLabeler(SearchLabeler):
    name = "bisect"

    def _search(self, trace: int) -> tuple[int | None, int | None]:
        # The prompt is alive (V_0 is in the band), and after the last step the trace is wrong.
        alive, dead = -1, len(self.tasks[trace].steps) - 1
        known = True
        while dead - alive > 1:
            middle = (alive + dead) // 2
            look = self._look(trace, middle)
            if look == "unknown":
                return middle, None
            if look == "alive":
                alive = middle
            else:  # longer prefixes leave even less room: what can still be found lies to the left
                dead, known = middle, look == "dead"
        return None, dead if known else None


LABELER = LabelerSpec("bisect", BisectLabeler.open, LookOptions)
