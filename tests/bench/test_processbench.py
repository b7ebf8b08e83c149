from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from negrl.bench.processbench import Row, Score, f1, main, page, predict, read
from negrl.errors import InputError
from negrl.labelers import Task
from negrl.labelers.arithmetic import ArithmeticLabeler
from negrl.recipe import LabelSection
from negrl.steps.values import Difference, exact

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GSM8K, MATH = DATA / "processbench_gsm8k.jsonl.gz", DATA / "processbench_math.jsonl.gz"


class Blames:
    """Blames the step whose text begins with "x"."""

    name = "blames"
    reads: frozenset[str] = frozenset()

    def start(self, tasks: Sequence[Task]) -> None:
        self.tasks = list(tasks)

    def ask(self) -> list:
        return []

    def tell(self, outcomes: Sequence) -> None: ...

    def values(self, trace: int) -> list:
        return [exact(0.0) if s.text.startswith("x") else exact(1.0) for s in self.tasks[trace].steps]

    def advantages(self, trace: int) -> list:
        falls = Difference(-1.0, -1.0, -1.0)
        return [falls if s.text.startswith("x") else Difference(0, 0, 0) for s in self.tasks[trace].steps]


def row(steps: list[str], label: int, right: bool = False) -> Row:
    return Row("r", "How many?", steps, label, right)


def test_the_first_step_blamed_is_the_answer() -> None:
    rows = [
        row(["a", "x", "x"], 1),
        row(["a", "b"], -1, True),
        row(["a", "x"], 0, True),  # spurious: a right answer by a wrong step
        row(["x", "a"], -1),
        row(["a"], 0),
    ]
    assert predict(rows, Blames(), LabelSection()) == [1, -1, 1, 0, -1]


def test_the_metric_by_hand() -> None:
    pairs = [(1, 1), (2, 3), (2, 1), (0, -1), (-1, -1), (-1, -1), (-1, 0)]
    score = Score("x", [str(i) for i in range(7)], pairs)
    assert (score.count(True), score.count(True, True)) == (4, 1)
    assert (score.count(False), score.count(False, True)) == (3, 2)
    assert (score.found, score.exact, score.later, score.earlier, score.unfounded) == (4, 1, 1, 1, 1)
    assert f1(1 / 4, 2 / 3) == pytest.approx(2 * (1 / 4) * (2 / 3) / (1 / 4 + 2 / 3))
    assert f1(0.0, 0.0) == 0.0
    text = page([score], "arithmetic", [Path("x.jsonl")], None)
    assert "| x | 7 (4) | 25.0% (1 of 4) [4.6, 69.9] | 66.7% (2 of 3) [20.8, 93.9] | 36.4 [" in text
    assert "1: 2, 3; 2: 2, 1; 6: none, 0." in text


def test_arithmetic_on_the_real_files_finds_few_and_is_right_about_them() -> None:
    for file, most in ((GSM8K, 0.1), (MATH, 0.05)):
        if not file.is_file():
            pytest.skip(f"{file.name} is not in shared/data")
        rows = read(file)
        found = predict(rows, ArithmeticLabeler(), LabelSection())
        score = Score(file.name, [r.row_id for r in rows], [(r.label, f) for r, f in zip(rows, found, strict=True)])
        assert score.found >= 10
        assert score.unfounded == 0
        assert score.exact + score.later >= 0.9 * score.found
        assert score.earlier <= most * score.found + 1
        if file is GSM8K:  # at most one of them comes after an error of another kind
            assert score.exact + score.later == score.found
            assert score.exact >= score.found - 1


def test_main_writes_what_it_prints_and_the_same_every_time(tmp_path: Path, capsys) -> None:
    file, out = tmp_path / "mine.jsonl", tmp_path / "deep" / "page.md"
    rows = [
        {"steps": ["2 + 2 = 4", "4 + 1 = 6"], "label": 1, "final_answer_correct": False},
        {"id": "\x1b[2J", "steps": ["2 + 2 = 5"], "label": -1, "final_answer_correct": True},
        {"steps": ["It is 4."], "label": -1, "final_answer_correct": True},
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    main([file], "arithmetic", out)
    printed = capsys.readouterr().out
    assert out.read_text() == printed
    assert "100.0% (1 of 1)" in printed and "50.0% (1 of 2)" in printed
    assert "\\x1b[2J: none, 0." in printed and "\x1b" not in printed
    main([file, file], "none", None)
    assert "| all | 6 (2) |" in capsys.readouterr().out


def test_the_committed_page_is_what_the_command_writes_now(capsys) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "results" / "processbench.md"
    if not (GSM8K.is_file() and MATH.is_file()):
        pytest.skip("the ProcessBench files are not in shared/data")
    main([GSM8K, MATH], "arithmetic", None)
    assert capsys.readouterr().out.split("\n")[1:] == page.read_text().split("\n")[1:]


@pytest.mark.parametrize(
    ("labeler", "message"),
    [
        ("arithmatic", "unknown labeler 'arithmatic' .did you mean 'arithmetic'"),
        ("fixed", "--labeler fixed: .* no gold answers"),
        ("oracle", "oracle needs a world"),
    ],
)
def test_a_labeler_that_cannot_be_run_is_one_line(labeler: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        main([GSM8K], labeler, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "2 + 2"}, "'steps' must be a list"),
        ({"steps": []}, "'steps' must be a list"),
        ({"steps": [3]}, "'steps' must be text"),
        ({"label": 2}, "'label' must be a step's index .0 to 1. or -1, not 2"),
        ({"label": True}, "'label' must be"),
        ({"final_answer_correct": "yes"}, "must be true or false, not 'yes'"),
        ({"problem": 3}, "'problem' must be text"),
    ],
)
def test_a_bad_row_names_file_line_and_column(tmp_path: Path, change: dict, message: str) -> None:
    good = {"steps": ["a", "b"], "label": 1, "final_answer_correct": False}
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}:2: ")


def test_a_column_that_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"step": ["a"], "label": 0, "final_answer_correct": true}\n')
    with pytest.raises(InputError, match=r"no column 'steps' .did you mean 'step'"):
        read(file)
