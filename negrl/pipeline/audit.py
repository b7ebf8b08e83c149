"""What `negrl audit` checks: the verdicts of a file or of a finished run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from negrl.errors import InputError
from negrl.files import check_target, kind_of
from negrl.recipe import load_recipe
from negrl.records import UNDECIDED, Problem, Trace, Verdict
from negrl.store import Store
from negrl.verify.audit import AuditReport, Judged, audit_rows, rows_of_file
from negrl.verify.files import Keys
from negrl.verify.section import VerifySection


def audit(
    target: str | Path,
    keys: Keys | None,
    section: VerifySection,
    sample: int = 400,
    seed: int = 0,
    out: str | Path | None = None,
) -> AuditReport:
    """Check a sample of the verdicts of a file or a run.

    Args:
        target: JSON lines or Parquet, judged first unless `negrl verify` wrote it; or the output folder or
            the recipe of a finished run.
        keys: the columns of a file; None for a run.
        section: how to judge; its workers, timeout and memory_mb also apply to the second check.
        sample: rows to check: half incorrect, a quarter correct and a quarter undecided. Where there are too few
            of one verdict, more of the others.
        seed: for drawing the sample.
        out: JSON lines file for all disagreements, with the whole responses.

    Raises:
        InputError: there is no such file, column or finished run, there is no verdict to check, or `out` cannot be
            written.
    """
    if out is not None:
        if kind_of(out)[0] != "jsonl":
            raise InputError(f"{out}: the disagreements are JSON lines; give a name that ends in .jsonl")
        check_target(out, Path(target) if Path(target).is_file() else None)
    if Path(target).is_dir() or Path(target).suffix in (".yaml", ".yml"):
        if keys is not None:
            raise InputError(f"{target}: is a run, whose columns are known; leave out --gold and --response")
        rows = rows_of_run(Path(target))
    elif keys is None:
        raise InputError(f"{target}: is a file; say which columns to read with --gold and --response")
    else:
        rows = rows_of_file(target, keys, section)
    return audit_rows(str(target), rows, section, sample, seed, out)


def rows_of_run(target: Path) -> Iterator[Judged]:
    """The verified traces of a finished run, with the gold answers of its problems."""
    recipe = load_recipe(target / "recipe.yaml" if target.is_dir() else target, [])
    if recipe.verify.extract in ("chain", "path"):
        raise InputError(f"{target}: verdicts on this world compare digits exactly; there is nothing to audit")
    finished = Path(recipe.output_dir) / "stages.json"
    if not finished.is_file():
        raise InputError(f"{target}: no finished run in {recipe.output_dir} (it has no stages.json)")
    folders = sorted({Path(s["folder"]).name for s in json.loads(finished.read_text()).values()})
    stages = [Store(recipe.store).stage(*folder.rsplit("-", 1)) for folder in folders]
    golds = {
        problem.problem_id: problem.gold
        for stage in stages
        if stage.folder.startswith("problems-")
        for problem in stage.iterate("problems", Problem)
    }
    for stage in stages:
        for trace in stage.iterate("traces", Trace) if stage.folder.startswith("verify-") else ():
            if trace.problem_id not in golds:
                raise InputError(f"{target}: the run kept no problems (made by an older negrl); run it again")
            verdict = Verdict(trace.verdict or UNDECIDED, trace.verdict_reason, trace.answer, trace.method)
            yield Judged(f"trace {trace.trace_id}", trace.text, golds[trace.problem_id], verdict)
