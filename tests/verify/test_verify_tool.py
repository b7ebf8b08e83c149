"""`negrl verify` as a tool: streams, CSV, chats, several samples a row, and going on after a kill."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negrl import files
from negrl.audit import audit
from negrl.cli import main
from negrl.errors import InputError
from negrl.files import column
from negrl.recipe import VerifySection
from negrl.verify import Verifier
from negrl.verify.files import Keys, verify_file
from tests.verify.test_verify_files import read, read_any, stop_after, write, write_any

ROOT = Path(__file__).resolve().parents[2]
SECTION = VerifySection()
KEYS = Keys("gold", "text")
OWN = ("verdict", "verdict_reason", "verdict_answer", "verdict_method")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("m[-1].content", "last"), ("m.-1.content", "last"), ("m[0].content", "first"), ("m.0.content", "first"),
        ("a.b", "inner"), ("a.c[1][0]", 3), ("x.y", "flat"), ("l[-1]", 9), ("z[0]", "named"),
    ],
)  # fmt: skip
def test_paths(path: str, value: object) -> None:
    row = {
        "m": [{"content": "first"}, {"content": "last"}], "a": {"b": "inner", "c": [1, [3]]}, "x.y": "flat",
        "l": [7, 8, 9], "z[0]": "named",
    }  # fmt: skip
    assert column(row, path, "f:1") == value


@pytest.mark.parametrize("path", ["m[2].content", "m[-3]", "m[x]", "m.content", "a[0]", "m[0].content.x", "m[", "q[0]"])
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(InputError, match="f:1: no column"):
        column({"m": [{"content": "first"}, {"content": "last"}], "a": {"b": 1}}, path, "f:1")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("path", ["messages[-1].content", "messages.-1.content"])
def test_chats(tmp_path: Path, kind: str, path: str) -> None:
    rows = [
        {"gold": "5", "messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "#### 5"}]},
        {"gold": "5", "messages": [{"role": "assistant", "content": "#### 6"}]},
        {"gold": "5", "messages": []},
    ]
    source, out = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
    if kind == "jsonl":
        write(source, list(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), source)
    summary = verify_file(source, Keys("gold", path), out, SECTION)
    found = read_any(out)
    assert [r["verdict"] for r in found] == ["correct", "incorrect", "undecided"]
    assert [{k: r[k] for k in ("gold", "messages")} for r in found] == rows
    assert summary.problems == [(3, f"no column '{path}' (columns: gold, messages)")]
    with pytest.raises(InputError, match=r"no column 'messages\.-1\.contents'"):
        verify_file(source, Keys("gold", "messages.-1.contents"), tmp_path / "b.jsonl", SECTION)
    assert audit(out, Keys("gold", path), SECTION).verdicts == {"correct": 1, "incorrect": 1, "undecided": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds", [("jsonl", "jsonl"), ("jsonl", "parquet"), ("parquet", "parquet"), ("parquet", "csv")]
)
def test_several_samples_a_row(tmp_path: Path, kinds: tuple[str, str]) -> None:
    rows = [
        {"gold": "5", "text": ["#### 5", "#### 6", "none"], "end": ["stop", "stop", "length"]},
        {"gold": "7", "text": ["#### 7", None], "end": ["stop", None]},
        {"gold": None, "text": ["#### 7"], "end": ["stop"]},
        {"gold": "8", "text": [], "end": []},
        {"gold": "8", "text": ["#### 8"], "end": ["stop", "stop"]},
    ]
    source, out = write_any(tmp_path / f"in.{kinds[0]}", rows), tmp_path / f"out.{kinds[1]}"
    keys = Keys("gold", "text", "end")
    summary = verify_file(source, keys, out, SECTION)
    wanted = [
        ["correct", "incorrect", "undecided"], ["correct", "undecided"], ["undecided"], [], ["undecided"],
    ]  # fmt: skip
    found = read_any(out)
    if kinds[1] == "csv":
        assert [json.loads(r["verdict"]) for r in found] == wanted
        assert json.loads(found[0]["text"]) == rows[0]["text"]
        return
    assert [r["verdict"] for r in found] == wanted
    assert [r["verdict_reason"] for r in found] == [
        [None, None, "truncated"], [None, "bad_row"], ["bad_row"], [], ["bad_row"],
    ]  # fmt: skip
    assert found[0]["verdict_answer"][:2] == ["5", "6"]
    assert (summary.rows, summary.verdicts) == (5, {"correct": 2, "incorrect": 1, "undecided": 4})
    assert summary.problems == [
        (2, "column 'text[1]' must be text, not null"), (3, "problem without gold: column 'gold' is null"),
        (5, "1 responses, but 2 in 'end'"),
    ]  # fmt: skip
    before, after = audit(source, keys, SECTION), audit(out, keys, SECTION)
    assert before.verdicts == after.verdicts == summary.verdicts
    assert [r.where.split()[1:] for r, _ in before.checked] == [r.where.split()[1:] for r, _ in after.checked]
    assert before.checked[0][0].where.endswith("1, sample 1")


def test_a_text_among_lists_is_a_bad_row(tmp_path: Path) -> None:
    source = write_any(tmp_path / "in.jsonl", [{"gold": "5", "text": ["#### 5"]}, {"gold": "5", "text": "#### 5"}])
    summary = verify_file(source, KEYS, tmp_path / "out.jsonl", SECTION)
    assert summary.problems == [(2, "column 'text' must be a list of texts, as in the rows before it")]
    none = write_any(tmp_path / "none.jsonl", [{"gold": "5", "text": []}])
    with pytest.raises(InputError, match="every list in 'text' is empty"):
        verify_file(none, KEYS, tmp_path / "none-out.jsonl", SECTION)


CSV = '\ufeffgold,text,note\n5,"The answer,\nI think, is ""5"".\n#### 5",é\n\n"1,000",#### 1000,\n7,#### 8,"a ""b"""\n'


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet"])
def test_csv(tmp_path: Path, name: str, kind: str) -> None:
    source, out = tmp_path / name, tmp_path / f"out.{kind}"
    source.write_bytes(gzip.compress(CSV.encode()) if name.endswith("gz") else CSV.encode())
    verify_file(source, KEYS, out, SECTION)
    if kind == "csv.gz":
        (tmp_path / "plain.csv").write_bytes(gzip.decompress(out.read_bytes()))
    found = read_any(tmp_path / "plain.csv" if kind == "csv.gz" else out)
    assert [list(r) for r in found] == [["gold", "text", "note", *OWN]] * 3
    assert [r["verdict"] for r in found] == ["correct", "correct", "incorrect"]
    assert [r["note"] or "" for r in found] == ["é", "", 'a "b"']
    assert found[0]["text"] == 'The answer,\nI think, is "5".\n#### 5'
    assert audit(out, KEYS, SECTION).verdicts == {"correct": 2, "incorrect": 1}


