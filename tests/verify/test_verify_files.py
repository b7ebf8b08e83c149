"""`negrl verify` on files: columns kept, order kept, bad rows reported, nothing half-written."""

import csv
import gzip
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negrl import files
from negrl.errors import InputError
from negrl.recipe import VerifySection
from negrl.verify.files import Keys, verify_file

SECTION = VerifySection()
KEYS = Keys("gold", "out.text")
ROWS = [
    {"id": 1, "gold": "5", "out": {"text": r"\boxed{5}"}},
    {"id": 2, "gold": 6, "out": {"text": "The answer is 7."}},
    {"id": 3, "gold": "8", "out": {"text": "no idea é"}},
]


TABLE = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int16()),
        "gold": pa.array(["5", "6", "8"]).dictionary_encode(),
        "out": pa.array([{"text": r"\boxed{5}"}, {"text": "The answer is 7."}, {"text": "no idea é"}]),
        "blob": pa.array([b"\x00\xff", None, b""], pa.binary()),
        "when": pa.array([0, None, 10**15], pa.timestamp("us", "UTC")),
        "score": pa.array([0.5, float("nan"), None], pa.float32()),
        "tags": pa.array([[1, 2], [], None], pa.list_(pa.int8())),
    },
    metadata={"made_by": "hand"},
)
VERDICTS = {
    "verdict": ["correct", "incorrect", "undecided"],
    "verdict_reason": [None, None, "no_answer"],
    "verdict_answer": ["5", "7", None],
    "verdict_method": ["boxed", "answer_is", None],
}


def write(path: Path, lines: list[object]) -> Path:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_table(path: Path, table: pa.Table, **options: object) -> Path:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    path.write_bytes(gzip.compress(buffer.getvalue()) if path.suffix == ".gz" else buffer.getvalue())
    return path


def read_table(path: Path) -> pa.Table:
    raw = path.read_bytes()
    return pq.read_table(io.BytesIO(gzip.decompress(raw) if path.suffix == ".gz" else raw))


