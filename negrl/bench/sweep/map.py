"""The map: where step labels pay. `step_advantage` minus `topr` at equal samples, over worlds, samples a problem and
how hard a held-out problem is for the start policy.

The cells come from run folders of sweeps: two arms of a run make a pair if they have the same size, rounds and samples
a problem, and one is of the method `step_advantage`, the other `topr`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from negrl.bench.page import Column, a_number, a_whole, render, to_csv, write_files
from negrl.bench.sweep.curve import difference, resample
from negrl.bench.sweep.results import START, Found, Result, read
from negrl.errors import InputError

OURS, RIVAL = "step_advantage", "topr"
BANDS = {"all": (0.0, 1.0), "hard": (0.0, 0.25), "middle": (0.25, 0.75), "easy": (0.75, 1.0)}
"""Name -> the start policy's share of right samples on a held-out problem: above the first (or 0), up to the second."""
ABOUT_EQUAL = 0.02
"""Tokens of a pair that differ by no more than this share: samples of two policies are never quite as long."""
CELLS = (
    Column("world"), Column("steps", a_number), Column("size", a_whole), Column("rounds", a_whole),
    Column("samples", a_whole), Column("band"), Column("seeds", a_whole), Column("problems", a_number),
    Column("start", a_number), Column("ours", a_number), Column("rival", a_number), Column("gap", a_number),
    Column("low", a_number), Column("high", a_number), Column("greedy_gap", a_number), Column("greedy_low", a_number),
    Column("greedy_high", a_number), Column("tokens_ratio", a_number),
)  # fmt: skip
"""map.csv: a row per cell. `gap`: pass@1 at T=1 of step_advantage minus topr, with its 95% interval over problems and
seeds; `greedy_*`: the same at T=0. `problems`: held-out ones a seed. `tokens_ratio`: step_advantage's over topr's."""


@dataclass(frozen=True)
class Pair:
    """Two arms of a run, and the seeds that both have."""

    size: int
    rounds: int
    samples: int
    ours: str
    rival: str
    seeds: list[int]


def write_map(folders: Sequence[Path], out: Path, command: str) -> None:
    """Write `out`.md, .csv and .png from run folders.

    Raises:
        InputError: a file of a run folder is missing or does not fit; no folder has a pair.
    """
    from negrl.bench.sweep.plots import draw_map

    runs = [read(folder) for folder in folders]
    rows = [row for found in runs for pair in pairs(found) for row in cells(found, pair)]
    if not rows:
        raise InputError(
            f"{', '.join(map(str, folders))}: no arm of {OURS} and of {RIVAL} with the same size, rounds and samples"
        )
    rows.sort(
        key=lambda r: (r["steps"], r["world"], r["size"], r["rounds"], r["samples"], list(BANDS).index(r["band"]))
    )
    page = render(
        "map.md", command=command, rows=rows, stem=out.name, bands=BANDS, ours=OURS, rival=RIVAL,
        runs=[{"world": world_of(found), "hardware": found.costs.get("hardware"), "found": found} for found in runs],
        quarter=_hardest(rows), sure=_sure(rows), equal=all(abs(r["tokens_ratio"] - 1) <= ABOUT_EQUAL for r in rows),
    )  # fmt: skip
    write_files(out, {".csv": to_csv(CELLS, rows), ".png": draw_map(rows, BANDS), ".md": page.encode()})


def world_of(found: Found) -> str:
    problems = found.bench["recipe"].get("problems") or {}
    return str(problems.get("source", "unnamed"))


def steps_of(found: Found) -> float:
    """How long the problems are: operations, or the mean of a range of steps."""
    problems = found.bench["recipe"].get("problems") or {}
    steps: Any = problems.get("operations", problems.get("steps", np.nan))
    return float(np.mean(steps))


