"""Rows of earlier rounds: which of them are kept beside this round's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from negrl.records import AdvantageRow, PreferenceRow, SftRow, StepValueRow, UnaryRow, stable_id

CONTENT: dict[type, tuple[str, ...]] = {
    SftRow: ("input_ids",),
    PreferenceRow: ("prompt_ids", "chosen_ids", "rejected_ids"),
    UnaryRow: ("prompt_ids", "completion_ids"),
    StepValueRow: ("input_ids",),
}
"""What makes two rows of a problem the same example, of which the newer one stays. `AdvantageRow`s are not here: how
often a policy wrote something is part of its gradient."""


def room_for(new: int, earlier_rounds: str | float) -> int | None:
    """How many old rows stay beside `new` ones under `earlier_rounds` (a number: that many per new row).
    None: all."""
    if isinstance(earlier_rounds, str):
        return None if earlier_rounds == "accumulate" else 0
    return math.floor(earlier_rounds * new + 1e-9)  # 0.29 x 100 is 28.999...


class Kept:
    """Takes the rows of one round after the other, newest first, until `room` of them are taken (None: all).

    Args:
        new: this round's own rows; old ones that equal them are left out.
        round_: this round's number. If only a part of an older round's rows has room, they are taken problem by
            problem, in an order that depends on the round, so that every round takes others.
    """

    def __init__(self, new: Iterable[Any], round_: int, room: int | None):
        self._seen = {_content(row) for row in new}
        self._round, self._room = round_, room
        self.duplicates = 0

    def take(self, rows: Iterable[Any], age: int) -> list[Any]:
        """The rows of `age` rounds ago that stay, in their order."""
        fresh = []
        for row in rows:
            content = _content(row)
            if content is not None and content in self._seen:
                self.duplicates += 1
                continue
            self._seen.add(content)
            fresh.append(row)
        if self._room is not None:
            order = sorted(range(len(fresh)), key=lambda i: (stable_id(self._round, fresh[i].problem_id), i))
            fresh = [fresh[i] for i in sorted(order[: self._room])]
            self._room -= len(fresh)
        return [dataclasses.replace(row, age=age) if isinstance(row, AdvantageRow) else row for row in fresh]


def _content(row: Any) -> tuple[Any, ...] | None:
    """None: equal rows count each."""
    columns = CONTENT.get(type(row))
    return None if columns is None else (row.problem_id, *(tuple(getattr(row, name)) for name in columns))
