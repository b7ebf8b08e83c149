"""What prefix sharing saves: TRL's trainers against ours on the same rows, in one run.

    SFT    step_advantage on trees       against SFTTrainer, padded or padding-free, whichever is faster here
    DPO    step_dpo on trees, the        against DPOTrainer, with the reference's log-probs known before
           reference on trees too        ("known") or computed in the step ("in step")

A micro-batch is `ROWS` branches of `LENGTH` tokens, in problems of 2, 4, 8 or 16 branches that share 0, 50,
80 or 95% of a branch's tokens and nothing else. A step is collation, forward and backward; the optimizer's
part is the same for both and left out. The sides take turns, so that drift falls on both.

The limit is what the distinct tokens set: all tokens / distinct tokens, b / (p + b (1 - p)).
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from negrl.bench.page import Column, a_number, a_whole, render, to_csv, write_files
from negrl.bench.train.parts import apart, memory_is_told, peak, setting
from negrl.bench.train.sides import LENGTH, ROWS, SIDES, Runner, make_rows
from negrl.quiet import quiet

BRANCHES, SHARES = (2, 4, 8, 16), (0.0, 0.5, 0.8, 0.95)
TURNS = 3
MODEL = {
    "vocab_size": 4096, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": True,
}  # fmt: skip
QUICK_MODEL = {**MODEL, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 512}
WORTH, OF_LIMIT, OF_SAVING = 1.5, 0.85, 0.5
"""The goals: where the limit is over 1.5, at least 85% of it, and half of the tokens' saving in memory."""
COLUMNS = (
    Column("loss"), Column("side"), Column("branches", a_whole), Column("share", a_number), Column("turn", a_whole),
    Column("seconds", a_number, "{:.4f}".format), Column("cpu_seconds", a_number, "{:.4f}".format),
    Column("peak_mb", lambda text: float(text) if text else None, lambda mb: "" if mb is None else f"{mb:.1f}"),
)  # fmt: skip
"""A row for each turn of each measure."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One side of one cell. `seconds` and `cpu`: a step's wall and processor time, one per turn. `memory`: MB
    that a step adds at its peak to what the process held before (weights and gradients); None: not measured."""

    loss: str
    side: str
    branches: int
    share: float
    seconds: list[float]
    cpu: list[float]
    memory: float | None

    @property
    def rate(self) -> str:
        """Branches per second: the median turn, the slowest and the fastest."""
        low, middle, high = (ROWS / f(self.seconds) for f in (max, median, min))
        return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def rows(found: Iterable[Measure]) -> list[dict[str, Any]]:
    """Of the CSV."""
    return [
        {"loss": m.loss, "side": m.side, "branches": m.branches, "share": m.share, "turn": turn, "seconds": seconds,
         "cpu_seconds": cpu, "peak_mb": m.memory}
        for m in found for turn, (seconds, cpu) in enumerate(zip(m.seconds, m.cpu, strict=True))
    ]  # fmt: skip


def measures(table: Iterable[dict[str, Any]]) -> list[Measure]:
    """The measures of a CSV's rows."""
    found: dict[tuple[Any, ...], Measure] = {}
    for row in table:
        key = row["loss"], row["side"], row["branches"], row["share"]
        one = found.setdefault(key, Measure(*key, [], [], row["peak_mb"]))
        one.seconds.append(row["seconds"])
        one.cpu.append(row["cpu_seconds"])
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Cell:
    """Ours against TRL at its fastest settings."""

    ours: Measure
    theirs: Measure

    @property
    def limit(self) -> float:
        """All tokens / distinct tokens."""
        b, p = self.ours.branches, self.ours.share
        return b / (p + b * (1 - p))

    @property
    def speedup(self) -> float:
        return median(self.theirs.seconds) / median(self.ours.seconds)

    @property
    def speedup_cpu(self) -> float:
        return median(self.theirs.cpu) / median(self.ours.cpu)

    @property
    def saved(self) -> float | None:
        """Share of TRL's peak memory that ours does without."""
        if self.ours.memory is None or self.theirs.memory is None:
            return None
        return 1 - self.ours.memory / self.theirs.memory

    @property
    def of_limit(self) -> float:
        return self.speedup / self.limit

    def misses(self) -> list[str]:
        """The goals that this cell does not reach."""
        name = f"{self.ours.loss}, {self.ours.branches} branches, {self.ours.share:.0%}"
        out = []
        if self.ours.share == 0 and self.speedup < 1:
            out.append(f"{name}: slower than TRL ({self.speedup:.2f}x)")
        if self.limit > WORTH and self.speedup < OF_LIMIT * self.limit:
            out.append(f"{name}: {self.of_limit:.0%} of the limit")
        if self.limit > WORTH and self.saved is not None and self.saved < OF_SAVING * (1 - 1 / self.limit):
            out.append(f"{name}: {self.saved:.0%} of the memory saved")
        return out


