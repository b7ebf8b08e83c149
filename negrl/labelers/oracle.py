"""Exact values from a world's own checker: no rollouts, zero-width intervals.

The value is that of a perfect writer from there on (can the answer still come out right if every
further step is right?), not the policy's chance. V_0 stays the policy's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from negrl.errors import InputError
from negrl.labelers.base import Ask, LabelerSpec, Need, Opening, Outcome, Task, plain_differences
from negrl.records import Problem
from negrl.steps.values import Difference, Estimate, exact, verdict_value


class OracleLabeler:
    name = "oracle"
    needs: frozenset[Need] = frozenset({"world"})

    def __init__(self, value: Callable[[Problem, str], float]):
        """`value(problem, text of the first steps)`: see `negrl.problems.base.World.value`."""
        self._value = value
        self._tasks: list[Task] = []
        self._values: list[list[Estimate | None]] = []

    def start(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)
        self._values = [self._of(task) for task in self._tasks]

    def _of(self, task: Task) -> list[Estimate | None]:
        prefixes = accumulate(step.text for step in task.steps[:-1])
        return [*(exact(self._value(task.problem, p)) for p in prefixes), verdict_value(task.verdict)]

    def ask(self) -> list[Ask]:
        return []

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            raise ValueError("the oracle asked for nothing")

    def values(self, trace: int) -> list[Estimate | None]:
        return self._values[trace]

    def advantages(self, trace: int) -> list[Difference | None]:
        return plain_differences(self._values[trace], self._tasks[trace].v0)


def _open(opening: Opening) -> OracleLabeler:
    if opening.value is None:
        raise InputError("label.labeler: oracle needs a world with a step checker (problems.source: chain, ...)")
    return OracleLabeler(opening.value)


LABELER = LabelerSpec("oracle", _open)
