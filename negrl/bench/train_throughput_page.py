"""The page and the CSV of `negrl bench train-throughput`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from negrl.bench.train_throughput import LENGTH, ROWS, TURNS, Measure
from negrl.store import write_atomic
from negrl.terminal import safe_lines

WORTH, OF_LIMIT, OF_SAVING = 1.5, 0.85, 0.5
"""The goals: where the limit is over 1.5, at least 85% of it, and half of the tokens' saving in memory."""


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

    def misses(self) -> list[str]:
        """The goals that this cell does not reach."""
        name = f"{self.ours.loss}, {self.ours.branches} branches, {self.ours.share:.0%}"
        out = []
        if self.ours.share == 0 and self.speedup < 1:
            out.append(f"{name}: slower than TRL ({self.speedup:.2f}x)")
        if self.limit > WORTH and self.speedup < OF_LIMIT * self.limit:
            out.append(f"{name}: {self.speedup / self.limit:.0%} of the limit")
        if self.limit > WORTH and self.saved is not None and self.saved < OF_SAVING * (1 - 1 / self.limit):
            out.append(f"{name}: {self.saved:.0%} of the memory saved")
        return out


def cells(found: Sequence[Measure]) -> list[Cell]:
    """One for each loss and place in the grid."""
    out: dict[tuple[str, int, float], list[Measure]] = {}
    for measure in found:
        out.setdefault((measure.loss, measure.branches, measure.share), []).append(measure)
    return [Cell(ours, theirs) for ours, theirs in out.values()]


def write(out: Path, found: Sequence[Measure], shape: dict[str, Any], quick: bool, notes: list[str]) -> None:
    """Print the page; write it to `out`.md and every measure to `out`.csv."""
    page = markdown(found, shape, quick, notes)
    print(safe_lines(page), end="")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["loss", "side", "branches", "share", "turn", "seconds", "cpu_seconds", "peak_mb"])
    for m in found:
        for turn, (seconds, cpu) in enumerate(zip(m.seconds, m.cpu, strict=True)):
            memory = "" if m.memory is None else f"{m.memory:.1f}"
            writer.writerow([m.loss, m.side, m.branches, m.share, turn, f"{seconds:.4f}", f"{cpu:.4f}", memory])
    write_atomic(out.with_name(out.name + ".md"), page.encode())
    write_atomic(out.with_name(out.name + ".csv"), text.getvalue().encode())


def markdown(found: Sequence[Measure], shape: dict[str, Any], quick: bool, notes: list[str]) -> str:
    """What was measured, how, and which goals were missed."""
    import torch
    import transformers
    import trl

    from negrl.bench.train_throughput import MODEL

    grid = cells(found)
    had = sum(sum(m.cpu) for m in found) / sum(sum(m.seconds) for m in found)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    lines = [
        "# Training throughput: each distinct token once",
        "",
        f"`negrl bench train-throughput{' --quick' if quick else ''}` on {where}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}; torch {torch.__version__}, "
        f"transformers {transformers.__version__}, TRL {trl.__version__}.",
        "",
        f"A micro-batch is {ROWS} branches of {LENGTH} tokens; a Qwen2 of {shape['num_hidden_layers']} layers x "
        f"{shape['hidden_size']}, vocabulary {shape['vocab_size']}. A step is collation, forward and backward, "
        f"without the optimizer. The sides take turns on the same rows in one process, turns: {1 if quick else TURNS} "
        "after one to warm up: medians, with the fastest and slowest turn in brackets. Memory: what a step adds at its "
        "peak, each side in a process of its own. Limit: all tokens / distinct tokens. Over 100% of the limit is "
        "possible: the LM head is not TRL's (ours scores the trained tokens only, in smaller tiles).",
        "",
    ]
    if shape != MODEL:
        lines += ["A quick look with a smaller model: the figures say little.", ""]
    if not torch.cuda.is_available():
        lines += [f"The process had {had:.0%} of the wall clock; speed-up in CPU time beside that in wall time.", ""]
    if notes:
        lines += ["Of TRL's settings only the fastest is in the tables. " + " ".join(notes), ""]
    for loss in dict.fromkeys(c.ours.loss for c in grid):
        mine = [c for c in grid if c.ours.loss == loss]
        lines += [f"## {loss}: {mine[0].ours.side} against {mine[0].theirs.side}", ""]
        lines += [*_table(mine), ""]
    missed = [m for c in grid for m in c.misses()]
    over = sum(c.limit > WORTH for c in grid)
    lines += [
        f"Goals (at least {OF_LIMIT:.0%} of the limit and {OF_SAVING:.0%} of the token saving in memory in the {over} "
        f"cells whose limit is over {WORTH}x; never slower at 0%): " + ("all reached." if not missed else "missed in"),
    ]
    return "\n".join([*lines, *(f"- {m}" for m in missed)]) + "\n"


def _table(grid: Sequence[Cell]) -> list[str]:
    lines = [
        "| branches | shared | TRL, branches/s | ours, branches/s | limit | speed-up (CPU time) | of the limit "
        "| TRL, peak MB | ours | saved | tokens saved |",
        "|---:" * 11 + "|",
    ]
    for c in grid:
        saved = "" if c.saved is None else f"{c.saved:.0%}"
        lines.append(
            f"| {c.ours.branches} | {c.ours.share:.0%} | {_rate(c.theirs)} | {_rate(c.ours)} | {c.limit:.2f} "
            f"| {c.speedup:.2f} ({c.speedup_cpu:.2f}) | {c.speedup / c.limit:.0%} | {_mb(c.theirs)} | {_mb(c.ours)} "
            f"| {saved} | {1 - 1 / c.limit:.0%} |"
        )
    return lines


def _rate(measure: Measure) -> str:
    low, middle, high = (ROWS / f(measure.seconds) for f in (max, median, min))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _mb(measure: Measure) -> str:
    return "" if measure.memory is None else f"{measure.memory:.0f}"
