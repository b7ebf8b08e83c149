"""Do the points of a bench that are missing, on several processes, and gather their rows.

runs/<name>/points/       one JSON, log and recipe a point
runs/<name>/bench.yaml    the bench file as it was read, overrides applied
runs/<name>/points.csv    one row a point (`results.POINTS`)
runs/<name>/problems.parquet   the held-out samples behind it, by problem (`results.COUNTS`)
runs/<name>/grid.csv      the trainings that SFT's settings were chosen from, on validation problems
runs/<name>/trials.csv    the same of the arms with `tune`

A finished point is kept, so a bench that was killed goes on where it was; one that fails does not stop the others.
"""

from __future__ import annotations

import io
import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from negrl.bench.page import to_csv
from negrl.bench.sweep.measure import prepare, work
from negrl.bench.sweep.points import Point, finished, given, key_of, needs, points, stored
from negrl.bench.sweep.results import COUNTS, GRID, POINTS, TRIALS
from negrl.bench.sweep.schema import Bench
from negrl.progress import Reporter, thousands
from negrl.store import write_atomic

POINTS_PER_WORKER = 50
"""Then a fresh process takes over: nothing that libraries pile up lasts."""


@dataclass
class Outcome:
    """`failed`: points and one line each of what went wrong; what waited for them is in it, too."""

    done: list[Point] = field(default_factory=list)
    failed: dict[Point, str] = field(default_factory=dict)


def workers(bench: Bench) -> int:
    return bench.plan.workers or len(os.sched_getaffinity(0))


def run_points(bench: Bench, reporter: Reporter) -> Outcome:
    """Do what is missing."""
    from pebble import ProcessPool

    waiting, outcome = points(bench), Outcome()
    total, count = len(waiting), workers(bench)
    folder = bench.folder / "points"
    folder.mkdir(parents=True, exist_ok=True)
    running: dict[Future[None], Point] = {}
    pool = ProcessPool(
        max_workers=count, max_tasks=POINTS_PER_WORKER, context=multiprocessing.get_context("spawn"),
        initializer=prepare, initargs=(bench.recipe.threads or 1, str(folder / "workers.log"), os.getpid()),
    )  # fmt: skip
    reused = 0
    try:
        while waiting or running:
            while len(running) < count and (point := _next(bench, waiting, running, outcome)) is not None:
                waiting.remove(point)
                before = given(bench, point)
                if finished(bench, point, key_of(bench, point, before)):
                    outcome.done.append(point)
                    reused += 1
                else:
                    running[pool.schedule(work, args=[bench, point, before])] = point
            if not running:
                for point in waiting:  # what is left waits for what failed
                    outcome.failed[point] = "not done: it waits for a point that failed"
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                point, error = running.pop(future), future.exception()
                if error is None:
                    outcome.done.append(point)
                    _say(reporter, bench, point, f"{len(outcome.done)}/{total}")
                else:
                    said = str(error).splitlines()[0] if str(error) else "no message"
                    outcome.failed[point] = f"{type(error).__name__}: {said}"
                    log = folder / point.name / "log.txt"
                    reporter.say(f"✗ {point.name}: {outcome.failed[point]} (see {log})")
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
    if reused:
        reporter.say(f"{reused} of {total} points were done before")
    return outcome


def _next(bench: Bench, waiting: list[Point], running: dict[Future[None], Point], outcome: Outcome) -> Point | None:
    """A point whose needs are met, if possible of a cell and of a seed at which nobody works: what two points
    share, the second would wait for."""
    done = set(outcome.done)
    ready = [p for p in waiting if all(need in done for need in needs(bench, p))]
    cells, seeds = {p.cell for p in running.values()}, {p.seed for p in running.values()}
    return min(ready, key=lambda p: (p.cell in cells, p.seed in seeds), default=None)


def _say(reporter: Reporter, bench: Bench, point: Point, count: str) -> None:
    record = stored(bench, point)
    row = record["row"]
    if point.kind in ("grid", "trial"):
        facts = [f"validation pass@1 {row['validation_pass_at_1']:.3f}"]
    else:
        facts = [f"pass@1 {row['pass_at_1']:.3f}", f"greedy {row['greedy']:.3f}"]
        facts += [] if row["spurious_share"] is None else [f"{row['spurious_share']:.1%} spurious"]
        facts += [f"{thousands(row['generated_tokens'])} tokens"] if row["generated_tokens"] else []
        facts += [f"guard: {row['guard']}"] if row.get("guard") else []
    reporter.say(f"✓ {count:>9} {point.name:<34}{record['wall_seconds']:7.1f} s  {' · '.join(facts)}")


def write_tables(bench: Bench, done: list[Point]) -> None:
    """All files of the run folder, of the points that are done, in the bench's order."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from omegaconf import OmegaConf

    whole = {"recipe": bench.body, "bench": bench.plan.model_dump(mode="json", exclude_unset=True)}
    write_atomic(bench.folder / "bench.yaml", OmegaConf.to_yaml(OmegaConf.create(whole)).encode())
    finished_ones = set(done)
    order = [point for point in points(bench) if point in finished_ones]
    records = {point: stored(bench, point) for point in order}
    rows = [record["row"] for point, record in records.items() if point.kind not in ("grid", "trial")]
    write_atomic(bench.folder / "points.csv", to_csv(POINTS, rows))
    counted = [
        {"arm": p.arm, "size": p.size, "seed": p.seed, "problem_id": problem} | dict(zip(COUNTS, counts, strict=True))
        for p, record in records.items()
        for problem, counts in record["problems"].items()
    ]
    text, number = pa.string(), pa.int64()
    schema = pa.schema(
        [("arm", text), ("size", number), ("seed", number), ("problem_id", text)] + [(name, number) for name in COUNTS]
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(counted, schema=schema), buffer, compression="zstd")
    write_atomic(bench.folder / "problems.parquet", buffer.getvalue())
    trials = []
    for point in (p for p in order if p.kind == "trial"):
        arm = Point("arm", point.arm, point.size, point.seed)
        won_it = arm in records and given(bench, arm).choice == point.choice
        trials.append(records[point]["row"] | {"chosen": won_it})
    if trials:
        write_atomic(bench.folder / "trials.csv", to_csv(TRIALS, trials))
    if bench.plan.sft is None:
        return
    winners = {(p.size, p.seed): given(bench, p) for p in order if p.kind == "sft"}
    grid = []
    for point in (p for p in order if p.kind == "grid"):
        won = winners.get((point.size, point.seed))
        choices = ("choice", "k_choice", "greedy_choice")
        chosen = [won is not None and getattr(won, choice) == point.choice for choice in choices]
        grid.append(records[point]["row"] | dict(zip(("chosen", "chosen_k", "chosen_greedy"), chosen, strict=True)))
    write_atomic(bench.folder / "grid.csv", to_csv(GRID, grid))