def test_any_file_as_csv(tmp_path: Path) -> None:
    rows = [
        {"gold": 5, "text": "#### 5", "x": None, "y": 0.5, "z": True},
        {"gold": "6", "text": "#### 6", "late": {"a": [1]}},
    ]
    verify_file(write_any(tmp_path / "in.jsonl", rows), KEYS, tmp_path / "out.csv", SECTION)
    found = read_any(tmp_path / "out.csv")
    assert [r["gold"] for r in found] == ["5", "6"] and [r["verdict"] for r in found] == ["correct", "correct"]
    assert [(r["x"], r["y"], r["z"], r["late"]) for r in found] == [
        (None, "0.5", "true", None), (None, None, None, '{"a": [1]}'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"gold,text\n5,a\n5,a,b\n", "row 2: has 3 fields, the header 2; is a comma or a line end not in quotes?"),
        (b"gold,text\n5\n", "row 1: has 1 fields, the header 2"),
        (b"gold,text,gold\n5,a,5\n", "has several columns 'gold'"),
        (b"gold,text\n5,\"a\n", "not valid CSV (unexpected end of data)"),
        (b"gold,text\n5,\"a\"b\n", "not valid CSV"),
        (b"gold,text\n5,\xff\n", "not UTF-8 text"),
        (b"gold,text\n", "no rows in"),
        (b"", "no column 'gold' (the row is empty)"),
        (b"gold,txt\n5,#### 5\n", "no column 'text' (did you mean 'txt'?)"),
        (b"gold,text\n,#### 5\n", "no row has 'gold' and 'text' to judge (row 1: problem without gold"),
    ],
)  # fmt: skip
def test_mistakes_in_csv(tmp_path: Path, content: bytes, words: str) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(content)
    with pytest.raises(InputError) as caught:
        verify_file(source, KEYS, tmp_path / "out.csv", SECTION)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.slow
