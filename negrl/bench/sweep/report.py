"""The pages, CSVs and plots of `negrl bench sample-efficiency` and `negrl bench methods`, from a run folder alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from negrl.bench.page import Column, a_number, a_whole, between, render, to_csv, write_files
from negrl.bench.stats import CONFIDENCE, censored
from negrl.bench.sweep.compare import EQUAL, GOAL, Comparison, Measured, blocks, compare, standings
from negrl.bench.sweep.curve import KINDS, Reading
from negrl.bench.sweep.results import BASE, SFT, START, TRIALS, Found, read
from negrl.errors import InputError
from negrl.store import write_atomic
from negrl.terminal import safe_lines

SHARP = 0.5
"""SFT lacks mostly sharpness when its greedy error is below this share of its error at T=1."""
FEW = 0.01
"""Below this error at its largest size SFT leaves little to be told apart."""
FEW_WRONG = 10
"""Fewer wrong answers than this are too few for a sure reading."""
_BESIDE = ("at_best", "maj_at_k", "verified", "beyond")
"""Measures that a page shows if there are any: older files have none."""
_READING = ("multiplier", "low", "high", "least", "most", "share_above")
"""The columns of a `Reading`, in the order of its fields."""
MULTIPLIERS = (
    Column("measure"), Column("arm"), Column("size", a_whole), Column("seeds", a_whole), Column("curve"),
    *(Column(name, a_number, "{:.6g}".format) for name in _READING),
)  # fmt: skip
"""A row per measure, arm, size and kind of curve; inf: beyond SFT's largest size; 0: below its smallest."""


def write_efficiency(run_folder: Path, out: Path, command: str) -> None:
    """Write `out`.md, .csv (a row per point), -multipliers.csv, .png, -greedy.png and -costs.png from a run folder;
    print the multipliers.

    Raises:
        InputError: a file of the run folder is missing or does not fit; SFT has no curve.
    """
    from negrl.bench.sweep.plots import draw, draw_costs

    c = compare(read(run_folder))
    costs = draw_costs(c, "What the arms cost, and what else changes")
    files: dict[str, bytes] = {
        ".csv": c.found.table, "-multipliers.csv": to_csv(MULTIPLIERS, multipliers(c)),
        ".png": draw(c, title(c)), "-greedy.png": draw(c, title(c, "greedy"), "greedy"),
        ".md": efficiency_page(c, out.name, command, costs is not None).encode(),
    }  # fmt: skip
    if costs is not None:
        files["-costs.png"] = costs
    write_files(out, files)
    print(safe_lines(render("finding.md", **_finding(c))))


def write_methods(run_folder: Path, out: Path, command: str) -> None:
    """Write `out`.md, .csv (a row per point) and .png (further sizes: -SIZE.png); print who is best.

    Raises:
        InputError: a file of the run folder is missing or does not fit; no arm was trained.
    """
    from negrl.bench.sweep.plots import draw_methods

    found = read(run_folder)
    sizes = sorted({n for a in found.arms() if a not in (SFT, START, BASE) for n in found.sizes(a)})
    if not sizes:
        raise InputError(f"{run_folder / 'points.csv'}: no arm beside {SFT}, {START} and {BASE}")
    parts = []
    for size in sizes:
        table = standings(found, size)
        groups, image = blocks(found, table), out.name + (".png" if size == sizes[0] else f"-{size}.png")
        best = ", ".join(f"{g.best.arm} {g.best.value:.3f} ({g.name})" for g in groups)
        write_atomic(out.with_name(image), draw_methods(found, table, groups, f"Highest pass@1: {best}"))
        parts.append({
            "size": size, "image": image, "groups": groups, "references": [r for r in table if r.reference],
            "lost": [r.arm for r in table if r.gain and r.gain[2] < 0],
            "uncounted": [r.arm for r in table if math.isnan(r.tokens) and not r.reference],
        })  # fmt: skip
    has = {name: any(found.numbers(arm, size, name) for arm in found.arms() for size in sizes) for name in _BESIDE}
    page = render(
        "methods.md", **_common(found, out.name, command), parts=parts, tuned=list(_tuned(found)), has=has,
        extra=sum(has.values()),
    )  # fmt: skip
    files = {".csv": found.table, ".md": page.encode()}
    if found.trials:
        files["-trials.csv"] = to_csv(TRIALS, found.trials)
    write_files(out, files)
    for part in parts:
        print(safe_lines(render("best.md", part=part)))


def _tuned(found: Found) -> Iterable[dict[str, Any]]:
    """By arm and size: the settings tried, the chosen ones, and mean validation pass@1 of these and of the worst."""
    for arm, size in dict.fromkeys((t["arm"], t["size"]) for t in found.trials):
        own = [t for t in found.trials if (t["arm"], t["size"]) == (arm, size)]
        scores = {
            settings: float(np.mean([t["validation_pass_at_1"] for t in own if t["settings"] == settings]))
            for settings in dict.fromkeys(t["settings"] for t in own)
        }
        chosen = max(scores, key=lambda settings: scores[settings])
        yield {
            "arm": arm, "size": size, "tried": scores, "chosen": chosen, "best": scores[chosen],
            "worst": min(scores.values()), "seeds": sorted({t["seed"] for t in own}),
        }  # fmt: skip


