"""Verdicts for a file of responses: what `negrl verify FILE --gold KEY --response KEY --out OUT` does.

Input and output are JSON lines or Parquet, according to their names, plain or .gz. Each row keeps its columns
and its place and gains `verdict`, `verdict_reason`, `answer` and `method`. If the file has a column with one of
these names (GSM8K calls its gold column `answer`), it is kept as `input_<name>`; columns from an earlier
`negrl verify` are replaced. A row that cannot be judged is undecided with reason `bad_row`. Rows are processed
in batches, so the file may be larger than memory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from negrl.errors import InputError
from negrl.files import Batch, Source, column, gold_value, kind_of, open_sink, open_source, text_value
from negrl.records import UNDECIDED, Verdict
from negrl.verify import Verifier
from negrl.verify.section import VerifySection

BAD_ROW = "bad_row"
COLUMNS = ("verdict", "verdict_reason", "answer", "method")
Item = tuple[str, str, str]
"""Response, gold, finish reason."""
_BAD = Verdict(UNDECIDED, BAD_ROW)


@dataclass(frozen=True, slots=True)
class Keys:
    """The columns to read; dotted paths reach into objects. `finish_reason` says "length" where a response
    was cut off."""

    gold: str
    response: str
    finish_reason: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.gold, self.response) + ((self.finish_reason,) if self.finish_reason else ())

    @property
    def roots(self) -> set[str]:
        """The columns that may hold them."""
        return {*self.names, *(name.partition(".")[0] for name in self.names)}


@dataclass(slots=True)
class VerifySummary:
    """`verdicts` and `reasons` count rows. `problems` are (line or row number, what is wrong with it), and `where`
    puts such a number into words."""

    where: Callable[[int], str]
    rows: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0
    """From reading the first row to writing the last."""

    def count(self, verdict: Verdict) -> None:
        self.rows += 1
        self.verdicts[verdict.value] += 1
        if verdict.reason is not None:
            self.reasons[verdict.reason] += 1


def verify_file(
    path: str | Path,
    keys: Keys,
    out: str | Path,
    section: VerifySection,
    on_row: Callable[[], None] | None = None,
) -> VerifySummary:
    """Judge every row of a file and write them all, with the verdicts, to another.

    Args:
        path: JSON lines or Parquet, plain or .gz.
        keys: the columns of the gold answer and the response.
        out: written whole or not at all; replaced if it exists (a link remains a link to it).
        section: how to verify.
        on_row: called after each row.

    Raises:
        InputError: the input is missing or empty, none of its rows can be judged, it lacks the columns, its rows do
            not fit into Parquet columns, or `out` is the input file or cannot be written.
    """
    source = open_source(path)
    check_columns(source, keys)
    summary, started = VerifySummary(source.where), time.perf_counter()
    # From Parquet to Parquet, columns pass through as Arrow; only those that are read become Python objects.
    columns = keys.roots if kind_of(out)[0] == "parquet" else None
    with open_sink(out, source, kept_names, COLUMNS) as sink:
        for batch, verdicts in judged(source, keys, section, summary, columns):
            added: dict[str, list[str | None]] = {
                "verdict": [v.value for v in verdicts],
                "verdict_reason": [v.reason for v in verdicts],
                "answer": [v.answer for v in verdicts],
                "method": [v.method for v in verdicts],
            }
            sink.write(batch, added)
            for _ in verdicts if on_row is not None else ():
                on_row()  # type: ignore[misc]
        summary.seconds = time.perf_counter() - started
    return summary


def judged(
    source: Source, keys: Keys, section: VerifySection, summary: VerifySummary, columns: set[str] | None = None
) -> Iterator[tuple[Batch, list[Verdict]]]:
    """The file's batches with a verdict for each row, counted into `summary`.

    Args:
        columns: for Parquet, the columns to read into the rows; None for all.

    Raises:
        InputError: at the end, if there was no row, or none that could be judged.
    """
    verifier = Verifier(section)
    for batch in source.batches(columns):
        items = list(readable(batch, source, keys, summary.problems))
        found = iter(verifier.verify_all([item for item in items if item is not None]))
        verdicts = [_BAD if item is None else next(found) for item in items]
        for verdict in verdicts:
            summary.count(verdict)
        yield batch, verdicts
    if not summary.rows:
        raise InputError(f"no rows in {source.path}")
    if summary.reasons[BAD_ROW] == summary.rows:
        number, problem = summary.problems[0]
        lacking = "row has" if source.kind == "parquet" else "line is a JSON object with"
        wanted = f"'{keys.gold}' and '{keys.response}' to judge"
        raise InputError(f"{source.path}: no {lacking} {wanted} ({source.unit} {number}: {problem})")


def readable(batch: Batch, source: Source, keys: Keys, problems: list[tuple[int, str]]) -> Iterator[Item | None]:
    """What to judge in each row of a batch; None for a bad row, which is described in `problems`."""
    for number, row, problem in zip(batch.numbers, batch.rows, batch.problems, strict=True):
        where = source.where(number)
        if problem is None:
            try:
                yield read_item(row, keys, where)
                continue
            except InputError as error:
                problem = str(error).removeprefix(f"{where}: ")
        problems.append((number, problem))
        yield None


def read_item(row: dict[str, Any], keys: Keys, where: str) -> Item:
    """Response, gold and finish reason of a row.

    Raises:
        InputError: one of them is missing or of the wrong kind.
    """
    gold = column(row, keys.gold, where)
    right = gold_value(format(gold, "f") if isinstance(gold, Decimal) else gold, keys.gold, where)
    text = text_value(column(row, keys.response, where), keys.response, where)
    finish = column(row, keys.finish_reason, where) if keys.finish_reason else None
    return text, right, "stop" if finish is None else text_value(finish, keys.finish_reason or "", where)


def check_columns(source: Source, keys: Keys) -> bool:
    """Are the columns there? In JSON lines, the first usable row decides.

    Returns:
        Whether the file was written by `negrl verify`.

    Raises:
        InputError: a column is missing, or was written by an earlier `negrl verify`.
    """
    row, where = source.columns(), str(source.path)
    if row is None:
        row, where = _first_row(source)
    if row is None:
        return False
    for name in keys.names:
        column(row, name, where)
        if verified_before(row) and name in COLUMNS:
            own = f" (the file's own is 'input_{name}')" if f"input_{name}" in row else ""
            raise InputError(f"{where}: column '{name}' was written by an earlier negrl verify{own}")
    return verified_before(row)


def _first_row(source: Source) -> tuple[dict[str, Any] | None, str]:
    for batch in source.batches():
        for number, row, problem in zip(batch.numbers, batch.rows, batch.problems, strict=True):
            if problem is None:
                return row, source.where(number)
    return None, ""


def verified_before(names: Iterable[str]) -> bool:
    """Are these the column names of a row that `negrl verify` wrote?"""
    return set(COLUMNS) <= set(names)


def kept_names(names: Iterable[str]) -> dict[str, str]:
    """The names under which a row's columns are kept beside the new ones; those of an earlier verify are dropped."""
    own = list(names)
    if verified_before(own):
        return {name: name for name in own if name not in COLUMNS}
    kept = {}
    for name in own:
        new = f"input_{name}" if name in COLUMNS else name
        while new != name and new in own:  # the file has an input_answer beside its answer
            new = f"input_{new}"
        kept[name] = new
    return kept
