"""Keeps only what two labelers agree on. It costs more and makes fewer false labels: for negatives, precision comes
first.

Per step, each labeler's advantage says "+" or "-" where it counts (`credit.counts`), "0" where it does not, and
"?" where it has none. Kept are ++, --, 00, and 0? (nobody blames or praises the step: neutral, which weighs
nothing either way). +?, -?, +0, -0, +- and ?? become unlabelled: one labeler's word is not enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import field_validator

from negrl.errors import InputError, nearest
from negrl.labelers import LABELERS
from negrl.labelers.base import Ask, Labeler, LabelerSpec, Opening, Outcome, Task
from negrl.options import Options
from negrl.steps.credit import counts
from negrl.steps.values import Difference, Estimate


class ConsensusOptions(Options):
    agree: tuple[str, str] = ("adaptive", "arithmetic")
    """The two labelers: the first one's advantages stand where the two agree."""

    @field_validator("agree")
    @classmethod
    def _two(cls, agree: tuple[str, str]) -> tuple[str, str]:

        known = [name for name, spec in LABELERS.items() if spec.makes_values and name != "consensus"]
        for name in agree:
            if name not in known:
                raise ValueError(f"'{name}' can't take part{nearest(name, known)}; two of {', '.join(known)}")
        if agree[0] == agree[1]:
            raise ValueError(f"'{agree[0]}' always agrees with itself; name two different labelers")
        return agree


class ConsensusLabeler:
    """Asks what either asks, and tells all to each that asks at all. Where they agree the first one's advantage
    stands (the second's where the first has none). Values are the first one's too, and stay where the advantages
    do not: the pit of a trace is at its lowest value, also when that step itself is unlabelled."""

    name = "consensus"

    def __init__(self, first: Labeler, second: Labeler, settings: Any):
        """`settings`: `dead_zone` and `require_significance` as attributes."""
        self.first, self.second, self.settings = first, second, settings
        self.needs = first.needs | second.needs

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
        if not counts(advantage, self.settings):
            return 0
        return 1 if advantage.value > 0 else -1


def _open(opening: Opening) -> ConsensusLabeler:
    names = opening.settings.agree
    # Two that are to agree must not have it from each other: beside belief, adaptive goes without beliefs.
    changes = {name: {"belief": None} if name == "adaptive" and "belief" in names else {} for name in names}
    first, second = (opening.part(name, **changes[name]) for name in names)
    labeler = ConsensusLabeler(first, second, opening.settings)
    if {"rewards", "beliefs"} <= labeler.needs:
        raise InputError("label.agree: prm and beliefs can't be read together")
    return labeler


def _parts(data: Mapping[str, Any]) -> Sequence[str]:
    given = data.get("agree", ConsensusOptions.model_fields["agree"].default)
    return given if isinstance(given, list | tuple) else ()


LABELER = LabelerSpec("consensus", _open, ConsensusOptions, reads=("dead_zone", "require_significance"), parts=_parts)
