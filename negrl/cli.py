"""negrl on the command line: parse, then call. Heavy imports wait until the recipe is checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from negrl import __version__
from negrl.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune reasoning models on their own right and wrong answers.",
)

Overrides = Annotated[list[str] | None, typer.Argument(help="key.sub=value, e.g. sample.n=32", show_default=False)]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe YAML.", show_default=False)],
    overrides: Overrides = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage: base, sample, value, view, ...")] = None,
) -> None:
    """Do what a recipe says: sample, verify, value the steps, train, evaluate, report. Run it again to
    go on after a kill, or after a change: only what depends on it is done again."""
    from negrl.recipe import load_recipe

    checked = load_recipe(recipe, overrides or [])
    from negrl.pipeline import run as run_pipeline

    run_pipeline(checked, until=until)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="JSON lines, plain or .gz.", show_default=False)],
    gold: Annotated[str, typer.Option(help="Column with the gold answer; may be a dotted path.")],
    response: Annotated[str, typer.Option(help="Column with the response.")],
    out: Annotated[Path, typer.Option(help="Where to write the rows with their verdicts.")],
    extract: Annotated[str, typer.Option(help="How to find the answer: auto, boxed, hash, answer_line, ...")] = "auto",
    timeout: Annotated[float, typer.Option(help="Seconds for one equivalence check.")] = 5.0,
) -> None:
    """Judge the responses of any JSONL file: adds verdict, verdict_reason, answer and method."""
    import pydantic

    from negrl.recipe import VerifySection, first_error

    try:
        section = VerifySection.model_validate({"extract": extract, "timeout": timeout})
    except pydantic.ValidationError as error:
        raise InputError(f"--{first_error(error)}") from None
    from negrl.verify.files import verify_file

    summary = verify_file(file, gold, response, out, section)
    for number, what in summary.problems:
        print(f"{file}:{number}: {what}; carried through as undecided", file=sys.stderr)
    for verdict, count in summary.verdicts.most_common():
        print(f"{verdict:<12}{count:>9,}")
    for reason, count in summary.reasons.most_common():
        print(f"  {reason:<16}{count:>5,}")
    print(f"{summary.rows:,} rows written to {out}")


def main() -> None:
    """The entry point. A mistake of the user's is one line and exit code 2, never a traceback."""
    try:
        code = app(standalone_mode=False) or 0  # typer returns the exit code, 130 after Ctrl-C
    except InputError as error:
        print(f"negrl: {error}", file=sys.stderr)
        code = 2
    except Exception as error:
        # typer's usage errors, of click or of its own copy of it, know how to show themselves
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()
        code = error.exit_code
    if code == 130:
        print("negrl: stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(code)
