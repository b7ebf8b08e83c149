"""`negrl verify` and `negrl audit`."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from negrl.errors import InputError
from negrl.terminal import safe

if TYPE_CHECKING:
    from negrl.verify.section import VerifySection


class Stream(enum.StrEnum):
    jsonl = "jsonl"
    csv = "csv"


Gold = Annotated[str, typer.Option(help="Column with the gold answer; may be a path: meta.answer.")]
Response = Annotated[
    str, typer.Option(help="Column with the response, or a list of them; may be a path: messages[-1].content.")
]
Finish = Annotated[str | None, typer.Option(help='Column that says "length" where a response was cut off.')]
Prefix = Annotated[
    str, typer.Option(help="Name of the column with the verdict; PREFIX_reason, _answer and _method stand beside it.")
]
Workers = Annotated[int, typer.Option(help="Worker processes for the checks that need math-verify.")]
Extract = Annotated[str, typer.Option(help="How to find the answer: auto, boxed, hash, answer_line, ...")]
Format = Annotated[Stream, typer.Option("--format", help="What - holds: jsonl or csv.")]
Timeout = Annotated[float, typer.Option(help="Seconds for one equivalence check.")]
_SHOWN = 20


def verify(
    file: Annotated[
        Path, typer.Argument(help="JSON lines, CSV or Parquet, plain or .gz; - for stdin.", show_default=False)
    ],
    gold: Gold,
    response: Response,
    out: Annotated[
        Path, typer.Option(help="Where to write the rows with their verdicts: a name as above; - for stdout.")
    ],
    finish_reason: Finish = None,
    workers: Workers = 1,
    extract: Extract = "auto",
    timeout: Timeout = 5.0,
    prefix: Prefix = "verdict",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was killed or failed.")] = False,
    format: Format = Stream.jsonl,
) -> None:
    """Judge the responses in any JSONL, CSV or Parquet file: adds verdict, verdict_reason, verdict_answer and
    verdict_method."""
    section = _section(extract, timeout, workers)
    _check_format(format, file, out)
    from negrl.verify.files import Keys, verify_file

    with _counter() as on_row:
        keys = Keys(gold, response, finish_reason)
        summary = verify_file(
            file, keys, out, section, on_row, prefix=prefix, force=force, resume=resume, stream=format.value
        )
    for number, what in summary.problems[:_SHOWN]:
        print(f"{safe(summary.where(number))}: {safe(what)}; kept as undecided", file=sys.stderr)
    if len(summary.problems) > _SHOWN:
        print(
            f"... and {len(summary.problems) - _SHOWN:,} more; in the output they have the reason bad_row",
            file=sys.stderr,
        )
    screen = sys.stderr if str(out) == "-" else sys.stdout
    for verdict, count in summary.verdicts.most_common():
        print(f"{verdict:<18}{count:>11,}", file=screen)
    for reason, count in summary.reasons.most_common():
        print(f"  {reason:<16}{count:>11,}", file=screen)
    rate = summary.rows / max(summary.seconds, 1e-9)
    said = f"{summary.rows:,} rows written to {safe(out)} in {summary.seconds:.1f} s ({rate:,.0f} rows per second)"
    print(safe(said), file=screen)


def audit(
    file: Annotated[
        Path,
        typer.Argument(help="A file, before or after `negrl verify`; or a run's folder or recipe.", show_default=False),
    ],
    gold: Annotated[str | None, typer.Option(help="Column with the gold answer (of a file).")] = None,
    response: Annotated[str | None, typer.Option(help="Column with the response (of a file).")] = None,
    finish_reason: Finish = None,
    sample: Annotated[int, typer.Option(min=1, help="How many verdicts to check.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed for drawing the sample.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write all disagreements to this JSON lines file.")] = None,
    workers: Workers = 1,
    extract: Extract = "auto",
    timeout: Timeout = 5.0,
    prefix: Prefix = "verdict",
    format: Format = Stream.jsonl,
) -> None:
    """Check a sample of the verdicts in a second, independent way. Prints the disagreements, and the share of
    `incorrect` and of `correct` verdicts that they make up, with intervals."""
    section = _section(extract, timeout, workers)
    if (gold is None) != (response is None):
        raise InputError("give both --gold and --response, or neither (for a run)")
    _check_format(format, file)
    from negrl import audit as auditing
    from negrl.verify.files import Keys

    keys = Keys(gold, response, finish_reason) if gold is not None and response is not None else None
    report = auditing.audit(file, keys, section, sample, seed, out, prefix, format.value)
    for line in auditing.report_lines(report):
        print(line)
    if out is not None:
        print(f"\nwritten to {safe(out)}: the disagreements, and the undecided rows that the second way can decide")


def _section(extract: str, timeout: float, workers: int) -> VerifySection:
    import pydantic

    from negrl.recipe import VerifySection, first_error

    try:
        settings = {"extract": extract, "timeout": timeout, "workers": workers, "conclusion": True}
        return VerifySection.model_validate(settings)
    except pydantic.ValidationError as error:
        raise InputError(f"--{first_error(error)}") from None


def _check_format(format: Stream, *paths: Path) -> None:
    if format != Stream.jsonl and "-" not in map(str, paths):
        raise InputError(f"--format {format}: says what - holds; the names of files say it themselves")


@contextmanager
def _counter() -> Iterator[Callable[[], None] | None]:
    """A live count of rows on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from negrl.progress import SafeConsole

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=SafeConsole(stderr=True), transient=True) as progress:
        task = progress.add_task("verify", total=None)
        yield lambda: progress.advance(task)