def cells(found: Sequence[Measure]) -> list[Cell]:
    """One for each loss and place in the grid."""
    out: dict[tuple[str, int, float], list[Measure]] = {}
    for measure in found:
        out.setdefault((measure.loss, measure.branches, measure.share), []).append(measure)
    return [Cell(ours, theirs) for ours, theirs in out.values()]


def main(out: Path, quick: bool = False) -> list[Measure]:
    """Measure the grid, print the tables and write them to `out`.md and `out`.csv.

    Args:
        quick: a smaller model, one corner of the grid and one turn: a minute or two, and the figures say little.
    """
    branches, shares = ((2, 8), (0.0, 0.8)) if quick else (BRANCHES, SHARES)
    shape = QUICK_MODEL if quick else MODEL
    found: list[Measure] = []
    notes: list[str] = []
    with quiet(), tempfile.TemporaryDirectory() as folder:
        for loss, sides in SIDES.items():
            runners = {side: Runner(loss, side, shape, Path(folder)) for side in sides}
            notes += keep_best(runners, make_rows(branches[0], 0.0, shape["vocab_size"]))
            for b in branches:
                for p in shares:
                    problems = make_rows(b, p, shape["vocab_size"])
                    seconds, cpu = take_turns(runners, problems, 1 if quick else TURNS)
                    for side in runners:
                        memory = peak_memory(loss, side, shape, b, p)
                        found.append(Measure(loss, side, b, p, seconds[side], cpu[side], memory))
                    print(f"{loss}: {b} branches, {p:.0%} shared", file=sys.stderr, flush=True)
            del runners
            gc.collect()
    text = page(found, shape, quick, notes)
    print(text, end="")
    write_files(out, {".md": text.encode(), ".csv": to_csv(COLUMNS, rows(found))})
    return found


def keep_best(runners: dict[str, Runner], problems: Any) -> list[str]:
    """Of TRL's settings the one that is fastest where nothing is shared stays; says which left, and why."""
    theirs = list(runners)[1:]
    seconds, _ = take_turns({side: runners[side] for side in theirs}, problems, 1)
    best = min(theirs, key=lambda side: seconds[side])
    slower = [side for side in theirs if side != best]
    for side in slower:
        del runners[side]
    return [f"{side} took {seconds[side][0] / seconds[best][0]:.2f}x as long as {best}." for side in slower]


Times = dict[str, list[float]]


def take_turns(runners: dict[str, Runner], problems: Any, turns: int) -> tuple[Times, Times]:
    """Wall and processor seconds of every side's steps; one more turn goes before them, to warm up."""
    rows = {side: runner.rows(problems) for side, runner in runners.items()}
    wall: Times = {side: [] for side in runners}
    cpu: Times = {side: [] for side in runners}
    for turn in range(turns + 1):
        for side in list(runners)[:: 1 if turn % 2 else -1]:
            start, busy = time.perf_counter(), time.process_time()
            runners[side].step(rows[side])
            if turn:
                wall[side].append(time.perf_counter() - start)
                cpu[side].append(time.process_time() - busy)
    return wall, cpu


def peak_memory(loss: str, side: str, model: dict[str, Any], branches: int, share: float) -> float | None:
    """MB that one step adds at its peak, in a process of its own; None where the system does not tell."""
    if not memory_is_told():
        return None
    preload = (__name__, "negrl.trainers.step_advantage", "negrl.trainers.preference")
    return apart(preload, _peak, loss, side, model, branches, share)


def _peak(loss: str, side: str, model: dict[str, Any], branches: int, share: float) -> float:
    with quiet(), tempfile.TemporaryDirectory() as folder:
        runner = Runner(loss, side, model, Path(folder))
        problems = runner.rows(make_rows(branches, share, model["vocab_size"]))
        for parameter in runner.trainer.model.parameters():
            parameter.grad = parameter.new_zeros(parameter.shape)
        gc.collect()
        with peak() as added:
            runner.step(problems)
    return added[0]


def page(found: Sequence[Measure], shape: dict[str, Any], quick: bool, notes: Sequence[str]) -> str:
    """What was measured, how, and which goals were missed."""
    import torch

    return render(
        "train-throughput.md", setting=setting(), grid=grid_tables(found), shape=shape, notes=notes, ROWS=ROWS,
        LENGTH=LENGTH, quick=quick, turns=max(len(m.seconds) for m in found), small=shape != MODEL,
        cuda=torch.cuda.is_available(), had=sum(sum(m.cpu) for m in found) / sum(sum(m.seconds) for m in found),
        missed=[m for c in cells(found) for m in c.misses()], WORTH=WORTH, OF_LIMIT=OF_LIMIT, OF_SAVING=OF_SAVING,
        over=sum(c.limit > WORTH for c in cells(found)),
    )  # fmt: skip


def grid_tables(found: Sequence[Measure]) -> str:
    """A table for each loss."""
    grid = cells(found)
    losses = {loss: [c for c in grid if c.ours.loss == loss] for loss in dict.fromkeys(m.loss for m in found)}
    return render("train-grid.md", losses=losses).strip()
