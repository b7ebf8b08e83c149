"""Verdicts for a file of responses: what `negrl verify FILE --gold KEY --response KEY --out OUT` does.

JSON lines in, JSON lines out, either of them plain or .gz by its name. Each row keeps its columns and
its place and gains `verdict`, `verdict_reason`, `answer` and `method`. A column of the file's own with
such a name (GSM8K's gold is called `answer`) is kept as `input_<name>`; the columns of an earlier
`negrl verify` are replaced. A row that can't be judged is undecided with reason `bad_row`.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from negrl.errors import InputError
from negrl.problems.files import check_exists, column, gold_value, parse_object, raw_lines, text_value
from negrl.recipe import VerifySection
from negrl.records import UNDECIDED, Verdict
from negrl.verify import Verifier

BAD_ROW = "bad_row"
COLUMNS = ("verdict", "verdict_reason", "answer", "method")
_BAD = Verdict(UNDECIDED, BAD_ROW)


@dataclass(slots=True)
class VerifySummary:
    """`verdicts` and `reasons` count rows; `problems` are (line number, what is wrong with the row)."""

    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)


def verify_file(
    path: str | Path,
    gold: str,
    response: str,
    out: str | Path,
    section: VerifySection,
    on_row: Callable[[], None] | None = None,
) -> VerifySummary:
    """Judge every row of a file and write them all, with the verdicts, to another.

    Args:
        path: JSON lines, plain or .gz.
        gold: column with the right answer; dotted paths reach into objects.
        response: column with the text to judge.
        out: written whole or not at all; replaced if it exists (a link stays a link to it).
        section: how to verify.
        on_row: called after each row.

    Raises:
        InputError: the input is missing or empty, not one of its rows can be judged, its first row has no
            such column, or `out` is the input file or no place to write to.
    """
    source = check_exists(path)
    target = _target(out, source)
    verifier, summary = Verifier(section), VerifySummary()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot make its folder: {error.strerror}") from None
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as raw:
            if Path(out).suffix == ".gz":  # no name and no time in the header: the same rows give the same bytes
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped:
                    _write_rows(source, gold, response, zipped.write, verifier, summary, on_row)
            else:
                _write_rows(source, gold, response, raw.write, verifier, summary, on_row)
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return summary


def _target(out: str | Path, source: Path) -> Path:
    """The file to put in place, behind any links: the rename would replace whatever bears the name."""
    given = Path(out)
    try:
        mode = given.stat().st_mode
    except FileNotFoundError:
        return given.resolve()
    except OSError as error:  # links in a circle, a folder that may not be looked into
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{out}: is a folder, expected a file name to write to")
    if not stat.S_ISREG(mode):
        raise InputError(f"{out}: is a device, pipe or socket, expected a file name to write to")
    if given.samefile(source):
        raise InputError(f"{out}: is the input file; give another --out")
    return given.resolve()


def _write_rows(
    source: Path,
    gold: str,
    response: str,
    write: Callable[[bytes], object],
    verifier: Verifier,
    summary: VerifySummary,
    on_row: Callable[[], None] | None,
) -> None:
    first = True  # the first usable row tells whether the columns exist at all
    for line, text in raw_lines(source):
        where = f"{source}:{line}"
        try:
            row = parse_object(text)
        except ValueError as error:
            row, verdict = {"raw": text.decode("utf-8", "replace")}, _BAD
            summary.problems.append((line, str(error)))
        else:
            if first:
                _check_columns(row, gold, response, where)
                first = False
            row, verdict = _judge(row, gold, response, where, verifier, summary, line)
        added = dict(zip(COLUMNS, (verdict.value, verdict.reason, verdict.answer, verdict.method), strict=True))
        write(_encode({**row, **added}))
        summary.rows += 1
        summary.verdicts[verdict.value] += 1
        if verdict.reason is not None:
            summary.reasons[verdict.reason] += 1
        if on_row is not None:
            on_row()
    if not summary.rows:
        raise InputError(f"no rows in {source}")
    if summary.reasons[BAD_ROW] == summary.rows:
        line, problem = summary.problems[0]
        wanted = f"'{gold}' and '{response}' to judge"
        raise InputError(f"{source}: no line is a JSON object with {wanted} (line {line}: {problem})")


def _judge(
    row: dict[str, Any], gold: str, response: str, where: str, verifier: Verifier, summary: VerifySummary, line: int
) -> tuple[dict[str, Any], Verdict]:
    """The row as it is kept, and its verdict."""
    try:
        right = gold_value(column(row, gold, where), gold, where)
        verdict = verifier.verify(text_value(column(row, response, where), response, where), right)
    except InputError as error:
        summary.problems.append((line, str(error).removeprefix(f"{where}: ")))
        verdict = _BAD
    if _verified_before(row):
        return {k: v for k, v in row.items() if k not in COLUMNS}, verdict
    return {f"input_{k}" if k in COLUMNS else k: v for k, v in row.items()}, verdict


def _check_columns(row: dict[str, Any], gold: str, response: str, where: str) -> None:
    for name in (gold, response):
        column(row, name, where)
        if _verified_before(row) and name in COLUMNS:
            own = f" (the file's own is 'input_{name}')" if f"input_{name}" in row else ""
            raise InputError(f"{where}: column '{name}' was written by an earlier negrl verify{own}")


def _verified_before(row: dict[str, Any]) -> bool:
    return all(name in row for name in COLUMNS)


def _encode(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: keep it as the escape that it came as
        return json.dumps(row).encode() + b"\n"
