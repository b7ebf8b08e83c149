"""The chain world: its gold answers, its checker, its habits, its splits."""

import itertools

import pytest
from pydantic import ValidationError

from negrl.errors import InputError
from negrl.preflight import problems_key
from negrl.problems.chain import EXACT, ChainProblems, World, load, parse
from negrl.records import Problem

SECTION = ChainProblems(source="chain", train=200, evaluate=200)
WORLD = World(SECTION)
PROBLEM = Problem("p", "chain", "train", "Apache-2.0", prompt="9*0+4-7^3?", gold="7")  # 0, 4, 7, 7


def test_gold_and_parse() -> None:
    assert parse("9*0+4-7^3?") == (9, [("*", 0), ("+", 4), ("-", 7), ("^", 3)])
    for problem in load(SECTION).train:
        value, operations = parse(problem.prompt)
        for op, b in operations:
            value = EXACT[op](value, b)
        assert problem.gold == str(value) and len(operations) == 5


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("9*0=0;0+4=4;4-7=7;7^3=7;!7", [True] * 5),
        ("9*0=9;9+4=3;3-7=6;6^3=6;!6", [False, True, True, True, True]),  # one wrong step, the rest follow
        ("9*0=0;0+4=4;4-7=4;4^3=7;!7", [True, True, False, False, True]),  # two wrongs, right answer
        ("9*0=0;0+4=4;4-7=7;7^3=7;!6", [True, True, True, True, False]),
        ("9*0=0;1+4=5;", [True, False]),  # 1 is not what the step before wrote
        ("9+0=9;", [False]),  # not the problem's operation
        ("9*0=0;0+4=4;4-7=7;7^3=7;7+1=8;!8", [True, True, True, True, False, False]),  # one step too many
        ("9*0=0;!0", [True, False]),  # answered too early
        ("nonsense;;9*0=0;", [False, False]),
        ("", []),
    ],
)
def test_check_steps(text: str, right: list[bool]) -> None:
    assert WORLD.check_steps(PROBLEM, text) == right


@pytest.mark.parametrize(
    ("prefix", "value"),
    [
        ("", 1.0),
        ("9*0=0;", 1.0),
        ("9*0=9;", 0.0),  # 9+4=3, 3-7=6, 6^3=6
        ("9*0=0;0+4=4;4-7=4;", 0.0),
        ("9*0=0;0+4=4;4-7=7;7^3=7;!7", 1.0),
        ("9*0=0;0+4=4;4-7=7;7^3=7;!3", 0.0),
        ("gibberish;", 0.0),
    ],
)
def test_oracle_value(prefix: str, value: float) -> None:
    assert WORLD.value(PROBLEM, prefix) == value


def test_a_wrong_step_can_be_forgotten() -> None:
    problem = Problem("q", "chain", "train", "Apache-2.0", prompt="5-2*0?", gold="0")
    assert WORLD.check_steps(problem, "5-2=5;5*0=0;!0") == [False, True, True]
    assert WORLD.value(problem, "5-2=5;") == 1.0


def test_training_and_held_out_problems_are_disjoint_for_all_sizes_and_seeds() -> None:
    prompts = {"train": set(), "evaluate": set()}
    for seed, operations in itertools.product((0, 1), (1, 2, 5)):
        small = operations == 1
        found = load(ChainProblems(source="chain", train=50 if small else 500, evaluate=20 if small else 500,
                                   operations=operations, seed=seed))  # fmt: skip
        prompts["train"] |= {p.prompt for p in found.train}
        prompts["evaluate"] |= {p.prompt for p in found.evaluate}
    assert not prompts["train"] & prompts["evaluate"]
    assert not prompts["evaluate"] & {prompt for prompt, _ in WORLD.pretraining_texts(5000)}


def test_more_problems_begin_with_the_fewer() -> None:
    few = load(ChainProblems(source="chain", train=10, evaluate=5)).train
    many = load(ChainProblems(source="chain", train=100, evaluate=5)).train
    assert many[:10] == few


def test_the_teacher_is_right_in_the_end_and_wrong_on_the_way() -> None:
    problems = load(ChainProblems(source="chain", train=2000, evaluate=1)).train
    assert all(p.solution is not None and p.solution.endswith(f"!{p.gold}") for p in problems)
    share = sum(not all(WORLD.check_steps(p, p.solution or "")) for p in problems) / len(problems)
    assert 0.2 < share < 0.45
    clean = load(ChainProblems(source="chain", train=200, evaluate=1, teacher_habit_rate=0)).train
    assert all(all(WORLD.check_steps(p, p.solution or "")) for p in clean)


def test_pretraining_texts_are_as_noisy_as_asked() -> None:
    def wrong(rate: float) -> float:
        world = World(ChainProblems(source="chain", habit_rate=rate))
        texts = world.pretraining_texts(500)
        checked = [WORLD.check_steps(Problem("p", "", "", "", prompt, ""), text) for prompt, text in texts]
        return sum(not all(c) for c in checked) / len(checked)

    assert wrong(0.0) == 0.0
    assert wrong(1.0) > wrong(0.5) > 0.5


def test_habits_stick_to_their_operators() -> None:
    world = World(ChainProblems(source="chain", habits="*", habit_rate=1.0))
    seen = set()
    for prompt, text in world.pretraining_texts(300):
        for step, right in zip(
            text.split(";"), World(SECTION).check_steps(Problem("p", "", "", "", prompt, ""), text), strict=True
        ):
            seen |= {step[1]} if not right else set()
    assert seen == {"*"}
    exact = World(ChainProblems(source="chain", habits="", habit_rate=1.0)).pretraining_texts(100)
    assert all(all(WORLD.check_steps(Problem("p", "", "", "", prompt, ""), text)) for prompt, text in exact)


@pytest.mark.parametrize(("keep", "answers", "steps"), [("answer", 1.0, 0.7), ("steps", 1.0, 1.0), ("none", 0.5, 0.3)])
def test_the_teachers_filter(keep: str, answers: float, steps: float) -> None:
    """Shares of right answers and of solutions without a wrong step: none below is reached by chance."""
    section = ChainProblems(source="chain", train=400, evaluate=1, teacher_filter=keep)
    problems = load(section).train
    right = sum((p.solution or "").endswith(f"!{p.gold}") for p in problems) / 400
    clean = sum(all(WORLD.check_steps(p, p.solution or "")) for p in problems) / 400
    assert abs(right - answers) < 0.12 and abs(clean - steps) < 0.12


def test_settings_are_one_line_when_wrong() -> None:
    with pytest.raises(ValidationError, match=r"'\+' carries no habit; expected some of -\*\^"):
        ChainProblems(source="chain", habits="*+")
    hopeless = ChainProblems(source="chain", operations=20, teacher_habit_rate=1.0, train=20, evaluate=1)
    with pytest.raises(InputError, match=r"problems\.teacher_habit_rate"):
        load(hopeless)


def test_default_problems_are_what_they_always_were() -> None:
    """Finished stages are keyed by what the problems say."""
    found = load(ChainProblems(source="chain"))
    assert (problems_key(found.train), problems_key(found.evaluate)) == ("c577604f334d", "cb37dd812263")