def _common(found: Found, stem: str, command: str) -> dict[str, Any]:
    """What both pages have."""
    problems = found.bench["recipe"].get("problems") or {}
    told = ("operations", "teacher_habit_rate", "teacher_filter", "degree", "path", "steps")
    world = [str(problems.get("source", "unnamed world")), *(f"{k} {problems[k]}" for k in problems if k in told)]
    cells = [(arm, size, found.cell(arm, size)) for arm in found.arms() for size in found.sizes(arm)]
    fell = {(p.arm, p.size, p.seed) for p in found.fell}
    gone = {
        (arm, n): [s for s in found.seeds() if s not in {p.seed for p in cell} and (arm, n, s) not in fell]
        for arm, n, cell in cells
    }
    return {
        "found": found, "stem": stem, "command": command, "world": ", ".join(world), "CONFIDENCE": f"{CONFIDENCE:.0%}",
        "missing": [(*at, seeds) for at, seeds in gone.items() if seeds],
        "tripped": [(arm, n, cell, guards) for arm, n, cell in cells if (guards := [p.guard for p in cell if p.guard])],
        "share": lambda *at: between(*found.with_bounds(*at)),
    }  # fmt: skip


# Sample efficiency.


def multipliers(c: Comparison) -> list[dict[str, Any]]:
    return [
        {"measure": measure, "arm": r.arm, "size": r.size, "seeds": len(r.seeds), "curve": kind}
        | dict(zip(_READING, astuple(reading), strict=True))
        for measure, measured in c.by.items() for r in measured.rows for kind, reading in r.readings.items()
    ]  # fmt: skip


def reading_of(row: dict[str, Any]) -> Reading:
    """The reading of a row of a -multipliers.csv."""
    return Reading(*(row[name] for name in _READING))


def title(c: Comparison, measure: str = "pass_at_1") -> str:
    """The finding in a line; by other measures for the same arm and size."""
    best = c.headline()
    if best is None:
        return f"{c.main}: no seed in common with SFT"
    reading = c.by[measure].at(best).readings["power"]
    many = f"{reading} as many" if reading.value else "fewer"
    if reading.low == np.inf:
        many = f"more than {reading.most:,.0f}x as many"
    return f"{c.main} on {best.size:,} problems: for the same error SFT needs {many} ({c.word(measure)})"


def _finding(c: Comparison) -> dict[str, Any]:
    """Of the main arm and its kin, where they share seeds with SFT."""
    rows = [r for arm in (c.main, *c.several) for r in c.of(arm) if r.readings]
    return {
        "c": c, "GOAL": GOAL, "largest": c.curve.sizes[-1],
        "findings": [(r, r.readings["power"], c.by["greedy"].at(r).readings["power"]) for r in rows],
    }  # fmt: skip


def efficiency_page(c: Comparison, stem: str, command: str, with_costs: bool = True) -> str:
    """The whole document."""
    found, sft, greedy, best = c.found, c.by["pass_at_1"], c.by["greedy"], c.headline()
    rows = sorted(c.rows, key=lambda r: (r.size, -r.error))
    controls = [(r, found.gap((START, r.size), (r.arm, r.size))) for r in rows if r.control and r.readings]
    unsolved = float(c.by["pass_at_k"].curve.error[-1]) if "pass_at_k" in c.by else 1.0
    return render(
        "sample-efficiency.md", **_common(found, stem, command), **_finding(c), EQUAL=EQUAL, rows=rows, KINDS=KINDS,
        with_costs=with_costs, sft=list(_sft(c)), fits=[_fit(c, m) for m in ("pass_at_1", "greedy")], best=best,
        tried={name: sorted({g[name] for g in found.grid}) for name in ("learning_rate", "epochs")},
        settings=len({(g["learning_rate"], g["epochs"]) for g in found.grid}), chances=list(_chances(c)),
        cells=[*((BASE, n) for n in found.sizes(BASE)[:1]), *((SFT, n) for n in c.curve.sizes),
               *((r.arm, r.size) for r in rows)],
        controls=controls, gaining=[r for r, gain in controls if gain and gain[1] > 0],
        at_one=float(sft.curve.error[-1]), at_zero=float(greedy.curve.error[-1]), SHARP=SHARP, b=float(sft.fit.b),
        best_greedy=[(n, float(e)) for n, e in zip(greedy.curve.sizes, greedy.curve.error, strict=True)
                     if best and e < best.error][:1],
        unsolved=unsolved if 0 <= unsolved < FEW else None, weak=_weak(c), edges=list(_edges(found)),
        bases=[f"{x:.3f}" for x in found.numbers(BASE, 0, "pass_at_1")],
    )  # fmt: skip


