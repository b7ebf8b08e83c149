"""ProblemsSection from JSON lines: what is read, and one clear line for each mistake."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from negrl.errors import InputError
from negrl.problems import load_problems, world_of
from negrl.problems.jsonl import JsonlProblems
from negrl.records import Message

ROWS = [{"prompt": f"{i}+{i}?", "gold": 2 * i, "info": {"why": f"double {i}"}} for i in range(1, 6)]


def write(path: Path, lines: list[object]) -> str:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def section(path: str, **options: object) -> JsonlProblems:
    return JsonlProblems(source="jsonl", path=path, **options)


def message(section: JsonlProblems) -> str:
    with pytest.raises(InputError) as caught:
        load_problems(section)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_rows_become_problems(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ROWS)
    options = section(path, solution="info.why", template="Q: {prompt}\nA:", license="MIT", train=2, evaluate=2)
    problems = load_problems(options)
    assert [p.gold for p in problems.train] == ["2", "4"]
    assert [p.gold for p in problems.evaluate] == ["8", "10"], "the last two, taken out of training"
    first = problems.train[0]
    assert (first.prompt, first.solution, first.license) == ("Q: 1+1?\nA:", "double 1", "MIT")
    assert (first.source, first.split, first.meta, first.messages) == (f"jsonl:{name}", "train", {"line": 1}, None)
    assert {p.split for p in problems.evaluate} == {"evaluate"}
    ids = [p.problem_id for p in problems.train + problems.evaluate]
    assert len(set(ids)) == 4
    assert ids == [p.problem_id for s in (load_problems(options),) for p in s.train + s.evaluate], "ids are stable"
    assert world_of(options) is None


def test_evaluate_path_and_all_rows(tmp_path: Path) -> None:
    train, held = write(tmp_path / "a.jsonl", ROWS[:3]), write(tmp_path / "b.jsonl", ROWS[3:])
    problems = load_problems(section(train, evaluate_path=held, evaluate=1))
    assert ([p.gold for p in problems.train], [p.gold for p in problems.evaluate]) == (["2", "4", "6"], ["8"])
    assert load_problems(section(train)).evaluate == []


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write(path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_problems(section(str(path))).train) == 5


def test_messages(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2+2?"}]
    path = write(tmp_path / "p.jsonl", [{"prompt": talk, "gold": "4"}])
    [problem] = load_problems(section(path, template="{prompt} Box it.")).train
    assert problem.messages == [Message("system", "Be short."), Message("user", "2+2? Box it.")]
    assert problem.prompt == "2+2? Box it."
    bad = write(tmp_path / "q.jsonl", [{"prompt": [{"role": "user"}], "gold": "4"}])
    assert message(section(bad)) == f"{bad}:1: column 'prompt': each message needs 'role' and 'content'"
    bad = write(tmp_path / "r.jsonl", [{"prompt": talk[:1], "gold": "4"}])
    assert message(section(bad)) == f"{bad}:1: column 'prompt': no message of role 'user'"


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        ([], None),
        ([ROWS[0], {"prompt": "x", "gold": None}], ":2: problem without gold: column 'gold' is null"),
        ([ROWS[0], {"prompt": "x", "gold": "  "}], ":2: problem without gold: column 'gold' is empty"),
        ([ROWS[0], {"prompt": "x"}], ":2: no column 'gold' (columns: prompt)"),
        ([{"prompt": "x", "golds": "1"}], ":1: no column 'gold' (did you mean 'golds'?)"),
        ([{"prompt": "x", "gold": True}], ":1: column 'gold' must be text, not bool"),
        ([{"prompt": 3, "gold": "1"}], ":1: column 'prompt' must be text, not int"),
        ([{"prompt": " ", "gold": "1"}], ":1: column 'prompt' is empty"),
        (['{"prompt": "\\ud800", "gold": "1"}'], ":1: column 'prompt' is not valid Unicode text"),
        ([ROWS[0], ROWS[1], "", ROWS[0]], ": the same prompt on lines 1 and 4"),
        (
            [ROWS[0], "{'prompt': 1}"],
            ":2: not valid JSON (Expecting property name enclosed in double quotes at column 2)",
        ),
        (["[1]"], ":1: expected a JSON object, got list"),
        (["[" * 200_000], ":1: not usable JSON (nested too deep)"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, lines: list[object], end: str | None) -> None:
    path = write(tmp_path / "p.jsonl", lines)
    assert message(section(path)) == (f"no problems in {path}" if end is None else path + end)


def test_mistakes_in_the_section(tmp_path: Path) -> None:
    path = write(tmp_path / "problems.jsonl", ROWS)
    missing = str(tmp_path / "problem.jsonl")
    assert message(section(missing)) == f"{missing}: no such file (did you mean 'problems.jsonl'?)"
    assert message(section(str(tmp_path))) == f"{tmp_path}: is a folder, expected a JSON lines file"
    assert message(section(path, solution="info.wy")) == f"{path}:1: no column 'info.wy' (did you mean 'info.why'?)"
    assert message(section(path, template="hi")) == "problems.template: must contain {prompt}, got 'hi'"
    assert message(section(path, evaluate=5)) == (
        f"problems.evaluate: 5 held-out problems leave none of the 5 in {path} for training"
    )
    held = write(tmp_path / "held.jsonl", [{"prompt": "new", "gold": "1"}, ROWS[2], ROWS[0]])
    assert message(section(path, evaluate_path=held)) == (
        f"{held}: 2 held-out problems are in {path} too, the first at line 2 (there line 3)"
    )


@pytest.mark.slow
def test_problems_load_nothing_heavy() -> None:
    code = (
        "import sys, negrl.problems, negrl.problems.jsonl, negrl.problems.gsm8k, negrl.problems.imported\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sympy', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
