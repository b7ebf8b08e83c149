"""What a bench will cost, said beforehand, and what it then took.

The plan is the bench itself in small: every arm once on the smallest size (two rounds at most), the rival's
grid at a small and at a middling size, on as many seeds as there are workers, in a folder that is thrown away.
Each stage's tokens, seconds and bytes are then scaled: what grows with the problems by their number, a training
by its optimizer loop, and the rest not at all.

Tokens are generated ones: samples, labels, evaluation. Seconds are CPU seconds of all workers together
(frame.py). `wall_seconds` is what the clock will say, if the machine stays as busy as in the probe.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from negrl.bench.sweep.points import Point, equal_n, points, stored
from negrl.bench.sweep.run import run_points, workers
from negrl.bench.sweep.schema import Bench
from negrl.budget import AUTO
from negrl.errors import InputError
from negrl.pipeline.finish import hardware, versions
from negrl.progress import Reporter
from negrl.store import write_atomic

MIDDLING = 1024
"""Problems at which a probe of the rival's grid is made, where the bench has such a size."""
GROWS = ("sample", "import", "verify", "value", "credit", "view")
"""Stages whose cost is in proportion to the problems."""
AUTO_ROUNDS = 8
"""How many rounds the plan takes for an arm with `budget: auto`, which decides on the way (and may take many more)."""
MEASURES = ("tokens", "seconds", "megabytes")

Cost = dict[str, float]


def plan(bench: Bench, reporter: Reporter) -> dict[str, Any]:
    """Say what the bench will cost here: see the module's text.

    Returns:
        `tokens`, `seconds`, `megabytes`, `wall_seconds`, `probe_seconds`, and `parts`: the same by arm.

    Raises:
        InputError: a point of the probe fails, so one of the bench would.
    """
    import time

    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="negrl-plan-") as folder:
        small = probe(bench, Path(folder))
        outcome = run_points(small, reporter)
        if outcome.failed:
            point, said = next(iter(outcome.failed.items()))
            raise InputError(f"--plan: {point.name}: {said}")
        records = {point: stored(small, point) for point in outcome.done}
    parts: dict[str, Cost] = defaultdict(lambda: dict.fromkeys(MEASURES, 0.0))
    for point in points(bench):
        for name, amount in _cost(bench, point, records).items():
            parts[point.arm][name] += amount
    slower = sum(r["wall_seconds"] for r in records.values()) / max(1e-9, sum(r["seconds"] for r in records.values()))
    wall = slower * sum(part["seconds"] for part in parts.values())
    return {**_sums(bench, parts, wall), "probe_seconds": time.perf_counter() - began}


def _sums(bench: Bench, parts: dict[str, Cost], wall: float) -> dict[str, Any]:
    """Of all arms. `wall`: the seconds that one worker alone would take by the clock."""
    total = {name: sum(part[name] for part in parts.values()) for name in MEASURES}
    return {**total, "wall_seconds": wall / workers(bench), "workers": workers(bench), "parts": dict(parts)}


def probe(bench: Bench, folder: Path) -> Bench:
    """The bench in small, in a folder of its own."""
    plan = bench.plan
    seeds = plan.seeds[: workers(bench)]
    sft = plan.sft
    if sft is not None:
        grid = sft.grid.model_copy(
            update={"learning_rate": sft.grid.learning_rate[:1], "num_train_epochs": [min(sft.grid.num_train_epochs)]}
        )
        middling = max((s for s in sft.sizes if s <= MIDDLING), default=min(sft.sizes))
        sft = sft.model_copy(update={"sizes": sorted({min(sft.sizes), middling}), "grid": grid})
    arms = {
        name: arm.model_copy(
            update={
                "rounds": 2 if arm.budget else min(2, arm.rounds or bench.recipe.rounds),
                "budget": None,
                "tune": {key: values[:1] for key, values in arm.tune.items()},
            }
        )
        for name, arm in plan.live.items()
    }
    small = plan.model_copy(
        update={"seeds": seeds, "tune_seeds": None, "sizes": plan.sizes[:1], "arms": arms, "sft": sft}
    )
    places = {"output_dir": str(folder), "store": str(folder / "stages")}
    return dataclasses.replace(bench, plan=small, recipe=bench.recipe.model_copy(update=places))


def _cost(bench: Bench, point: Point, records: dict[Point, dict[str, Any]]) -> Cost:
    """What a point of the bench will cost, from the probe's points of its kind."""
    total: Cost = dict.fromkeys(MEASURES, 0.0)
    alike = [(p, r) for p, r in records.items() if p.kind == point.kind and p.arm == point.arm]
    if point.kind in ("grid", "sft"):
        largest = max(p.size for p, _ in alike)  # the longest training tells the loop's pace best
        alike = [(p, r) for p, r in alike if p.size == largest]
    for probed, record in alike:
        own = [s for s in record["stages"] if s["new"]]
        scale = point.size / probed.size if probed.size else 1.0
        for stage in own:
            grown, times = scale, 1.0
            if point.kind in ("arm", "trial"):
                if point.kind == "trial" and _shared(bench, point, stage):
                    continue
                times = _later(bench, point, own, scale) if "· round 2 ·" in f"{stage['title']} ·" else 1.0
                grown *= _more_samples(bench, point, probed, records) if stage["kind"] in GROWS else 1.0
            elif point.choice and probed.choice and stage["kind"] == "start":
                grown *= dict(point.choice)["num_train_epochs"] / dict(probed.choice)["num_train_epochs"]
            _add(total, stage, grown, times / len(alike))
        beside = record["seconds"] - sum(s["seconds"] for s in own)
        total["seconds"] += max(0.0, beside) / len(alike)
    return total


