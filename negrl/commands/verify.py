"""`negrl verify` and `negrl audit`."""

from __future__ import annotations

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

Gold = Annotated[str, typer.Option(help="Column with the gold answer; may be a dotted path.")]
Response = Annotated[str, typer.Option(help="Column with the response; may be a dotted path.")]
Finish = Annotated[str | None, typer.Option(help='Column that says "length" where a response was cut off.')]
Workers = Annotated[int, typer.Option(help="Worker processes for the checks that need math-verify.")]
Extract = Annotated[str, typer.Option(help="How to find the answer: auto, boxed, hash, answer_line, ...")]
Timeout = Annotated[float, typer.Option(help="Seconds for one equivalence check.")]
_SHOWN = 20


def verify(
    file: Annotated[Path, typer.Argument(help="JSON lines or Parquet, plain or .gz.", show_default=False)],
    gold: Gold,
    response: Response,
    out: Annotated[Path, typer.Option(help="Where to write the rows with their verdicts: JSON lines or Parquet.")],
    finish_reason: Finish = None,
    workers: Workers = 1,
    extract: Extract = "auto",
    timeout: Timeout = 5.0,
) -> None:
    """Judge the responses in any JSONL or Parquet file: adds verdict, verdict_reason, answer and method."""
    section = _section(extract, timeout, workers)
    from negrl.verify.files import Keys, verify_file

    with _counter() as on_row:
        summary = verify_file(file, Keys(gold, response, finish_reason), out, section, on_row)
    for number, what in summary.problems[:_SHOWN]:
        print(f"{safe(summary.where(number))}: {safe(what)}; kept as undecided", file=sys.stderr)
    if len(summary.problems) > _SHOWN:
        print(
            f"... and {len(summary.problems) - _SHOWN:,} more; in the output they have the reason bad_row",
            file=sys.stderr,
        )
    for verdict, count in summary.verdicts.most_common():
        print(f"{verdict:<18}{count:>11,}")
    for reason, count in summary.reasons.most_common():
        print(f"  {reason:<16}{count:>11,}")
    rate = summary.rows / max(summary.seconds, 1e-9)
    print(f"{summary.rows:,} rows written to {safe(out)} in {summary.seconds:.1f} s ({rate:,.0f} rows per second)")


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
) -> None:
    """Check a sample of the verdicts in a second, independent way. Prints the disagreements, and the share of
    `incorrect` and of `correct` verdicts that they make up, with intervals."""
    section = _section(extract, timeout, workers)
    if (gold is None) != (response is None):
        raise InputError("give both --gold and --response, or neither (for a run)")
    from negrl import audit as auditing
    from negrl.verify.files import Keys

    keys = Keys(gold, response, finish_reason) if gold is not None and response is not None else None
    report = auditing.audit(file, keys, section, sample, seed, out)
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


@contextmanager
def _counter() -> Iterator[Callable[[], None] | None]:
    """A live count of rows on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("verify", total=None)
        yield lambda: progress.advance(task)