def write_any(path: Path, rows: list[dict]) -> Path:
    """Rows as the name says. CSV and Parquet have all columns in every row."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".jsonl":
        return write(path, list(rows))
    if path.suffix == ".parquet":
        return write_table(path, pa.table({name: [row.get(name) for row in rows] for name in names}))
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_any(path: Path) -> list[dict]:
    """In CSV, nothing is None."""
    if path.suffix == ".csv":
        with path.open(newline="") as handle:
            return [{k: v or None for k, v in row.items()} for row in csv.DictReader(handle)]
    return read_table(path).to_pylist() if path.suffix == ".parquet" else read(path)


def read(path: Path) -> list[dict]:
    raw = path.read_bytes()
    return [json.loads(x) for x in (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()]


@pytest.mark.parametrize("name_in", ["in.jsonl", "in.jsonl.gz"])
@pytest.mark.parametrize("name_out", ["out.jsonl", "sub/out.jsonl.gz"])
def test_rows_keep_their_columns_and_order(tmp_path: Path, name_in: str, name_out: str) -> None:
    source, out, ticks = write(tmp_path / name_in, ROWS), tmp_path / name_out, []
    summary = verify_file(source, KEYS, out, SECTION, on_row=lambda: ticks.append(1))
    rows = read(out)
    assert [{k: r[k] for k in ("id", "gold", "out")} for r in rows] == ROWS
    assert [(r["verdict"], r["verdict_reason"], r["verdict_answer"], r["verdict_method"]) for r in rows] == [
        ("correct", None, "5", "boxed"),
        ("incorrect", None, "7", "answer_is"),
        ("undecided", "no_answer", None, None),
    ]
    assert summary.verdicts == {"correct": 1, "incorrect": 1, "undecided": 1}
    assert (summary.rows, summary.reasons, summary.problems, len(ticks)) == (3, {"no_answer": 1}, [], 3)
    first = out.read_bytes()
    with pytest.raises(InputError, match="is there already; --force replaces it"):
        verify_file(source, KEYS, out, SECTION)
    verify_file(source, KEYS, out, SECTION, force=True)
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
    summary = verify_file(write(tmp_path / "in.jsonl", lines), KEYS, out, SECTION)
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


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_input_columns_keep_their_names(tmp_path: Path, kind: str) -> None:
    """Whatever they are called; one of ours is asked about."""
    row = {"answer": "5", "method": "m", "input_answer": "x", "text": "#### 5"}
    source, first, second = tmp_path / f"in.{kind}", tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    write_any(source, [row])
    verify_file(source, Keys("answer", "text"), first, SECTION)
    own = {"verdict": "correct", "verdict_reason": None, "verdict_answer": "5", "verdict_method": "hash"}
    assert list(read_any(first)[0].items()) == list((row | own).items())
    with pytest.raises(InputError, match="has a column 'verdict' already; --prefix NAME gives"):
        verify_file(first, Keys("answer", "text"), second, SECTION)
    assert not second.exists()
    verify_file(first, Keys("answer", "text"), second, SECTION, prefix="again")
    other = {name.replace("verdict", "again"): value for name, value in own.items()}
    assert list(read_any(second)[0].items()) == list((row | own | other).items())


@pytest.mark.parametrize("name", ["verdict", "verdict_reason", "verdict_answer", "verdict_method"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_no_column_is_overwritten(tmp_path: Path, kind: str, name: str) -> None:
    """Not in a late row either, where what is judged is kept for --resume."""
    rows = [{"gold": "5", "text": "#### 5"}, {"gold": "5", "text": "#### 5", name: "mine"}]
    source, out = write_any(tmp_path / f"in.{kind}", rows), tmp_path / "out.jsonl"
    with pytest.raises(InputError, match=f"has a column '{name}' already"):
        verify_file(source, Keys("gold", "text"), out, SECTION)
    kept = ["out.jsonl.partial"] if kind == "jsonl" else []  # the other kinds know their columns beforehand
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source.name, *kept])
    verify_file(source, Keys("gold", "text"), out, SECTION, prefix="p")
    assert [row.get(name) or None for row in read(out)] == [None, "mine"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source.name, "out.jsonl"])


def test_user_mistakes_are_one_clear_line(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"

    def message(path: Path, keys: Keys, target: Path) -> str:
        with pytest.raises(InputError) as caught:
            verify_file(path, keys, target, SECTION)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert message(tmp_path / "im.jsonl", KEYS, out) == (
        f"{tmp_path}/im.jsonl: no such file (did you mean 'in.jsonl'?)"
    )
    assert message(source, Keys("glod", "out.text"), out) == f"{source}:1: no column 'glod' (did you mean 'gold'?)"
    assert (
        message(source, Keys("gold", "out.txt"), out) == f"{source}:1: no column 'out.txt' (did you mean 'out.text'?)"
    )
    assert message(source, KEYS, source) == f"{source}: is the input file; give another --out"
    empty = write(tmp_path / "empty.jsonl", [""])
    assert message(empty, KEYS, out) == f"no rows in {empty}"
    fake = tmp_path / "fake.jsonl.gz"
    fake.write_text("{}")
    assert message(fake, KEYS, out).startswith(f"{fake}: not a whole gzip file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.jsonl", "fake.jsonl.gz", "in.jsonl"]
    assert read(source) == ROWS


def stop_after(rows: int) -> Callable[[], None]:
    left = iter([None] * rows)

    def stop() -> None:
        if next(left, "end") == "end":
            raise KeyboardInterrupt

    return stop


def test_an_interrupted_run_leaves_the_old_output(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        verify_file(source, KEYS, out, SECTION, on_row=stop_after(2), force=True)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.jsonl.partial"]
    verify_file(source, KEYS, out, SECTION, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    source, pipe = write(tmp_path / "in.jsonl", ROWS), tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    (tmp_path / "to_pipe.jsonl").symlink_to(pipe)
    (tmp_path / "circle.jsonl").symlink_to(tmp_path / "circle.jsonl")
    for name, words in (
        ("pipe.jsonl", "is a device, pipe or socket"),
        ("to_pipe.jsonl", "is a device"),
        ("circle.jsonl", "symbolic"),
    ):
        with pytest.raises(InputError, match=f"{name}: .*{words}"):
            verify_file(source, KEYS, tmp_path / name, SECTION)
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and (tmp_path / "to_pipe.jsonl").is_symlink()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path: Path, exists: bool) -> None:
    source, link, real = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl", tmp_path / "sub" / "real"
    real.parent.mkdir()
    if exists:
        real.write_text("old")
    link.symlink_to(real)
    verify_file(source, KEYS, link, SECTION, force=exists)
    assert link.is_symlink() and len(read(real)) == 3
    assert [p.name for p in real.parent.iterdir()] == ["real"]


@pytest.mark.parametrize("content", [bytes(range(256)) * 9, json.dumps(ROWS).encode(), b"[\n1,\n2\n]\n"])
def test_a_file_without_one_good_row_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(content)
    with pytest.raises(InputError) as caught:
        verify_file(source, KEYS, out, SECTION)
    start = f"{source}: no line is a JSON object with 'gold' and 'out.text' to judge (line 1: "
    assert str(caught.value).startswith(start) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    summary = verify_file(source, KEYS, tmp_path / "out.jsonl", SECTION)
    assert summary.rows == 3 and not summary.problems


@pytest.mark.parametrize("name_in", ["in.parquet", "in.parquet.gz"])
@pytest.mark.parametrize("name_out", ["out.parquet", "out.parquet.gz"])
def test_parquet_keeps_its_types(tmp_path: Path, name_in: str, name_out: str) -> None:
    source, out = write_table(tmp_path / name_in, TABLE, row_group_size=2), tmp_path / name_out
    summary = verify_file(source, KEYS, out, SECTION)
    table = read_table(out)
    assert table.select(TABLE.column_names).schema.equals(TABLE.schema, check_metadata=False)
    assert table.schema.metadata[b"made_by"] == b"hand"
    assert str(table.select(TABLE.column_names).to_pylist()) == str(TABLE.to_pylist())  # as text: NaN differs from NaN
    assert table.select(list(VERDICTS)).to_pydict() == VERDICTS
    assert {table.schema.field(name).type for name in VERDICTS} == {pa.string()}
    assert (summary.rows, summary.problems) == (3, [])


def test_parquet_to_json_lines_and_back(tmp_path: Path) -> None:
    source, lines, back = write_table(tmp_path / "in.parquet", TABLE), tmp_path / "o.jsonl.gz", tmp_path / "b.parquet"
    verify_file(source, KEYS, lines, SECTION)
    rows = read(lines)
    assert [(r["blob"], r["when"], r["score"], r["tags"]) for r in rows] == [
        ("AP8=", "1970-01-01T00:00:00+00:00", 0.5, [1, 2]),
        (None, None, None, []),
        ("", "2001-09-09T01:46:40+00:00", None, None),
    ]
    verify_file(lines, KEYS, back, SECTION, prefix="again")
    found = read_table(back)
    assert found.drop_columns([f"again{n.removeprefix('verdict')}" for n in VERDICTS]).to_pylist() == rows
    assert [found[f"again{n.removeprefix('verdict')}"].to_pylist() for n in VERDICTS] == list(VERDICTS.values())


def test_json_lines_to_parquet_finds_one_schema_over_all_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.sources, "ROWS", 2)
    lines = [
        {"gold": "5", "text": r"\boxed{5}", "n": 1, "deep": {"a": None}, "empty": {}, "nothing": None, "list": []},
        {"gold": "5", "text": r"\boxed{6}"},
        "{broken",
        {"gold": "5", "text": r"\boxed{5}", "n": 2**60, "deep": {"b": [{"c": 1}]}, "list": [[1], [2.5]]},
        {"gold": "5", "text": r"\boxed{5}", "late": True, "deep": {"a": "x", "b": [{"d": 0.5}]}, "list": [None]},
        '{"gold": "5", "text": "\\\\boxed{5}", "late": false, "bad": "\\ud83d x \\ud83d\\ude00"}',
    ]
    out = tmp_path / "out.parquet"
    summary = verify_file(write(tmp_path / "in.jsonl", lines), Keys("gold", "text"), out, SECTION)
    table = read_table(out)
    deep = pa.struct([("a", pa.string()), ("b", pa.list_(pa.struct([("c", pa.int64()), ("d", pa.float64())])))])
    types = {
        "gold": pa.string(), "text": pa.string(), "n": pa.int64(), "deep": deep,
        "empty": pa.struct([("_", pa.null())]), "nothing": pa.null(), "list": pa.list_(pa.list_(pa.float64())),
        "raw": pa.string(), "late": pa.bool_(), "bad": pa.string(), **dict.fromkeys(VERDICTS, pa.string()),
    }  # fmt: skip
    assert table.column_names == list(types)
    assert all(table.schema.field(name).type.equals(t) for name, t in types.items())
    assert table["verdict"].to_pylist() == ["correct", "incorrect", "undecided", "correct", "correct", "correct"]
    assert table["raw"].to_pylist() == [None, None, "{broken", None, None, None]
    assert table["n"].to_pylist() == [1, None, None, 2**60, None, None]
    assert table["list"].to_pylist() == [[], None, None, [[1.0], [2.5]], [None], None]
    assert table["bad"].to_pylist()[-1] == "\ufffd x \U0001f600"
    assert [n for n, _ in summary.problems] == [3]


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (1, {"a": 1}, "key 'x' is an object, but a whole number on line 1"),
        ({"a": [1]}, {"a": ["b"]}, "key 'x.a[]' is text, but a whole number on line 1"),
        (True, 1, "key 'x' is a whole number, but true or false on line 1"),
        (0.5, 2**53 + 1, "key 'x' is a whole number that takes more than 53 bits, but a number on line 1"),
        (1, 2**64, "key 'x' is a whole number that takes more than 64 bits"),
        (None, json.loads("[" * 40 + "]" * 40), "is nested more than 32 deep"),
    ],
)
def test_rows_that_fit_in_no_column(tmp_path: Path, first: object, second: object, words: str) -> None:
    rows = [{"gold": "5", "text": "#### 5", "x": x} for x in (first, second)]
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet"
    out.write_text("old")
    with pytest.raises(InputError) as caught:
        verify_file(source, Keys("gold", "text"), out, SECTION, force=True)
    assert str(caught.value).startswith(f"{source}:2: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert out.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    verify_file(source, Keys("gold", "text"), tmp_path / "out.jsonl", SECTION)  # JSON lines hold them


def test_bad_parquet_rows_are_carried_through(tmp_path: Path) -> None:
    table = pa.table(
        {"gold": [5.0, None, 6.0, 7.0], "out": pa.array([{"text": "#### 5"}, {"text": "5"}, None, {"text": None}])}
    )
    out = tmp_path / "out.parquet"
    summary = verify_file(write_table(tmp_path / "in.parquet", table), KEYS, out, SECTION)
    assert read_table(out)["verdict_reason"].to_pylist() == [None, "bad_row", "bad_row", "bad_row"]
    assert read_table(out).select(table.column_names).equals(table)
    assert summary.problems == [
        (2, "problem without gold: column 'gold' is null"),
        (3, "no column 'out.text' (columns: gold, out)"),
        (4, "column 'out.text' must be text, not null"),
    ]


def test_mistakes_with_parquet(tmp_path: Path) -> None:
    def message(path: Path, out: Path, keys: Keys = KEYS) -> str:
        with pytest.raises(InputError) as caught:
            verify_file(path, keys, out, SECTION)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    source, out = write_table(tmp_path / "in.parquet", TABLE), tmp_path / "out.parquet"
    assert message(source, out, Keys("gold", "out.txt")) == f"{source}: no column 'out.txt' (did you mean 'out.text'?)"
    assert "is the input file" in message(source, source)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(source.read_bytes()[:-20])
    assert message(cut, out).startswith(f"{cut}: not a whole Parquet file (")
    holed = bytearray(write_table(tmp_path / "holed.parquet", TABLE, compression="zstd").read_bytes())
    holed[4:200] = bytes(196)
    (tmp_path / "holed.parquet").write_bytes(holed)
    assert "not a whole Parquet file" in message(tmp_path / "holed.parquet", out)
    twice = pa.Table.from_arrays([TABLE["gold"], TABLE["gold"], TABLE["out"]], ["gold", "gold", "out"])
    assert "several columns 'gold'" in message(write_table(tmp_path / "twice.parquet", twice), out)
    none = write_table(tmp_path / "none.parquet", TABLE.slice(0, 0))
    assert message(none, out) == f"no rows in {none}"
    nulls = write_table(tmp_path / "nulls.parquet", TABLE.set_column(1, "gold", pa.nulls(3, pa.string())))
    assert message(nulls, out).startswith(f"{nulls}: no row has 'gold' and 'out.text' to judge (row 1: problem without")
    for name in ("in.tsv", "jsonl", "in.gz"):
        (tmp_path / name).write_text("{}")
        assert "expected a name that ends in .jsonl, .json, .csv or .parquet" in message(tmp_path / name, out)
    assert "expected a name" in message(source, tmp_path / "out.tsv")
    assert "is a folder, expected a .jsonl, .csv or .parquet file" in message(tmp_path, out)
    assert not out.exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_a_response_that_was_cut_off_is_truncated(tmp_path: Path, name: str) -> None:
    rows = [{"gold": "5", "text": "#### 5", "why": {"end": end}} for end in ("stop", "length", None)]
    source = tmp_path / name
    write_table(source, pa.Table.from_pylist(rows)) if name == "in.parquet" else write(source, rows)
    out = tmp_path / "out.jsonl"
    verify_file(source, Keys("gold", "text", "why.end"), out, SECTION)
    assert [(r["verdict"], r["verdict_reason"]) for r in read(out)] == [
        ("correct", None), ("undecided", "truncated"), ("correct", None),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"no column 'why.edn' \(did you mean 'why.end'"):
        verify_file(source, Keys("gold", "text", "why.edn"), tmp_path / "b.jsonl", SECTION)


@pytest.mark.parametrize("kinds", [("jsonl", "parquet"), ("parquet", "jsonl"), ("parquet", "parquet")])
def test_many_batches_make_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, str]) -> None:
    monkeypatch.setattr(files.sources, "ROWS", 7)
    rows = [{"n": n, "gold": str(n), "text": f"#### {n - n % 2}"} for n in range(100)]
    source, out = tmp_path / f"in.{kinds[0]}", tmp_path / f"out.{kinds[1]}"
    if kinds[0] == "parquet":
        write_table(source, pa.Table.from_pylist(rows), row_group_size=13)
    else:
        write(source, rows)
    verify_file(source, Keys("gold", "text"), out, SECTION)
    found = read_table(out).to_pylist() if kinds[1] == "parquet" else read(out)
    assert [(r["n"], r["verdict"]) for r in found] == [(n, ("correct", "incorrect")[n % 2]) for n in range(100)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Parquet in one row group to JSON lines to Parquet to .gz, in batches of 2 MB: 60 MB take what 15 MB take."""
    code = (
        "import sys\n"
        "import negrl.files.sources, pyarrow.parquet\n"
        "from negrl.recipe import VerifySection\n"
        "from negrl.verify.files import Keys, verify_file\n"
        "negrl.files.sources.BYTES = 2 << 20\n"
        "for a, b in zip(sys.argv[1:], sys.argv[2:]):\n"
        "    verify_file(a, Keys('gold', 'text'), b, VerifySection(), prefix=b.split('/')[-1][0])\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
    )
    peaks = []
    for rows in (750, 3000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        numbers = [str(n) for n in range(rows)]
        columns = {
            "gold": numbers,
            "text": [f"#### {n}" for n in numbers],
            "notes": [n + "x y " * 5_000 for n in numbers],
        }
        # Pages of ten rows: one page is what a reader must hold.
        pq.write_table(pa.table(columns), folder / "in.parquet", use_dictionary=False, write_batch_size=10)
        names = [str(folder / n) for n in ("in.parquet", "a.jsonl", "b.parquet", "c.parquet.gz")]
        done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
        assert (folder / "a.jsonl").stat().st_size > rows * 20_000
        assert read_table(folder / "c.parquet.gz")["c"].to_pylist() == ["correct"] * rows
    assert peaks[1] - peaks[0] < 25, f"{peaks} MiB"