def _shared(bench: Bench, point: Point, stage: dict[str, Any]) -> bool:
    """Did an earlier trial of the arm make this stage? Those of the first round are the same for all."""
    first = bench.plan.live[point.arm].choices[0]
    return point.choice != first and stage["kind"] in GROWS and "round 2" not in stage["title"]


def _add(total: Cost, stage: dict[str, Any], grown: float, times: float) -> None:
    """One stage's cost, `grown` times as much work, done `times` times."""
    grows = stage["kind"] in GROWS
    seconds = stage["seconds"] * (grown if grows else 1.0)
    if stage["kind"] in ("train", "start"):
        seconds = stage["seconds"] * (1 - stage["loop"] + stage["loop"] * grown)
    online = stage["kind"] == "train"  # tokens of a method that samples while it trains
    total["tokens"] += times * stage["tokens"] * (grown if grows or online else 1.0)
    total["seconds"] += times * seconds
    total["megabytes"] += times * stage["bytes"] / 1e6 * (grown if grows else 1.0)


def _later(bench: Bench, point: Point, probe: list[dict[str, Any]], scale: float) -> float:
    """How many rounds of the bench the probe's second one stands for: itself and those after it."""
    arm = bench.plan.live[point.arm]
    if arm.budget is None:
        return (arm.rounds or bench.recipe.rounds) - 1
    if arm.budget == AUTO:
        return AUTO_ROUNDS - 1
    a_round = scale * sum(stage["tokens"] for stage in probe if stage["kind"] in GROWS) / 2
    return max(1.0, arm.budget / max(1.0, a_round) - 1)


def _more_samples(bench: Bench, point: Point, probed: Point, records: dict[Point, dict[str, Any]]) -> float:
    """How many more samples a round an arm of equal tokens will draw than it did in the probe, since the other arm
    goes on for more rounds than there."""
    arm = bench.plan.live[point.arm]
    if arm.equal_tokens_to is None:
        return 1.0
    other = Point("arm", arm.equal_tokens_to, probed.size, probed.seed)
    stages, row = records[other]["stages"], records[other]["row"]
    later = sum(s["tokens"] for s in stages if s["kind"] in GROWS and "round 2" in s["title"])
    more = (bench.plan.live[arm.equal_tokens_to].rounds or bench.recipe.rounds) - row["rounds"]
    longer = {**row, "generated_tokens": row["generated_tokens"] + more * later, "label_tokens": 0}
    # Per sample as in the probe: only the sum to reach is another.
    per_sample = (row["generated_tokens"] - row["label_tokens"]) / (row["samples_n"] * probed.size * row["rounds"])
    longer["label_tokens"] = longer["generated_tokens"] - per_sample * row["samples_n"] * probed.size * row["rounds"]
    rounds = arm.rounds or bench.recipe.rounds
    return equal_n(longer, probed.size, rounds) / records[probed]["row"]["samples_n"]


def taken(bench: Bench, done: Iterable[Point]) -> dict[str, Any]:
    """What the points that are done took, in this and in earlier calls, each stage counted once."""
    parts: dict[str, Cost] = defaultdict(lambda: dict.fromkeys(MEASURES, 0.0))
    kinds: dict[str, float] = defaultdict(float)
    seen: set[str] = set()
    wall, finished = 0.0, set(done)
    for point in points(bench):
        if point not in finished:
            continue
        record = stored(bench, point)
        wall += record["wall_seconds"]
        part = parts[point.arm]
        part["seconds"] += max(0.0, record["seconds"] - sum(s["seconds"] for s in record["stages"] if s["new"]))
        for stage in record["stages"]:
            if stage["key"] in seen:
                continue
            seen.add(stage["key"])
            part["tokens"] += stage["tokens"]
            part["seconds"] += stage["seconds"]
            part["megabytes"] += stage["bytes"] / 1e6
            kinds[{"value": "labels", "evaluate": "evaluation"}.get(stage["kind"], "samples")] += stage["tokens"]
    return {**_sums(bench, parts, wall), "points": len(finished), "tokens_by_use": dict(kinds)}


def write_costs(bench: Bench, command: str, **parts: dict[str, Any]) -> dict[str, Any]:
    """Put `planned` or `taken` into costs.json, with the machine, and how the two compare."""
    path = bench.folder / "costs.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    costs = {
        "planned": None, "taken": None, "ratio": None, **before,
        "hardware": hardware(), "versions": versions(), "command": command, **parts,
    }  # fmt: skip
    planned, took = costs["planned"], costs["taken"]
    if planned and took:
        costs["ratio"] = {name: took[name] / planned[name] for name in MEASURES if planned[name]}
    write_atomic(path, json.dumps(costs, indent=2).encode())
    return costs
