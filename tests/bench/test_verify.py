"""`negrl bench verify` on a few rows: who is right is told by the files, and every difference is listed."""

import csv
from pathlib import Path

import pytest

from negrl.bench.verify import Item, compare, gsm8k_solutions, main, page
from negrl.records import UNDECIDED

pytestmark = pytest.mark.slow

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_differences_say_who_is_right() -> None:
    items = [
        Item("base", r"\boxed{11_2}", "11", False),
        Item("two boxes", r"\boxed{1} and \boxed{2}", "2", True),
        Item("no marker", "7 apples.\n\nThe rest rots.", "8", False),
        Item("same", r"\boxed{\sqrt{4}}", "2", True),
        Item("nobody knows", "7 apples.\n\nThe rest rots.", "7", None),
    ]
    result = compare("made up", items, workers=1)
    assert [(d.item.name, d.ours.value, d.plain, d.who) for d in result.differences] == [
        ("base", UNDECIDED, "correct", "neither"),
        ("two boxes", UNDECIDED, "incorrect", "neither"),
        ("no marker", UNDECIDED, "incorrect", "math-verify"),
        ("nobody knows", UNDECIDED, "correct", ""),
    ]
    assert (len(result.judged), result.known, result.our_hits, result.plain_hits, result.opposite) == (5, 4, 1, 2, 0)
    assert result.our_calls == 3  # two wrong ones are not called correct
    assert not result.our_wrong


def test_a_verdict_that_is_the_opposite_of_the_truth_is_listed() -> None:
    result = compare(
        "made up", [Item("same", r"\boxed{3}", "3", False), Item("other", r"\boxed{4}", "3", False)], workers=1
    )
    assert [j.item.name for j in result.our_wrong] == ["same"]
    assert "| made up same | 3 | 3 | correct | incorrect |" in page([result], "negrl bench verify")


def test_the_report_and_the_table_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (DATA / "math_train.jsonl.gz").is_file():
        pytest.skip("../shared/data is not here")
    assert gsm8k_solutions(DATA, 1)[0].gold == "18"
    main(DATA, tmp_path / "verify", limit=6)
    text = (tmp_path / "verify.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "| GSM8K solutions | 24 | 1 |" in text and "| MATH gold solutions | 6 | 2 |" in text
    with open(tmp_path / "verify.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["row"] for row in rows if row["file"] == "GSM8K solutions"] == ["line 6, 175b_finetuning"]