def test_lists_come_back_from_csv(tmp_path: Path) -> None:
    """`negrl audit` of what `negrl verify` wrote; a row that is bad as a whole has one verdict."""
    rows = [
        {"gold": "5", "text": ["#### 5", "[6]", None], "end": ["stop", "stop", "length"]},
        {"gold": "7", "text": [], "end": "stop"},
        {"gold": "8", "text": "#### 8", "end": "stop"},
        {"gold": "9", "text": ["#### 1"], "end": "stop"},
    ]
    source, keys = write_any(tmp_path / "in.jsonl", rows), Keys("gold", "text", "end")
    found = {}
    for kind in ("jsonl", "csv"):
        out = tmp_path / f"out.{kind}"
        verify_file(source, keys, out, SECTION)
        found[kind] = audit(out, keys, SECTION)
    assert found["csv"].verdicts == found["jsonl"].verdicts == {"correct": 1, "incorrect": 1, "undecided": 3}
    assert found["csv"].reasons == found["jsonl"].reasons
    checked = [
        [(row.response, row.gold, row.verdict.value, opinion) for row, opinion in found[kind].checked] for kind in found
    ]
    assert checked[0] == checked[1] and ("#### 1", "9", "incorrect") in [one[:3] for one in checked[0]]
    odd = tmp_path / "odd.csv"
    odd.write_text((tmp_path / "out.csv").read_text() + "9,#### 1,stop,correct,,,\n")
    with pytest.raises(InputError, match=r"odd.csv: row 5: column 'verdict' must be a list as JSON, as in other rows"):
        audit(odd, keys, SECTION)


@pytest.mark.slow
def test_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"gold": "5", "text": "#### 5"}, {"gold": "5", "text": "#### 6"}]
    raw = "".join(json.dumps(r) + "\n" for r in rows).encode() + b"broken\n"

    def given() -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))

    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=printed))
    given()
    summary = verify_file("-", KEYS, "-", SECTION)
    found = [json.loads(line) for line in printed.getvalue().splitlines()]
    assert [r["verdict"] for r in found] == ["correct", "incorrect", "undecided"]
    assert summary.where(3) == "stdin:3" and [n for n, _ in summary.problems] == [3]
    given()
    verify_file("-", KEYS, tmp_path / "out.parquet", SECTION)
    assert [r["verdict"] for r in read_any(tmp_path / "out.parquet")] == ["correct", "incorrect", "undecided"]
    given()
    assert audit("-", KEYS, SECTION).verdicts == {"correct": 1, "incorrect": 1, "undecided": 1}
    for pair in (("-", tmp_path / "x.jsonl"), (tmp_path / "out.parquet", "-")):
        with pytest.raises(InputError, match="can't be resumed; name files"):
            verify_file(pair[0], KEYS, pair[1], SECTION, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.slow
def test_csv_through_streams(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """The command line: what comes in and goes out is as `--format` says."""

    def call(*words: str) -> tuple[object, bytes, bytes]:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(CSV.encode())))
        monkeypatch.setattr(sys, "argv", ["negrl", *words, "--gold", "gold", "--response", "text"])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsysbinary.readouterr())

    code, out, err = call("verify", "-", "--out", "-", "--format", "csv")
    assert code == 0, err
    found = list(csv.DictReader(io.StringIO(out.decode())))
    assert [list(row) for row in found] == [["gold", "text", "note", *OWN]] * 3
    assert [row["verdict"] for row in found] == ["correct", "correct", "incorrect"]
    assert found[0]["text"] == 'The answer,\nI think, is "5".\n#### 5'
    code, out, _ = call("audit", "-", "--format", "csv")
    assert code == 0 and out.startswith(b"3 of 3 verdicts of - checked")
    code, _, err = call("verify", "in.csv", "--out", "out.csv", "--format", "csv")
    assert code == 2 and err == b"negrl: --format csv: says what - holds; the names of files say it themselves\n"


