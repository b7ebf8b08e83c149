"""`negrl bench sample-efficiency` and `negrl bench methods`: sizes x seeds x methods, measured point by point.

Every arm starts, at a size and a seed, from the same policy: SFT on the same problems. `sft` itself starts from
the base model, at more sizes, with the best settings of its own grid. points.py says what a point is, run.py what is
written, cost.py what the plan is. report.py writes the page from those files alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from negrl.bench.page import render
from negrl.bench.sweep.cost import MEASURES, taken, write_costs
from negrl.bench.sweep.cost import plan as plan_costs
from negrl.bench.sweep.load import load_bench
from negrl.bench.sweep.points import points
from negrl.bench.sweep.run import run_points, write_tables
from negrl.locks import locked
from negrl.progress import Reporter

Page = Callable[[Path, Path, str], None]
"""Run folder, where to write, the command: writes the page."""


def main(
    name: str,
    path: Path,
    overrides: Sequence[str],
    out: Path,
    page: Page | None,
    plan: bool = False,
    reporter: Reporter | None = None,
) -> int:
    """Do what is missing of a bench and write its page, or say what it will cost.

    Args:
        name: the command's name, for the page.

    Returns:
        The exit code: 1 when a point failed.

    Raises:
        InputError: the bench file is wrong, or another process is at work in its folder.
    """
    bench, reporter = load_bench(path, overrides), reporter or Reporter()
    command = " ".join([f"negrl bench {name}", str(path), *overrides])
    with locked(bench.folder, "recipe.output_dir", "negrl bench"):
        if plan:
            costs = write_costs(bench, f"{command} --plan", planned=plan_costs(bench, reporter))
            _show(reporter, costs)
            return 0
        command = f"{command} --out {out}"
        outcome = run_points(bench, reporter)
        write_tables(bench, outcome.done)
        costs = write_costs(bench, command, taken=taken(bench, outcome.done))
        _show(reporter, costs)
        if page is not None:
            page(bench.folder, out, command)
        for point, said in outcome.failed.items():
            reporter.say(f"failed: {point.name}: {said}")
        done = f"{len(outcome.done)} of {len(points(bench))} points done"
        reporter.say(f"{done}; rows in {bench.folder / 'points.csv'}")
        return 1 if outcome.failed else 0


def map_main(
    paths: Sequence[Path], overrides: Sequence[str], out: Path,
    page: Callable[[Sequence[Path], Path, str], None], plan: bool = False, reporter: Reporter | None = None,
) -> int:  # fmt: skip
    """Do what is missing of several benches, and write one map of them all, or say what they will cost.

    Returns:
        The exit code: 1 when a point failed.
    """
    codes = [main("map", path, overrides, out, None, plan, reporter) for path in paths]
    if not plan:
        folders = [load_bench(path, overrides).folder for path in paths]
        chosen = [f"--set {override}" for override in overrides]
        page(folders, out, " ".join(["negrl bench map", *map(str, paths), *chosen, f"--out {out}"]))
    return max(codes)


def _show(reporter: Reporter, costs: dict[str, Any]) -> None:
    """Planned and taken, as far as there are any, by arm."""
    found = {what: costs[what] for what in ("planned", "taken") if costs[what]}
    arms = list(dict.fromkeys(arm for sums in found.values() for arm in sums["parts"]))
    table = render("costs.md", costs=costs, found=found, arms=arms, nothing=dict.fromkeys(MEASURES, 0))
    reporter.console.print(table, markup=False, highlight=False, soft_wrap=True)