def pairs(found: Found) -> list[Pair]:
    def cell(method: str) -> dict[tuple[int, int, int], list[Result]]:
        out: dict[tuple[int, int, int], list[Result]] = {}
        for point in found.points:
            if point.method == method and not found.is_control(point.arm) and point.number["samples_n"] > 0:
                out.setdefault((point.size, point.rounds, int(point.number["samples_n"])), []).append(point)
        return out

    ours, rivals = cell(OURS), cell(RIVAL)
    made = []
    for at in sorted(ours.keys() & rivals.keys()):
        names = [{point.arm for point in side[at]} for side in (ours, rivals)]
        if any(len(name) > 1 for name in names):
            raise InputError(f"arms {', '.join(sorted(names[0] | names[1]))}: more than one pair of {at[2]} samples")
        seeds = sorted({p.seed for p in ours[at]} & {p.seed for p in rivals[at]})
        if seeds:
            made.append(Pair(*at, ours=names[0].pop(), rival=names[1].pop(), seeds=seeds))
    return made


def cells(found: Found, pair: Pair) -> Iterable[dict[str, Any]]:
    """A row for each band that has problems at every seed."""
    index = {(p.arm, p.size, p.seed): i for i, p in enumerate(found.points)}
    keys = [(arm, pair.size, seed) for arm in (START, pair.ours, pair.rival) for seed in pair.seeds]
    if any(key not in index for key in keys):
        return
    where = [index[key] for key in keys]
    begin = found.rates["pass_at_1"][where[: len(pair.seeds)]]  # [seeds, problems]
    for band, (low, high) in BANDS.items():
        inside = np.tile((begin <= high) & ((begin > low) | (low == 0)), (3, 1))
        if not inside.any(axis=1).all():
            continue
        seen = {name: np.where(inside, rate[where], np.nan) for name, rate in found.rates.items()}
        row: dict[str, Any] = {
            "world": world_of(found), "steps": steps_of(found), "size": pair.size, "rounds": pair.rounds,
            "samples": pair.samples, "band": band, "seeds": len(pair.seeds),
            "problems": float((~np.isnan(seen["pass_at_1"][: len(pair.seeds)])).sum(axis=1).mean()),
            "tokens_ratio": found.mean(pair.ours, pair.size, "generated_tokens")
            / found.mean(pair.rival, pair.size, "generated_tokens"),
        }  # fmt: skip
        for measure, prefix in (("pass_at_1", ""), ("greedy", "greedy_")):
            sample = resample(keys, seen[measure])
            ours, rival = (sample.cell(arm, pair.size, pair.seeds) for arm in (pair.ours, pair.rival))
            gap = difference(rival, ours)  # of errors
            row |= dict(zip((f"{prefix}gap", f"{prefix}low", f"{prefix}high"), gap, strict=True))
            if measure == "pass_at_1":
                begun = sample.cell(START, pair.size, pair.seeds)
                row |= {"start": 1 - begun[0], "ours": 1 - ours[0], "rival": 1 - rival[0]}
        yield row


def _hardest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The quarter of the cells (without those of all problems) in which the start policy is right least often."""
    apart = sorted((r for r in rows if r["band"] != "all"), key=lambda r: r["start"])
    quarter = apart[: max(1, len(apart) // 4)]
    return {
        "cells": len(quarter), "of": len(apart), "start": quarter[-1]["start"] if quarter else np.nan,
        "gap": float(np.mean([r["gap"] for r in quarter])) if quarter else np.nan,
        "greedy_gap": float(np.mean([r["greedy_gap"] for r in quarter])) if quarter else np.nan,
    }  # fmt: skip


def _sure(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many cells lie wholly above 0, and wholly below, at T=1 and T=0."""
    whole = [r for r in rows if r["band"] == "all"]
    counts = {"cells": len(whole)}
    for prefix in ("", "greedy_"):
        counts[f"{prefix}above"] = sum(r[f"{prefix}low"] > 0 for r in whole)
        counts[f"{prefix}below"] = sum(r[f"{prefix}high"] < 0 for r in whole)
    return counts
