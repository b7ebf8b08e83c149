"""`negrl bench sample-efficiency` and `negrl bench methods`: sizes x seeds x methods, measured point by point.

    negrl bench sample-efficiency recipes/bench/chain.yaml --plan      what it will cost here
    negrl bench sample-efficiency recipes/bench/chain.yaml --out docs/results/sample-efficiency

Every arm starts, at a size and a seed, from the same policy: SFT on the same problems. `sft` itself starts from
the base model, at more sizes, with the best settings of its own grid. points.py says what a point is, run.py what is
written, cost.py what the plan is. report.py writes the page from those files alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from negrl.bench.sweep.cost import plan as plan_costs
from negrl.bench.sweep.cost import taken, write_costs
from negrl.bench.sweep.load import load_bench
from negrl.bench.sweep.points import points
from negrl.bench.sweep.run import run_points, write_tables
from negrl.locks import locked
from negrl.progress import Reporter, thousands

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


def _show(reporter: Reporter, costs: dict[str, Any]) -> None:
    """Planned and taken, as far as there are any, by arm."""
    from rich.table import Table

    planned, took = costs["planned"], costs["taken"]
    table = Table(title=costs["hardware"])
    table.add_column("", no_wrap=True)
    for what, found in (("planned", planned), ("taken", took)):
        for unit in ("tokens", "seconds", "MB") if found else ():
            table.add_column(f"{what} {unit}", justify="right")
    found = [sums for sums in (planned, took) if sums]
    parts = dict.fromkeys(arm for sums in found for arm in sums["parts"])
    for arm in [*parts, "all"]:
        cells = []
        for sums in found:
            part = sums if arm == "all" else sums["parts"].get(arm, {"tokens": 0, "seconds": 0, "megabytes": 0})
            cells += [thousands(part["tokens"]), f"{part['seconds']:,.0f}", f"{part['megabytes']:,.0f}"]
        table.add_row(arm, *cells, end_section=arm == list(parts)[-1], style="bold" if arm == "all" else None)
    reporter.console.print(table)
    for what, sums in (("planned", planned), ("taken", took)):
        if sums:
            wall = f"about {sums['wall_seconds'] / 60:,.1f} minutes on {sums['workers']} worker(s)"
            reporter.say(f"{what}: {thousands(sums['tokens'])} tokens, {sums['megabytes']:,.0f} MB, {wall}")
    if costs["ratio"]:
        reporter.say("taken / planned: " + ", ".join(f"{name} {share:.2f}" for name, share in costs["ratio"].items()))
