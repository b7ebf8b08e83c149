"""Which rows of earlier rounds stay."""

from __future__ import annotations

from negrl.records import AdvantageRow, PreferenceRow, SftRow, StepValueRow, UnaryRow
from negrl.views import VIEWS
from negrl.views.earlier import CONTENT, Kept, room_for


def advantage(problem: str, number: int) -> AdvantageRow:
    return AdvantageRow(problem, f"t{number}", [1, 2, 3], [-100, 2, 3], [0, 0.5, 0.5], [0, -1, -1], [-1, 0, 0], True)


def sft(problem: str, *ids: int) -> SftRow:
    return SftRow(problem, "t", [9, *ids], [-100, *ids])


def test_room() -> None:
    assert room_for(7, "accumulate") is None and room_for(7, "replace") == 0
    assert room_for(7, 0.5) == 3 and room_for(100, 0.29) == 29 and room_for(10, 2.0) == 20 and room_for(0, 1.0) == 0


def test_all_stay_with_their_age_and_equal_traces_too() -> None:
    kept = Kept([advantage("p", 0)], 3, None)
    last, before = kept.take([advantage("p", 1), advantage("p", 2)], 1), kept.take([advantage("q", 3)], 2)
    assert [(r.trace_id, r.age) for r in [*last, *before]] == [("t1", 1), ("t2", 1), ("t3", 2)]
    assert kept.duplicates == 0


def test_an_age_of_before_is_overwritten() -> None:
    """Each round's own view is read, and its rows are always as old as that round."""
    (row,) = Kept([], 4, None).take([advantage("p", 1)], 3)
    assert row.age == 3 and Kept([], 4, None).take([row], 1)[0].age == 1


def test_the_newest_come_first_and_no_more_than_there_is_room_for() -> None:
    kept = Kept([], 3, 5)
    last = kept.take([advantage(f"p{i}", i) for i in range(3)], 1)
    before = kept.take([advantage(f"p{i}", 10 + i) for i in range(6)], 2)
    assert len(last) == 3 and len(before) == 2 and kept.take([advantage("p", 99)], 3) == []
    assert [r.trace_id for r in before] == sorted(r.trace_id for r in before)  # in the order they had


def test_a_part_is_whole_problems_and_another_part_in_every_round() -> None:
    rows = [advantage(f"p{i}", 4 * i + k) for i in range(30) for k in range(4)]
    chosen = {r: [x.problem_id for x in Kept([], r, 60).take(rows, 1)] for r in (2, 3)}
    for problems in chosen.values():
        assert len(problems) == 60 and len(set(problems)) == 15
    assert set(chosen[2]) != set(chosen[3])
    again = Kept([], 2, 60).take(list(reversed(rows)), 1)
    assert sorted(x.problem_id for x in again) == sorted(chosen[2])  # whatever the order of the rows


def test_the_same_example_stays_once() -> None:
    kept = Kept([sft("p", 1, 2)], 2, None)
    rows = [sft("p", 1, 2), sft("p", 1, 3), sft("q", 1, 2)]
    assert kept.take(rows, 1) == rows[1:] and kept.duplicates == 1
    assert kept.take(rows, 2) == [] and kept.duplicates == 4
    pair = PreferenceRow("p", "c", "r", [1], [2], [3])
    assert Kept([pair], 2, None).take([pair, PreferenceRow("p", "c", "r", [1], [2], [4])], 1)[0].rejected_ids == [4]
    unary = UnaryRow("p", "t", [1], [2], True, [5])
    assert Kept([unary], 2, None).take([UnaryRow("p", "u", [1], [2], True, [6])], 1) == []
    value = StepValueRow("p", "t", [1, 2], [1], [0.5])
    assert Kept([value], 2, None).take([StepValueRow("p", "u", [1, 2], [1], [0.75])], 1) == []


def test_every_view_of_traces_is_thought_of() -> None:
    """A new row type needs an entry, or counts equal rows each, as AdvantageRow does."""
    online_or_given = {VIEWS["prompts"].row_type}
    assert {spec.row_type for spec in VIEWS.values()} - online_or_given == {*CONTENT, AdvantageRow}
