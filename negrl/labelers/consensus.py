"""Only what two labelers agree on. Dearer labels, but fewer false ones: for negatives precision comes first.

Per step, each labeler's advantage says "+" or "-" where it counts (`credit.counts`), "0" where it does not, and
"?" where it has none. Kept are ++, --, 00, and 0? (nobody blames or praises the step: neutral, which weighs
nothing either way). +?, -?, +0, -0, +- and ?? become unlabelled: one labeler's word is not enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from negrl.labelers.base import Ask, Labeler, Outcome, Task
from negrl.steps.credit import counts
from negrl.steps.values import Difference, Estimate

if TYPE_CHECKING:
    from negrl.recipe import LabelSection


class ConsensusLabeler:
    """Asks what either asks, and tells all to each that asks at all. Where they agree the first one's advantage
    stands (the second's where the first has none). Values are the first one's too, and stay where the advantages
    do not: the pit of a trace is at its lowest value, also when that step itself is unlabelled."""

    name = "consensus"

    def __init__(self, first: Labeler, second: Labeler, section: LabelSection):
        self.first, self.second, self.section = first, second, section
        self.reads = first.reads | second.reads

    def start(self, tasks: Sequence[Task]) -> None:
        self._asking: list[Labeler] = []
        self.first.start(tasks)
        self.second.start(tasks)

    def ask(self) -> list[Ask]:
        out: list[Ask] = []
        for labeler in (self.first, self.second):
            asks = labeler.ask()
            if asks and labeler not in self._asking:
                self._asking.append(labeler)
            out += asks
        return out

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for labeler in self._asking:
            labeler.tell(outcomes)

    def values(self, trace: int) -> list[Estimate | None]:
        both = zip(self.first.values(trace), self.second.values(trace), strict=True)
        return [one or other for one, other in both]

    def advantages(self, trace: int) -> list[Difference | None]:
        both = zip(self.first.advantages(trace), self.second.advantages(trace), strict=True)
        return [(one or other) if self._agree(one, other) else None for one, other in both]

    def _agree(self, one: Difference | None, other: Difference | None) -> bool:
        signs = {self._sign(a) for a in (one, other) if a is not None}
        return len(signs) == 1 and (signs == {0} or (one is not None and other is not None))

    def _sign(self, advantage: Difference) -> int:
        if not counts(advantage, self.section):
            return 0
        return 1 if advantage.value > 0 else -1
