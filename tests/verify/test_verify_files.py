"""`negrl verify` on files: columns kept, order kept, bad rows reported, nothing half-written."""

import gzip
import json
import os
import stat
from pathlib import Path

import pytest

from negrl.errors import InputError
from negrl.recipe import VerifySection
from negrl.verify.files import verify_file

SECTION = VerifySection()
ROWS = [
    {"id": 1, "gold": "5", "out": {"text": r"\boxed{5}"}},
    {"id": 2, "gold": 6, "out": {"text": "The answer is 7."}},
    {"id": 3, "gold": "8", "out": {"text": "no idea é"}},
]


def write(path: Path, lines: list[object]) -> Path:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path) -> list[dict]:
    raw = path.read_bytes()
    return [json.loads(x) for x in (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()]


@pytest.mark.parametrize("name_in", ["in.jsonl", "in.jsonl.gz"])
@pytest.mark.parametrize("name_out", ["out.jsonl", "sub/out.jsonl.gz"])
def test_rows_keep_their_columns_and_order(tmp_path: Path, name_in: str, name_out: str) -> None:
    source, out, ticks = write(tmp_path / name_in, ROWS), tmp_path / name_out, []
    summary = verify_file(source, "gold", "out.text", out, SECTION, on_row=lambda: ticks.append(1))
    rows = read(out)
    assert [{k: r[k] for k in ("id", "gold", "out")} for r in rows] == ROWS
    assert [(r["verdict"], r["verdict_reason"], r["answer"], r["method"]) for r in rows] == [
        ("correct", None, "5", "boxed"),
        ("incorrect", None, "7", "answer_is"),
        ("undecided", "no_answer", None, None),
    ]
    assert summary.verdicts == {"correct": 1, "incorrect": 1, "undecided": 1}
    assert (summary.rows, summary.reasons, summary.problems, len(ticks)) == (3, {"no_answer": 1}, [], 3)
    first = out.read_bytes()
    verify_file(source, "gold", "out.text", out, SECTION)
    assert out.read_bytes() == first


def test_bad_rows_are_reported_and_carried_through(tmp_path: Path) -> None:
    lines = [
        ROWS[0],
        "{not json",
        "[1, 2]",
        "",
        {"id": 4, "gold": "5"},
        {"id": 5, "gold": None, "out": {"text": "5"}},
        {"id": 6, "gold": "5", "out": {"text": 5}},
        '{"gold": "5", "out": {"text": "\\ud800 \\\\boxed{5}"}}',
        ROWS[1],
    ]
    out = tmp_path / "out.jsonl"
    summary = verify_file(write(tmp_path / "in.jsonl", lines), "gold", "out.text", out, SECTION)
    rows = read(out)
    assert [r["verdict_reason"] for r in rows] == [None] + ["bad_row"] * 6 + [None]
    assert (rows[1]["raw"], rows[2]["raw"], rows[3]["id"]) == ("{not json", "[1, 2]", 4)
    assert [r["verdict"] for r in rows] == ["correct"] + ["undecided"] * 6 + ["incorrect"]
    assert summary.reasons == {"bad_row": 6}
    assert summary.problems == [
        (2, "not valid JSON (Expecting property name enclosed in double quotes at column 2)"),
        (3, "expected a JSON object, got list"),
        (5, "no column 'out.text' (columns: id, gold)"),
        (6, "problem without gold: column 'gold' is null"),
        (7, "column 'out.text' must be text, not int"),
        (8, "column 'out.text' is not valid Unicode text"),
    ]


def test_own_columns_of_the_same_name_are_kept(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [{"answer": "5", "text": "#### 5"}])
    verify_file(source, "answer", "text", tmp_path / "a.jsonl", SECTION)
    [row] = read(tmp_path / "a.jsonl")
    assert (row["input_answer"], row["answer"], row["verdict"]) == ("5", "5", "correct")
    with pytest.raises(InputError, match=r"written by an earlier negrl verify \(the file's own is 'input_answer'\)"):
        verify_file(tmp_path / "a.jsonl", "answer", "text", tmp_path / "b.jsonl", SECTION)
    verify_file(tmp_path / "a.jsonl", "input_answer", "text", tmp_path / "b.jsonl", SECTION)
    assert read(tmp_path / "b.jsonl") == [row]


def test_user_mistakes_are_one_clear_line(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"

    def message(path: Path, gold: str, response: str, target: Path) -> str:
        with pytest.raises(InputError) as caught:
            verify_file(path, gold, response, target, SECTION)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert message(tmp_path / "im.jsonl", "gold", "out.text", out) == (
        f"{tmp_path}/im.jsonl: no such file (did you mean 'in.jsonl'?)"
    )
    assert message(source, "glod", "out.text", out) == f"{source}:1: no column 'glod' (did you mean 'gold'?)"
    assert message(source, "gold", "out.txt", out) == f"{source}:1: no column 'out.txt' (did you mean 'out.text'?)"
    assert message(source, "gold", "out.text", source) == f"{source}: is the input file; give another --out"
    empty = write(tmp_path / "empty.jsonl", [""])
    assert message(empty, "gold", "out.text", out) == f"no rows in {empty}"
    fake = tmp_path / "fake.jsonl.gz"
    fake.write_text("{}")
    assert message(fake, "gold", "out.text", out).startswith(f"{fake}: not a whole gzip file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.jsonl", "fake.jsonl.gz", "in.jsonl"]
    assert read(source) == ROWS


def test_an_interrupted_run_leaves_the_old_output(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    out.write_text("old")
    rows = iter([None, None])

    def stop() -> None:
        if next(rows, "end") == "end":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_file(source, "gold", "out.text", out, SECTION, on_row=stop)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    source, pipe = write(tmp_path / "in.jsonl", ROWS), tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "to_pipe").symlink_to(pipe)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, words in (("pipe", "is a device, pipe or socket"), ("to_pipe", "is a device"), ("circle", "symbolic")):
        with pytest.raises(InputError, match=f"{name}: .*{words}"):
            verify_file(source, "gold", "out.text", tmp_path / name, SECTION)
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and (tmp_path / "to_pipe").is_symlink()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path: Path, exists: bool) -> None:
    source, link, real = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl", tmp_path / "sub" / "real"
    real.parent.mkdir()
    if exists:
        real.write_text("old")
    link.symlink_to(real)
    verify_file(source, "gold", "out.text", link, SECTION)
    assert link.is_symlink() and len(read(real)) == 3
    assert [p.name for p in real.parent.iterdir()] == ["real"]


@pytest.mark.parametrize("content", [bytes(range(256)) * 9, json.dumps(ROWS).encode(), b"[\n1,\n2\n]\n"])
def test_a_file_without_one_good_row_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(content)
    with pytest.raises(InputError) as caught:
        verify_file(source, "gold", "out.text", out, SECTION)
    start = f"{source}: no line is a JSON object with 'gold' and 'out.text' to judge (line 1: "
    assert str(caught.value).startswith(start) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    summary = verify_file(source, "gold", "out.text", tmp_path / "out.jsonl", SECTION)
    assert summary.rows == 3 and not summary.problems
