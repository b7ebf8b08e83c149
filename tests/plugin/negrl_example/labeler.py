"""`ramp`: values that go from V_0 to the verdict along a curve. It costs nothing and blames the end of a trace."""

from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from negrl.labelers import Ask, LabelerSpec, Opening, Outcome, Task
from negrl.labelers.base import NOTHING
from negrl.options import Options
from negrl.steps.values import Difference, Estimate, exact


class RampOptions(Options):
    power: float = Field(2.0, gt=0)
    """How late the values move: 1 is a straight line, more is later."""


class RampLabeler:
    name = "ramp"
    needs = NOTHING

    def __init__(self, power: float):
        self.power = power

    def start(self, tasks: Sequence[Task]) -> None:
        self._curves = [self._curve(task) for task in tasks]

    def _curve(self, task: Task) -> list[float]:
        start, end, steps = task.v0.value, float(task.verdict == "correct"), len(task.steps)
        return [start + (end - start) * (i / steps) ** self.power for i in range(steps + 1)]

    def ask(self) -> list[Ask]:
        return []

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        raise ValueError("ramp asked for nothing")

    def values(self, trace: int) -> list[Estimate | None]:
        return [exact(value) for value in self._curves[trace][1:]]

    def advantages(self, trace: int) -> list[Difference | None]:
        return [
            Difference(after - before, after - before, after - before)
            for before, after in pairwise(self._curves[trace])
        ]


def _open(opening: Opening) -> RampLabeler:
    return RampLabeler(opening.settings.power)


LABELER = LabelerSpec("ramp", _open, RampOptions)