def _sft(c: Comparison) -> Iterable[dict[str, Any]]:
    """The curve of SFT, size by size, and the settings that its grid chose."""
    found, curve, sft = c.found, c.curve, c.by["pass_at_1"]
    power, floor = (1 - fit.at(np.array(curve.sizes, float)) for fit in (sft.fit, sft.floor))

    def settings(chosen: Sequence[dict[str, Any]]) -> str:
        counts = Counter((g["learning_rate"], g["epochs"]) for g in chosen)
        said = ", ".join(f"lr {lr:g} x {e:g} epochs ({n})" for (lr, e), n in sorted(counts.items()))
        return said or "not recorded"

    for i, size in enumerate(curve.sizes):
        low, high = censored(curve.drawn[:, i])
        own = [g for g in found.grid if g["size"] == size]
        chosen = [g for g in own if g["chosen"]]
        edges = [sum(map(any, _ends(found, chosen, name))) for name in ("learning_rate", "epochs")]
        yield {
            "size": size, "value": 1 - float(curve.error[i]), "bounds": (1 - high, 1 - low), "power": power[i],
            "floor": floor[i], "edges": [f"{n} of {len(chosen)}" if chosen else "–" for n in edges],
            "chosen": [settings([g for g in own if g[by]]) for by in ("chosen", "chosen_k", "chosen_greedy")],
        }  # fmt: skip


def _fit(c: Comparison, measure: str) -> tuple[str, str, str, str]:
    """The laws through SFT's errors: (measure, power law, interval of its exponent, with a floor)."""
    fit, floor, (low, high) = c.by[measure].fit, c.by[measure].floor, censored(c.by[measure].fits.b)
    law, raised = (f"{float(np.exp(f.log_a)):.3g} N^-{float(f.b):.3f}" for f in (fit, floor))
    return c.word(measure), law, f"[{low:.3f}, {high:.3f}]", f"{raised} + {float(floor.c):.3f}"


def _chances(c: Comparison) -> Iterable[tuple[str, int, int]]:
    """By main arm: how many rivals generated as many tokens, how many of these have a significantly larger error."""
    for arm in dict.fromkeys(r.main for r in c.rivals):
        equal = [r for r in c.rivals if r.main == arm and r.had_its_chance]
        yield arm, len(equal), sum(r.error[1] > 0 for r in equal)


def _edges(found: Found) -> Iterable[tuple[str, str, int, int, int, list[int]]]:
    """How often a better setting may lie beyond those tried: measure, setting, cases in which the best is the lowest
    tried, the highest tried, all cases, sizes at which only one value was tried."""
    for measure, by in (("T=1", "chosen"), (f"pass@{found.k}", "chosen_k"), ("T=0", "chosen_greedy")):
        chosen = [g for g in found.grid if g[by]]
        for name, words in (("learning_rate", "learning rate"), ("epochs", "epochs")):
            if ends := _ends(found, chosen, name):
                low, high = map(sum, zip(*ends, strict=True))
                single = sorted({g["size"] for g, end in zip(chosen, ends, strict=True) if all(end)})
                yield measure, words, low, high, len(chosen), single


def _ends(found: Found, chosen: Sequence[dict[str, Any]], setting: str) -> list[tuple[bool, bool]]:
    """Of each chosen row of the grid: is its setting the lowest, is it the highest that was tried at its size?"""
    tried = [[g[setting] for g in found.grid if g["size"] == one["size"]] for one in chosen]
    return [(one[setting] == min(t), one[setting] == max(t)) for one, t in zip(chosen, tried, strict=True)]


def _weak(c: Comparison) -> dict[str, Any]:
    """The figures that speak against the multiplier."""
    sft, greedy = c.by["pass_at_1"], c.by["greedy"]
    ours = [r for arm in (c.main, *c.several) for r in c.of(arm) if r.readings]

    def misfit(m: Measured) -> float:
        return float(np.max(np.abs(m.curve.error - m.fit.at(np.array(m.curve.sizes, float))) / m.curve.deviation))

    greedy_rows = [r for arm in (c.main, *c.several) for r in greedy.of(arm)]
    wrong = [(r, round(r.error * c.found.problems * len(c.found.cell(r.arm, r.size)))) for r in greedy_rows]
    return {
        "fit_decides": [r for r in ours if len({r.readings[k].at_least >= GOAL for k in KINDS}) > 1],
        "not_below_largest": [
            r for r in ours if r.readings["power"].value == np.inf and r.against[c.curve.sizes[-1]][0] <= 0
        ],
        "beyond": [r for r in ours if 0.005 < r.readings["power"].above < 0.995],
        "rises": int((np.diff(sft.curve.error) > 0).sum()), "misfit": misfit(sft),
        "greedy_rises": int((np.diff(greedy.curve.error) > 0).sum()), "greedy_misfit": misfit(greedy),
        "few_wrong": [(r, n) for r, n in wrong if n < FEW_WRONG],
    }  # fmt: skip