@pytest.fixture
def judgings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each call of the verifier was given."""
    counts: list[int] = []
    original = Verifier.verify_all

    def counted(self, items, *args):
        counts.append(len(items))
        return original(self, items, *args)

    monkeypatch.setattr(Verifier, "verify_all", counted)
    return counts


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "jsonl.gz"])
def test_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judgings: list[int], kind: str) -> None:
    monkeypatch.setattr(files.sources, "ROWS", 10)
    rows = [{"gold": str(n), "text": f"#### {n - n % 2}" if n % 7 else ""} for n in range(95)]
    source = write_any(tmp_path / "in.jsonl", rows)
    source.write_bytes(source.read_bytes() + b"broken\n")
    out, whole = tmp_path / f"out.{kind}", tmp_path / f"whole.{kind}"
    wanted = verify_file(source, KEYS, whole, SECTION)
    with pytest.raises(KeyboardInterrupt):
        verify_file(source, KEYS, out, SECTION, on_row=stop_after(45))
    partial = tmp_path / f"out.{kind}.partial"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["in.jsonl", whole.name, partial.name])
    with partial.open("ab") as handle:
        handle.write(b'[[["corr')  # the kill came within a write
    judgings.clear()
    found = verify_file(source, KEYS, out, SECTION, resume=True)
    assert sum(judgings) == 45  # of 95: five batches of ten were known
    assert out.read_bytes() == whole.read_bytes()
    assert (found.verdicts, found.reasons, found.problems, found.rows) == (
        wanted.verdicts, wanted.reasons, wanted.problems, 96,
    )  # fmt: skip
    assert not partial.exists()
    with pytest.raises(InputError, match="is there already"):
        verify_file(source, KEYS, out, SECTION, resume=True)
    out.unlink()
    verify_file(source, KEYS, out, SECTION, resume=True)  # nothing to go on from: all of it
    assert out.read_bytes() == whole.read_bytes()


def test_an_error_on_the_way_loses_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judgings: list[int]
) -> None:
    """The disk is full after 50 rows: what was judged stays, and is not judged again."""
    monkeypatch.setattr(files.sources, "ROWS", 10)
    source, out = write_any(tmp_path / "in.jsonl", [{"gold": "5", "text": f"#### {n}"} for n in range(95)]), "out.jsonl"
    verify_file(source, KEYS, tmp_path / "whole.jsonl", SECTION)
    judgings.clear()
    real, written = files.sinks.encode, []

    def full(*arguments: object) -> bytes:
        written.append(arguments)
        if len(written) == 50:
            raise InputError("out.jsonl: cannot be written: No space left on device")
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(files.sinks, "encode", full)
        with pytest.raises(InputError) as caught:
            verify_file(source, KEYS, tmp_path / out, SECTION)
    partial = tmp_path / "out.jsonl.partial"
    said = f"out.jsonl: cannot be written: No space left on device; what is judged is in {partial}, --resume continues"
    assert str(caught.value) == f"{said} from there" and partial.exists() and not (tmp_path / out).exists()
    verify_file(source, KEYS, tmp_path / out, SECTION, resume=True)
    assert sum(judgings) == 95
    assert (tmp_path / out).read_bytes() == (tmp_path / "whole.jsonl").read_bytes() and not partial.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda source, keys: source.write_bytes(source.read_bytes().replace(b'"5"', b'"6"')),
        lambda source, keys: keys.update(section=VerifySection(extract="boxed")),
        lambda source, keys: keys.update(keys=Keys("text", "gold")),
    ],
)
def test_resume_only_what_is_the_same(tmp_path: Path, change: Callable[..., object]) -> None:
    source, out = write_any(tmp_path / "in.jsonl", [{"gold": "5", "text": "#### 5"}] * 3), tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        verify_file(source, KEYS, out, SECTION, on_row=stop_after(0))
    given: dict = {"keys": KEYS, "section": SECTION}
    change(source, given)
    with pytest.raises(InputError, match=r"out.jsonl.partial: is of another input, other settings"):
        verify_file(source, given["keys"], out, given["section"], resume=True)
    assert (tmp_path / "out.jsonl.partial").exists() and not out.exists()
    verify_file(source, given["keys"], out, given["section"])
    assert not (tmp_path / "out.jsonl.partial").exists() and out.exists()


@pytest.mark.slow
def test_a_kill_leaves_no_temporary_file(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"gold": f"(x+{n})(x+1)", "text": f"\\boxed{{x^2+{n + 1}x+{n}}}"} for n in range(200)]
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    command = [sys.executable, "-m", "negrl", "verify", str(source), "--gold", "gold", "--response", "text"]
    command += ["--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial, deadline = tmp_path / "out.jsonl.partial", time.monotonic() + 240
    while not (partial.exists() and partial.read_bytes().count(b"\n") > 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl.partial"]
    done = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "200 rows written" in done.stdout
    assert [r["verdict"] for r in read(out)] == ["correct"] * 200
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
