"""The ledger world: its language, what it asks for, its checker, its habits."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from negrl.errors import InputError
from negrl.problems.ledger import LedgerProblems, World, load
from negrl.problems.ledger.draw import vocabulary
from negrl.problems.ledger.line import Line, read_line, write_line
from negrl.problems.ledger.plan import plan_of
from negrl.problems.ledger.section import LedgerHabit, Question, Relation
from negrl.problems.ledger.text import NAMES, TEMPLATES, THINGS, Event, read, say
from negrl.problems.ledger.write import HABITS
from negrl.records import Problem

SECTION = LedgerProblems(source="ledger", train=300, evaluate=50)
WORLD = World(SECTION)
PROMPT = (
    "Tom has 12 apples. Ana has 7 more apples than Tom. Tom is 9 years old. Then Ana loses 4 apples. "
    "How many apples do Ana and Tom have together?\n"
)
PROBLEM = Problem("p", "ledger", "train", "Apache-2.0", prompt=PROMPT, gold="27")
L1, L2, L3, END = (
    "Ana has 12 + 7 = 19 apples.\n", "Ana now has 19 - 4 = 15 apples.\n", "Together they have 15 + 12 = 27 apples.\n",
    "#### 27",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "right", "value"),
    [
        (L1 + L2 + L3 + END, [True] * 4, 1.0),
        ("Ana has 7 + 12 = 19 apples.\n" + L2 + "Together they have 12 + 15 = 27 apples.\n" + END, [True] * 4, 1.0),
        (L1 + "\n\n" + L2, [True, True], 1.0),
        # right arithmetic on the wrong number: a distractor, then two right steps on what it wrote
        ("Ana has 12 + 9 = 21 apples.\nAna now has 21 - 4 = 17 apples.\nTogether they have 17 + 12 = 29 apples.\n"
         "#### 29", [False, True, True, True], 0.0),
        ("Ana has 12 - 7 = 5 apples.\n", [False], 0.0),  # fewer for more
        (L1 + "Ana now has 12 - 4 = 8 apples.\n", [True, False], 0.0),
        (L1 + L2 + "Together they have 19 + 12 = 31 apples.\n", [True, True, False], 0.0),  # before for after
        ("Ana has 12 + 7 = 9 apples.\n", [False], 0.0),  # a carry dropped
        (L1 + "#### 19", [True, False], 0.0),  # a sub-question answered
        (L1 + L2 + L3 + "#### 19", [True, True, True, False], 0.0),
        (L1 + L2 + "#### 27", [True, True, False], 1.0),  # the right answer, not by what was written
        # two wrongs make a right
        ("Ana has 12 + 9 = 21 apples.\nAna now has 21 - 6 = 15 apples.\n" + L3 + END, [False, False, True, True], 1.0),
        ("Ana has 12 + 9 = 21 apples.\nAna now has 21 - 6 = 15 apples.\n", [False, False], 1.0),
        (L2 + L1, [False, True], 1.0),  # it hangs on what nobody has worked out yet
        (L1 + L1, [True, False], 1.0),  # said already
        ("Tom has 12 + 7 = 19 apples.\n", [False], 1.0),  # no quantity of this problem: changes nothing
        ("Ana has 12 + 7 = 19 pears.\n", [False], 1.0),
        ("Ana has 12 + 7 = 19 apples. So\n", [False], 1.0),
        (L1 + L2 + L3 + END + "\n#### 27", [True] * 4 + [False], 1.0),
        (L1 + L2 + L3 + END + "\nAna has 12 + 7 = 19 apples.", [True] * 4 + [False], 1.0),
        (END + "\n" + L1, [False, False], 1.0),
        # other wordings
        ("So Ana has 12 + 7 = 19 apples.\n19 - 4 = 15, so Ana now has 15 apples.\n"
         "So together they have 15 + 12 = 27 apples.\n" + END, [True] * 4, 1.0),
        (L1 + L2 + "15 + 12 = 27, so together they have 27 apples.\n" + END, [True] * 4, 1.0),
        ("12 + 9 = 21, so Ana has 21 apples.\n", [False], 0.0),
        ("12 + 7 = 19, so Ana has 18 apples.\nAna now has 18 - 4 = 14 apples.\n", [False, True], 0.0),
        ("12 + 6 = 18, so Ana has 19 apples.\n", [False], 1.0),
        ("12 + 7 = 19, so Tom has 19 apples.\n", [False], 1.0),  # no quantity of this problem
        ("12 + 7 = 19, Ana has 19 apples.\n", [False], 1.0),
        ("####", [False], 1.0),
        ("", [], 1.0),
    ],
)  # fmt: skip
def test_steps_and_values(text: str, right: list[bool], value: float) -> None:
    assert WORLD.check_steps(PROBLEM, text) == right
    assert WORLD.value(PROBLEM, text) == value


def events(*said: Event, thing: str = "apples") -> list[Event]:
    return [Event(e.kind, e.who, e.other, e.third, e.thing or thing, e.k, e.n) for e in said]


@pytest.mark.parametrize(
    ("told", "values"),
    [
        ([Event("rate", "Tom", k=3, n=4), Event("half", "Ana", "Tom"), Event("ask", "Ana")], [12, 6]),
        ([Event("start", "Tom", k=3), Event("times", "Ana", "Tom", k=4), Event("sale", "Ana", k=2)], [12, 24]),
        ([Event("start", "Tom", k=3), Event("gain", "Tom", k=4), Event("more_first", "Ana", "Tom", k=5),
          Event("both", "Ben", "Tom", "Ana"), Event("ask", "Ben")], [7, 8, 15]),
        ([Event("start", "Tom", k=3), Event("gain", "Tom", k=4), Event("more_first", "Ana", "Tom", k=5),
          Event("ask", "Ana")], [8]),  # what Tom got since is no matter
        ([Event("start", "Tom", k=30), Event("fewer", "Ana", "Tom", k=4), Event("difference", "Tom", "Ana")], [26, 4]),
        ([Event("start", "Tom", k=30), Event("fewer", "Ana", "Tom", k=4), Event("most", "Ben", "Ana", "Tom"),
          Event("least", "Eva", "Ben", "Ana"), Event("ask", "Eva")], [26, 30, 26]),
    ],
)  # fmt: skip
def test_what_a_story_asks_for(told: Sequence[Event], values: list[int]) -> None:
    assert plan_of(events(*told)).values() == values


def test_numbers_of_no_matter_are_known() -> None:
    told = events(Event("start", "Tom", k=3), Event("gain", "Tom", k=4), Event("age", "Tom", k=8),
                  Event("start", "Eva", k=6), Event("more_first", "Ana", "Tom", k=5), Event("ask", "Ana"))  # fmt: skip
    assert plan_of(told).distractors == (4, 8, 6)


number = st.integers(1, 10**5)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(TEMPLATES)), st.integers(0, 2), st.permutations(NAMES), st.sampled_from(THINGS), number,
    number,
)  # fmt: skip
def test_a_sentence_is_read_as_it_was_said(
    kind: str, phrasing: int, names: list[str], thing: str, k: int, n: int
) -> None:
    whole = {"who": names[0], "other": names[1], "third": names[2], "thing": thing, "k": k, "n": n}
    told = Event(kind, **{name: v for name, v in whole.items() if f"{{{name}}}" in TEMPLATES[kind][phrasing]})
    assert read(say(told, phrasing)) == [told]


def test_all_phrasings_of_a_kind_say_the_same() -> None:
    for kind, templates in TEMPLATES.items():
        fields = [{f for f in ("who", "other", "third", "thing", "k", "n") if f"{{{f}}}" in t} for t in templates]
        assert len(templates) == 3 and fields[0] == fields[1] == fields[2], kind
    assert set(get_args(Relation)) | set(get_args(Question)) <= set(TEMPLATES)


def test_a_foreign_prompt_is_one_line() -> None:
    with pytest.raises(InputError, match=r"not a sentence of this world: 'What is 2 \+ 2\?'"):
        WORLD.check_steps(Problem("q", "", "", "", "What is 2 + 2?", "4"), "#### 4")


def test_stories_are_as_asked() -> None:
    section = SECTION.model_copy(update={"steps": (5, 12), "numbers": 30, "largest": 90, "train": 100})
    names, things = vocabulary(section.seed, section.people, section.things)
    lengths = set()
    for problem in load(section).train:
        told = read(problem.prompt)
        plan = plan_of(told)
        lengths.add(len(plan.steps))
        assert all(v.denominator == 1 and 1 <= v <= 90 for v in plan.values())
        assert all(max(e.k, e.n) <= 30 for e in told)
        assert {e.who for e in told} - {""} <= set(names) and {e.thing for e in told} - {""} <= set(things)
        assert sum(e.kind in ("age", "also", "away", "start") for e in told) <= 3
        assert problem.meta == {"steps": len(plan.steps), "distractors": len(plan.distractors)}
    assert lengths == set(range(5, 13))
    assert vocabulary(1, 20, 12) != vocabulary(0, 20, 12)


@pytest.mark.parametrize("habit", get_args(LedgerHabit))
def test_each_habit_changes_answers(habit: str) -> None:
    """Alone, at every chance; and the exact writer never errs."""
    section = SECTION.model_copy(update={"habits": [habit], "habit_rate": 1.0, "questions": ["together", "ask"]})
    golds = [
        (str(plan_of(read(prompt)).values()[-1]), text.rsplit(" ", 1)[1], text)
        for prompt, text in World(section).pretraining_texts(300)
    ]
    wrong = sum(gold != answer for gold, answer, _ in golds)
    assert wrong > 15, (habit, wrong)
    exact = section.model_copy(update={"habit_rate": 0.0})
    for prompt, text in World(exact).pretraining_texts(100):
        problem = Problem("q", "", "", "", prompt, str(plan_of(read(prompt)).values()[-1]))
        assert all(World(exact).check_steps(problem, text))
    if habit in HABITS:  # the wrong lines are told from right ones
        for prompt, text in World(section).pretraining_texts(100):
            gold = str(plan_of(read(prompt)).values()[-1])
            if gold != text.rsplit(" ", 1)[1]:
                assert not all(World(section).check_steps(Problem("q", "", "", "", prompt, gold), text))


def test_the_teacher_is_right_in_the_end_and_sometimes_wrong_on_the_way() -> None:
    long = LedgerProblems(source="ledger", steps=(6, 8), train=150, evaluate=1)
    share = sum(not all(World(long).check_steps(p, p.solution or "")) for p in load(long).train) / 150
    assert 0.1 < share < 0.6
    clean = load(long.model_copy(update={"teacher_filter": "steps", "train": 30})).train
    assert all(all(World(long).check_steps(p, p.solution or "")) for p in clean)
    as_written = load(long.model_copy(update={"teacher_filter": "none"})).train
    right = sum((p.solution or "").endswith(f"\n#### {p.gold}") for p in as_written)
    assert 5 < right < 145


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": (0, 3)}, "steps: expected two numbers from 1 to 12, the second no smaller, not [0, 3]"),
        ({"steps": (4, 3)}, "steps: expected"),
        ({"steps": (2, 13)}, "steps: expected"),
        ({"distractors": (0, 13)}, "distractors: expected"),
        ({"steps": (2, 12), "people": 10}, "people: 10 are too few for such stories: at least 15"),
        ({"relations": ["both", "most"]}, "relations: expected one of more"),
        ({"questions": []}, "questions: expected some of ask"),
    ],
)  # fmt: skip
def test_impossible_settings_are_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LedgerProblems.model_validate({"source": "ledger", **change})
    assert said in str(caught.value)


def test_lines_are_worded_as_often_one_way_as_another() -> None:
    """And mean the same: an exact writer is right in all of them."""
    section = SECTION.model_copy(update={"wordings": 3, "habit_rate": 0.0})
    forms = Counter()
    for prompt, text in World(section).pretraining_texts(400):
        problem = Problem("q", "", "", "", prompt, str(plan_of(read(prompt)).values()[-1]))
        assert all(WORLD.check_steps(problem, text)) and WORLD.value(problem, text) == 1.0
        forms.update("so" if line[0] == "S" and line[:3] == "So " else "sum" if line[0].isdigit() else "plain"
                     for line in text.split("\n")[:-1])  # fmt: skip
    assert all(abs(forms[form] / forms.total() - 1 / 3) < 0.06 for form in ("plain", "so", "sum"))
    solutions = "".join(p.solution or "" for p in load(section).train)
    assert "\nSo " in solutions and ", so " in solutions


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["Ana has", "Tom now has", "Together they have"]), number, st.sampled_from("+-*/"), number,
       number, st.sampled_from(["apples.", "more kg of rice than Tom."]), st.integers(0, 2))  # fmt: skip
def test_a_line_is_read_as_it_was_written(head: str, a: int, op: str, b: int, result: int, tail: str, how: int) -> None:
    assert read_line(write_line(head, a, op, b, result, tail, how)) == Line(head, a, op, b, result, result, tail)


def test_one_wording_is_no_part_of_a_key() -> None:
    assert "wordings" not in SECTION.writer_settings()
    assert SECTION.model_copy(update={"wordings": 2}).writer_settings()["wordings"] == 2


def test_settings_that_leave_no_story_are_one_line() -> None:
    section = LedgerProblems(
        source="ledger", steps=(12, 12), relations=["times"], questions=["ask"], rates=0, largest=10
    )
    with pytest.raises(InputError, match=r"^problems.relations: no story of 12 steps in 500 tries"):
        load(section)


def test_facts_are_what_is_claimed_with_which_result() -> None:
    def facts(text: str) -> list[str]:
        return [fact.key for fact in WORLD.facts(PROBLEM, text)]

    assert facts(L1 + L2) == ["0=19", "1=15"]
    assert facts("Ana has 7 + 12 = 19 apples.\n\nHm.\n") == ["0=19", "Hm."]
    assert facts("Ana has 12 + 9 = 21 apples.\n#### 21") == ["0=21", "answer=21"]
    assert [fact.end for fact in WORLD.facts(PROBLEM, L1 + L2)] == [len(L1) - 1, len(L1 + L2) - 1]
