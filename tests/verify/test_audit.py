"""`negrl audit`: planted mistakes are found and counted, the draw is fair, hostile text stays text."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negrl.audit import audit, report_lines
from negrl.errors import InputError
from negrl.intervals import wilson
from negrl.recipe import VerifySection
from negrl.records import Problem, Sampling, Trace
from negrl.store import Store
from negrl.terminal import safe
from negrl.verify.files import Keys, verify_file
from negrl.verify.second_opinion import normalised, plain_answer, second_opinion

SECTION = VerifySection()
KEYS = Keys("gold", "text")


def verified(path: Path, counts: dict[tuple[str, str], int]) -> Path:
    """A file as `negrl verify` writes it: so many rows of (verdict, what is true)."""
    rows = []
    for (verdict, truth), count in counts.items():
        for _ in range(count):
            n = len(rows) + 10
            found = n if truth == "right" else n + 1
            text = f"So it is {found}.\n#### {found}" if truth != "unclear" else "I can not tell."
            reason = "no_answer" if verdict == "undecided" else None
            rows.append(
                {
                    "gold": f"We add.\n#### {n}", "text": text, "verdict": verdict, "verdict_reason": reason,
                    "answer": str(found), "method": "hash",
                }
            )  # fmt: skip
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_planted_mistakes_are_found_and_counted(tmp_path: Path, name: str) -> None:
    planted = {
        ("correct", "right"): 20, ("correct", "wrong"): 3, ("incorrect", "wrong"): 30, ("incorrect", "right"): 5,
        ("undecided", "right"): 2, ("undecided", "wrong"): 1, ("undecided", "unclear"): 4,
    }  # fmt: skip
    out = tmp_path / "out" / "d.jsonl"
    report = audit(verified(tmp_path / name, planted), KEYS, SECTION, out=out)
    false_negatives, false_positives = report.disagreement("incorrect"), report.disagreement("correct")
    assert false_negatives is not None and false_positives is not None
    assert (false_negatives.count, false_negatives.of) == (5, 35)
    assert (false_negatives.low, false_negatives.high) == wilson(5, 35, 0.95)
    assert (false_positives.count, false_positives.of) == (3, 23)
    assert report.tally("undecided") == {"right": 2, "wrong": 1, "unsettled": 4}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert Counter(r["kind"] for r in rows) == {
        "maybe_false_negative": 5, "maybe_false_positive": 3, "undecided_called_right": 2, "undecided_called_wrong": 1,
    }  # fmt: skip
    assert {r["gold"].split()[-1] == r["plain_answer"] for r in rows if r["kind"] == "maybe_false_negative"} == {True}
    text = "\n".join(report_lines(report))
    assert "at most about 14.3% [6.3%, 29.4%] of our `incorrect` are right (5 of 35 settled)" in text
    assert "at most about 13.0% [4.5%, 32.1%] of our `correct` are wrong (3 of 23 settled)" in text
    assert "would settle 3 of 7 looked at (2 right, 1 wrong)" in text
    assert "upper estimates" in text and "Disagreements: 8" in text


@pytest.mark.slow
def test_the_sample_is_fair_and_its_seed_counts(tmp_path: Path) -> None:
    path = verified(tmp_path / "in.jsonl", {("incorrect", "wrong"): 60, ("correct", "right"): 60})
    report = audit(path, KEYS, SECTION, sample=40, seed=1)
    assert Counter(row.verdict.value for row, _ in report.checked) == {"incorrect": 27, "correct": 13}
    assert report.verdicts == {"incorrect": 60, "correct": 60}
    drawn = [row.where for row, _ in report.checked]
    assert len(set(drawn)) == 40 and drawn == sorted(drawn, key=lambda w: int(w.split()[1]))
    again, other = (audit(path, KEYS, SECTION, sample=40, seed=s) for s in (1, 2))
    assert [row.where for row, _ in again.checked] == drawn != [row.where for row, _ in other.checked]


@pytest.mark.slow
def test_a_raw_file_is_judged_first(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    rows = [
        {"gold": "5", "text": "#### 5"},
        {"gold": "5", "text": "#### 6"},
        {"gold": "5", "text": "cut", "end": "length"},
    ]
    raw.write_text("".join(json.dumps({"end": "stop"} | r) + "\n" for r in rows) + "broken\n")
    keys = Keys("gold", "text", "end")
    first = audit(raw, keys, SECTION)
    verify_file(raw, keys, tmp_path / "judged.parquet", SECTION)
    second = audit(tmp_path / "judged.parquet", keys, SECTION)
    for report in (first, second):
        assert report.verdicts == {"correct": 1, "incorrect": 1, "undecided": 2}
        assert [o.value for _, o in report.checked] == ["right", "wrong"]
        assert "not looked at: 1 bad_row, 1 truncated" in "\n".join(report_lines(report))


@pytest.mark.slow
def test_a_check_that_hangs_settles_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [("\\boxed{9^{9^{9^{9^{9}}}}}", "$10^{10^{10^{10}}}$"), ("\\boxed{5}", "5"), ("\\boxed{6}", "6")]
    columns = {"verdict": "incorrect", "verdict_reason": None, "answer": None, "method": None}
    path.write_text("".join(json.dumps({"gold": g, "text": t} | columns) + "\n" for t, g in rows))
    report = audit(path, KEYS, VerifySection(timeout=2.0))
    assert [o.value for _, o in report.checked] == ["unsettled", "right", "right"]


@pytest.mark.slow
def test_hostile_text_does_not_reach_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07 [bold red]5[/] \u202e\u2066 \x9b31m\r\n\u2028 \x00 #### "
    path, text = tmp_path / "in.jsonl", ""
    for verdict, found in (("incorrect", "5"), ("correct", "6")):
        row = {"gold": f"{evil}5", "text": f"{evil}{found}", "verdict": verdict, "verdict_reason": None}
        text += json.dumps(row | {"answer": evil, "method": evil}) + "\n"
    path.write_text(text)
    report = audit(path, KEYS, SECTION)
    lines = list(report_lines(report))
    assert "Disagreements: 2" in lines
    assert all(line.isprintable() for line in lines)
    assert any(r"\x1b[2J" in line and r"\u202e" in line and "[bold red]" in line for line in lines)
    assert safe("a\x1b\n\ud800é中 b", 100) == r"a\x1b\n\ud800é中 b" and safe("x" * 50, 10) == "xxxxxxx..."


def test_mistakes(tmp_path: Path) -> None:
    path = verified(tmp_path / "in.jsonl", {("correct", "right"): 1})

    def message(target: Path, keys: Keys | None = KEYS, **options: object) -> str:
        with pytest.raises(InputError) as caught:
            audit(target, keys, SECTION, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "did you mean 'gold'" in message(path, Keys("glod", "text"))
    assert "was written by an earlier negrl verify" in message(path, Keys("answer", "text"))
    assert "is the input file" in message(path, out=path)
    assert "ends in .jsonl" in message(path, out=tmp_path / "d.parquet")
    assert "--gold and --response" in message(path, None)
    assert "leave out --gold" in message(tmp_path, KEYS)
    assert "no such recipe" in message(tmp_path, None)
    (tmp_path / "odd.jsonl").write_text(path.read_text().replace('"correct"', '"fine"'))
    assert "must be correct, incorrect or undecided, not 'fine'" in message(tmp_path / "odd.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"gold": "5", "text": null}\n')
    assert "to judge (line 1: column 'text' must be text, not null)" in message(bad)


def trace(index: int, problem_id: str, found: int, verdict: str) -> Trace:
    return Trace(
        f"t{index}", problem_id, 1, index, "p", "e", Sampling(), [1], [2], None, f"#### {found}", "stop",
        str(found), verdict, None, "hash",
    )  # fmt: skip


@pytest.mark.slow
def test_a_run(tmp_path: Path) -> None:
    recipe = f"name: t\noutput_dir: {tmp_path}\npolicy: {{model: m}}\nproblems: {{source: chain}}\nevaluate: null\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    (tmp_path / "world.yaml").write_text(recipe + "verify: {extract: chain}\n")
    with pytest.raises(InputError, match="nothing to audit"):
        audit(tmp_path / "world.yaml", None, SECTION)
    with pytest.raises(InputError, match="no finished run"):
        audit(tmp_path, None, SECTION)
    store = Store(tmp_path / "stages")
    problems = [Problem(f"p{n}", "s", "train", "MIT", "?", str(n)) for n in range(3)]
    store.stage("problems", "a").write("problems", 0, Problem, problems)
    traces = [trace(0, "p0", 0, "correct"), trace(1, "p1", 1, "incorrect"), trace(2, "p2", 7, "incorrect")]
    store.stage("verify", "b").write("traces", 0, Trace, traces)
    store.stage("verify", "of-another-run").write("traces", 0, Trace, traces)
    stages = {
        name: {"folder": str(tmp_path / "stages" / folder)} for name, folder in (("x", "problems-a"), ("y", "verify-b"))
    }
    (tmp_path / "stages.json").write_text(json.dumps(stages))
    for target in (tmp_path, tmp_path / "recipe.yaml"):
        report = audit(target, None, SECTION)
        assert [(row.where, o.value) for row, o in report.checked] == [
            ("trace t0", "right"), ("trace t1", "right"), ("trace t2", "wrong"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("response", "gold", "value"),
    [
        (r"Thus $\boxed{\frac{1}{2}}$", "0.5", "right"),
        (r"Thus $\boxed{\dfrac12}$", r"\frac{1}{2}", "right"),
        (r"we get \boxed{x^2+2x+1}", "(x+1)^2", "right"),
        ("The answer is 1,234.", "#### 1234", "right"),
        ("She has $18 left", "#### 18", "right"),
        ("She has $17 left", "#### 18", "wrong"),
        (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", "right"),
        ("no number at all", "7", "unsettled"),
        (r"\boxed{" + "9" * 5000 + "}", "7", "wrong"),
    ],
)
def test_the_second_way(response: str, gold: str, value: str) -> None:
    assert second_opinion(response, gold).value == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{1} then \boxed{\frac{1}{2}} .", r"\frac{1}{2}"),
        (r"\boxed{1", None),
        ("#### 12\n#### 5 \nmore 7", "5"),
        ("a 3 b -4.50 c.", "-4.50"),
        ("it is $.50 now", "$.50"),
        ("none", None),
    ],
)
def test_plain_answers(text: str, expected: str | None) -> None:
    assert plain_answer(text) == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (r"\frac12", r"\dfrac{1}{2}"), ("1/2", r"\tfrac{1}{2}"), (r"x = 5", "5"), (r"5\text{ cm}", "5"),
        (r"\$1,000", "1000"), (r"90^\circ", "90"), (r"\left( 1,\! 2 \right)", "(1,2)"), (".5", "0.5"), (r"5\%", "5"),
        (r"\sqrt3", r"\sqrt{3}"),
    ],
)  # fmt: skip
def test_normalised_as_math_does(left: str, right: str) -> None:
    assert normalised(left) == normalised(right)
