"""The verifier: three values, cache, hostile text, and agreement with real labels."""

import json
from pathlib import Path

import pytest

import negrl.verify as verify_room
from negrl.problems.files import read_rows
from negrl.recipe import VerifySection
from negrl.records import Verdict
from negrl.verify import Verifier

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
COLUMNS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def data(name: str) -> Path:
    if not (DATA / name).is_file():
        pytest.skip(f"shared/data/{name} is not here")
    return DATA / name


def test_three_values() -> None:
    verifier = Verifier(VerifySection())
    assert verifier.verify(r"\boxed{5}", "5") == Verdict("correct", None, "5", "boxed")
    assert verifier.verify("The answer is 6.", "5") == Verdict("incorrect", None, "6", "answer_is")
    assert verifier.verify("dunno, 5", "5") == Verdict("undecided", "no_answer", None, None)
    assert verifier.verify("<think> 5, #### 5", "5").reason == "no_answer"
    assert verifier.verify(r"\boxed{the tall one}", "5") == Verdict("undecided", "unparsable", "the tall one", "boxed")
    assert verifier.verify(r"\boxed{5}", "as drawn on page 5").reason == "gold_unparsable"
    assert verifier.verify(r"\boxed{5}", "we add\n#### 5").value == "correct"
    assert verifier.verify(r"\boxed{3} or \boxed{5}", "5").reason == "unparsable"
    assert verifier.verify(r"\boxed{3} or \boxed{5}", "3, 5").value == "correct"


def test_truncated_is_undecided_even_with_a_whole_answer() -> None:
    verifier = Verifier(VerifySection())
    assert verifier.verify(r"\boxed{5}", "5", "length") == Verdict("undecided", "truncated", None, None)
    assert verifier.verify(r"\boxed{5}", "5", "imported").value == "correct"


def test_chain_world() -> None:
    verifier = Verifier(VerifySection(extract="chain"))
    items = [
        ("9*0=0;0+0=0;!0", "0", "stop"),
        ("9*0=1;1+0=1;!1", "0", "stop"),
        ("9*0=", "0", "stop"),
        ("!0", "0", "length"),
    ]
    verdicts = [verifier.verify(*item) for item in items]
    assert [v.value for v in verdicts] == ["correct", "incorrect", "undecided", "undecided"]
    assert [v.reason for v in verdicts] == [None, None, "no_answer", "truncated"]


def test_a_pair_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = verify_room.equivalent
    monkeypatch.setattr(verify_room, "equivalent", lambda *a: calls.append(a[:2]) or real(*a))
    verifier = Verifier(VerifySection())
    for text in (r"\boxed{5}", r"other words \boxed{5}", r"\boxed{6}"):
        for gold in ("5", "5", "7"):
            verifier.verify(text, gold)
    assert sorted(calls) == [("5", "5"), ("5", "7"), ("6", "5"), ("6", "7")]


HOSTILE = {
    "power tower": r"\boxed{9^{9^{9^{9^{9}}}}}",
    "factorial tower": r"\boxed{((9!)!)!}",
    "huge exponent": r"\boxed{1e999999999}",
    "1e5 nested braces": r"\boxed{" + "{" * 100_000 + "1" + "}" * 100_000 + "}",
    "1e5 unclosed boxes": r"\boxed{" * 100_000,
    "1e5 joined boxes": r"\boxed{1}, \boxed{2}, " * 50_000,
    "1e6 letters": r"\boxed{" + "a" * 1_000_000 + "}",
    "1e6 digits": r"\boxed{" + "7" * 1_000_000 + "}",
    "deep fractions": r"\boxed{" + r"\frac{1}{" * 900 + "1" + "}" * 900 + "}",
    "12000 x 12000 matrix": r"\boxed{\operatorname{zeros}(12000,12000)}",
    "null byte": "\\boxed{4\x002}",
    "half a surrogate pair": "\\boxed{\ud800 42}",
    "right-to-left override": "\\boxed{\u202e42}",
    "python": r"\boxed{__import__('os').system('touch PWNED')}",
    "sum": r"\boxed{\sum_{n=1}^{10^{12}} \frac{1}{n^{n}}}",
    "1e5 thinks": "<think>" * 100_000 + r"\boxed{42}",
    "1e5 answers": "the answer is " * 100_000,
    "1e6 blanks": "answer is" + " " * 1_000_000,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_undecided_in_bounded_time(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for method in ("auto", "last_number", "chain"):
        verdict = Verifier(VerifySection(extract=method, timeout=0.5)).verify(HOSTILE[name], "43")
        json.dumps(verdict.answer, ensure_ascii=False).encode()  # can be stored
        assert verdict.value == "undecided" or method == "last_number"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extract", ["answer_line", "auto"])
def test_gsm8k_model_solutions_match_the_labels_of_the_file(extract: str) -> None:
    verifier = Verifier(VerifySection(extract=extract))
    agree, total, no_answer = 0, 0, []
    for _, row in read_rows(data("gsm8k_example_model_solutions.jsonl.gz")):
        for name in COLUMNS:
            verdict = verifier.verify(row[name]["solution"], row["ground_truth"], "imported")
            total += 1
            agree += (verdict.value == "correct") == row[name]["is_correct"]
            if verdict.reason == "no_answer":
                no_answer.append(row[name]["is_correct"])
    assert (agree, total) == (5276, 5276)
    assert no_answer == [False] * 11


@pytest.mark.parametrize(
    ("file", "solution", "gold", "rows"),
    [("gsm8k_train.jsonl.gz", "answer", "answer", 7473), ("math500.jsonl", "solution", "answer", 500)],
)
def test_reference_solutions_are_correct(file: str, solution: str, gold: str, rows: int) -> None:
    verifier = Verifier(VerifySection())
    verdicts = [verifier.verify(r[solution], r[gold]).value for _, r in read_rows(data(file))]
    assert (verdicts.count("correct"), len(verdicts)) == (rows, rows)


def test_every_math500_gold_can_be_compared() -> None:
    """Words (five of them) cannot be told from a number; everything else can."""
    verifier = Verifier(VerifySection())
    golds = [r["answer"] for _, r in read_rows(data("math500.jsonl"))]
    verdicts = [verifier.verify(r"\boxed{-987654321.5}", gold) for gold in golds]
    undecided = [g for g, v in zip(golds, verdicts, strict=True) if v.value == "undecided"]
    assert undecided == [r"\text{Evelyn}", r"\text{east}", r"\text{even}", r"\text{ellipse}", r"\text{Navin}"]
    assert not [v for v in verdicts if v.value == "correct"]
