"""The points of a bench: what each one is, which recipe it runs, which others it waits for.

base            the base model of a seed
start           SFT on `size` problems with the recipe's own settings: where every arm begins
grid            one SFT training of the rival's grid, measured on the validation problems
sft             the grid's winner at a size, measured on the held-out problems (pass@k and T=0: the winners there)
trial           a method at a size with one of the settings that it chooses from, measured on the validation problems
arm             a method at a size, with the best settings of its trials if it has any
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from negrl.bench.sweep.schema import Bench, Choice
from negrl.methods import METHODS
from negrl.recipe import Recipe, TrainSection
from negrl.store import fingerprint

Kind = Literal["base", "start", "grid", "sft", "trial", "arm"]
VERSION = 3
"""Raised when what a point measures changes: then points are measured again (their stages are kept)."""


@dataclass(frozen=True, slots=True)
class Point:
    """`choice`: the settings of a grid's training or a trial."""

    kind: Kind
    arm: str
    size: int
    seed: int
    choice: Choice | None = None

    @property
    def name(self) -> str:
        tail = "" if self.choice is None else "-" + settings_text(self.choice).replace(" ", "-").replace("/", "_")
        return f"{self.arm}-{self.size}-seed{self.seed}{tail}"

    @property
    def cell(self) -> tuple[int, int, str]:
        """Points of one cell share samples and labels: better done one after the other."""
        return (self.size, self.seed, self.name if self.kind == "grid" else "")


@dataclass(frozen=True, slots=True)
class Given:
    """What a point takes from points before it: samples per problem (arms that are made equal in tokens), the
    grid's winners by pass@1, by pass@k and by greedy answers, and a remark for its row."""

    n: int | None = None
    choice: Choice | None = None
    k_choice: Choice | None = None
    greedy_choice: Choice | None = None
    note: str = ""


def settings_text(choice: Choice) -> str:
    """ "lr 0.0001 epochs 4"."""
    short = {"learning_rate": "lr", "num_train_epochs": "epochs"}
    return " ".join(f"{short.get(key, key)} {value:g}" if isinstance(value, float) else f"{short.get(key, key)} {value}"
                    for key, value in choice)  # fmt: skip


def points(bench: Bench) -> list[Point]:
    """All points of a bench, those that others wait for first."""
    plan, found = bench.plan, []
    for seed in plan.seeds:
        found.append(Point("base", "base", 0, seed))
        for size in plan.sizes:
            found.append(Point("start", "start", size, seed))
            arms = sorted(plan.live.items(), key=lambda item: item[1].equal_tokens_to is not None)
            for name, _ in arms:
                found += [*_trials(bench, name, size, seed), Point("arm", name, size, seed)]
        for size in reversed(plan.sft.sizes if plan.sft else []):  # the longest first
            found += _grid(bench, size, seed)
            found.append(Point("sft", "sft", size, seed))
    ordered: dict[Point, None] = {}
    for point in found:  # an arm waits for its trials at other seeds
        _after_needs(bench, point, ordered)
    return list(ordered)


def _after_needs(bench: Bench, point: Point, ordered: dict[Point, None]) -> None:
    if point not in ordered:
        for need in needs(bench, point):
            _after_needs(bench, need, ordered)
        ordered[point] = None


def _grid(bench: Bench, size: int, seed: int) -> list[Point]:
    assert bench.plan.sft is not None
    return [Point("grid", "grid", size, seed, choice) for choice in bench.plan.sft.choices(size)]


def _trials(bench: Bench, arm: str, size: int, seed: int) -> list[Point]:
    if seed not in (bench.plan.tune_seeds or bench.plan.seeds):
        return []
    return [Point("trial", arm, size, seed, choice) for choice in bench.plan.live[arm].choices]


def needs(bench: Bench, point: Point) -> list[Point]:
    """The points that must be done before this one."""
    base = Point("base", "base", 0, point.seed)
    if point.kind == "base":
        return []
    if point.kind in ("start", "grid"):
        return [base]
    if point.kind == "sft":
        start = Point("start", "start", judged_by(bench, point.size), point.seed)
        return [start, *_grid(bench, point.size, point.seed)]
    before = [Point("start", "start", point.size, point.seed)]
    other = bench.plan.live[point.arm].equal_tokens_to
    if other is not None:
        before.append(Point("arm", other, point.size, point.seed))
    if point.kind == "arm":
        for seed in bench.plan.tune_seeds or bench.plan.seeds:
            before += _trials(bench, point.arm, point.size, seed)
    return before


def judged_by(bench: Bench, size: int) -> int:
    """The size whose start policy's spurious steps stand for `size`: the same, or else the arms' largest."""
    return size if size in bench.plan.sizes else max(bench.plan.sizes)


def given(bench: Bench, point: Point) -> Given:
    """What the finished points before this one say."""
    if point.kind == "sft":
        tried = [(stored(bench, p)["row"], p.choice) for p in _grid(bench, point.size, point.seed)]
        winner, many, greedy = (  # the first of equals
            max(tried, key=lambda t: (t[0][f"validation_{measure}"], t[0]["validation_pass_at_1"]))[1]
            for measure in ("pass_at_1", "pass_at_k", "greedy")
        )
        seconds = sum(row["train_seconds"] for row, _ in tried)
        note = f"best of {len(tried)} trainings, which took {seconds:.0f} s together"
        for what, other in (("pass@k", many), ("T=0", greedy)):
            if other is not None and other != winner:
                note += f"; {what}: of the best there, {settings_text(other)}"
        return Given(choice=winner, k_choice=many, greedy_choice=greedy, note=note)
    if point.kind not in ("arm", "trial"):
        return Given()
    n, notes = _equal(bench, point)
    choice = None
    if point.kind == "arm" and bench.plan.live[point.arm].choices:
        choice, said = _best_trial(bench, point)
        notes.append(said)
    return Given(n, choice, note="; ".join(notes))


def _equal(bench: Bench, point: Point) -> tuple[int | None, list[str]]:
    """Samples per problem of an arm that is made equal in tokens, and the remark."""
    arm = bench.plan.live[point.arm]
    if arm.equal_tokens_to is None:
        return None, []
    other = stored(bench, Point("arm", arm.equal_tokens_to, point.size, point.seed))["row"]
    n = equal_n(other, point.size, arm.rounds or bench.recipe.rounds)
    return n, [f"sample.n {n} for the {other['generated_tokens']:,} tokens of {arm.equal_tokens_to}"]


def _best_trial(bench: Bench, point: Point) -> tuple[Choice, str]:
    """The settings with the highest mean validation pass@1 over the seeds that tune (the first of equals)."""
    seeds = bench.plan.tune_seeds or bench.plan.seeds
    choices = bench.plan.live[point.arm].choices

    def mean(choice: Choice) -> float:
        trials = [Point("trial", point.arm, point.size, seed, choice) for seed in seeds]
        return math.fsum(stored(bench, trial)["row"]["validation_pass_at_1"] for trial in trials) / len(seeds)

    best = max(choices, key=mean)
    return best, f"{settings_text(best)}: best of {len(choices)} settings on validation problems"


def equal_n(other: dict[str, Any], size: int, rounds: int) -> int:
    """Samples per problem and round with which an arm without labels generates at least the tokens of `other` (a
    row of points.csv), as far as its samples are as long."""
    drawn = other["samples_n"] * size * other["rounds"]
    per_sample = (other["generated_tokens"] - other["label_tokens"]) / max(1, drawn)
    return max(1, math.ceil(other["generated_tokens"] / max(1e-9, per_sample * size * rounds)))


def recipe_of(bench: Bench, point: Point, given: Given | None = None) -> Recipe:
    """The recipe that a point is a run of.

    Raises:
        pydantic.ValidationError: the arm's settings are no recipe's.
    """
    given = given or Given()
    body = copy.deepcopy(bench.body)
    for part in ("sample", "label", "problems"):
        body[part] = dict(body.get(part) or {})
    body["seed"] = body["sample"]["seed"] = body["label"]["seed"] = point.seed
    if hasattr(bench.recipe.problems, "seed"):
        body["problems"]["seed"] = point.seed
    if bench.recipe.policy.build is not None:
        body["policy"]["build"]["seed"] = point.seed
    body["problems"]["train"] = point.size or min(bench.plan.sizes)
    body["name"] = point.name
    body["output_dir"], body["store"] = str(bench.folder / "points" / point.name), bench.recipe.store
    body["threads"] = bench.recipe.threads or 1
    start = dict(body["policy"]["start"])
    choice = given.choice or point.choice
    if bench.plan.sft is not None and choice is not None and point.kind in ("grid", "sft"):
        start |= {**bench.plan.sft.train, **dict(choice)}
    body["policy"]["start"] = _lenient(start)
    train = dict(body.get("train") or {})
    if point.kind not in ("arm", "trial"):
        return Recipe.model_validate({**body, "train": {**train, "method": "sft"}})
    arm = bench.plan.live[point.arm]
    body["sample"] |= arm.sample
    body["label"] |= arm.label
    if given.n is not None:
        body["sample"]["n"] = given.n
    body["label"]["shuffle"] = arm.shuffle_labels
    own = _lenient({"guards": train.get("guards", {}), **arm.train, **dict(choice or ())})
    body["arms"] = {point.arm: {**own, "method": arm.method}}
    return Recipe.model_validate(body)


def beyond(recipe: Recipe, bench: Bench) -> Recipe:
    """The recipe with the held-out problems of `bench.beyond`.

    Raises:
        pydantic.ValidationError: what it says is no recipe's.
    """
    body = recipe.model_dump(mode="json")
    for section, fields in bench.plan.beyond.items():
        body[section] = {**body[section], **fields} if isinstance(fields, dict) else fields
    return Recipe.model_validate(body)


def _lenient(section: dict[str, Any]) -> dict[str, Any]:
    """A tripped guard is a result, unless the section says otherwise."""
    guards = section.get("guards", {})
    return {**section, "guards": guards if guards is None else {"on_trip": "keep", **guards}}


def settings(section: TrainSection) -> tuple[float, float]:
    """(learning rate, epochs) that a training uses."""
    fields = METHODS[section.method].split(section.fields)[1]
    return float(fields.get("learning_rate", 0.0)), float(fields.get("num_train_epochs", 3))


def key_of(bench: Bench, point: Point, given: Given) -> str:
    """The fingerprint of everything that a point's row depends on."""
    recipe = recipe_of(bench, point, given).model_dump(
        mode="json", exclude={"output_dir", "store", "report", "threads"}
    )
    plan = bench.plan
    extra: list[Any] = [plan.spurious_steps, given.note, plan.temperatures, plan.validation, plan.largest, plan.beyond]
    if point.kind in ("grid", "trial"):
        extra = [bench.plan.largest, bench.plan.validation]
    if point.kind == "sft":
        extra += [judged_by(bench, point.size), given.k_choice, given.greedy_choice]
    return fingerprint("point", VERSION, point.kind, recipe, extra)


def record_path(bench: Bench, point: Point) -> Path:
    return bench.folder / "points" / f"{point.name}.json"


def stored(bench: Bench, point: Point) -> dict[str, Any]:
    """What a finished point left: `key`, `row`, `problems`, `stages`, `seconds`."""
    found: dict[str, Any] = json.loads(record_path(bench, point).read_text())
    return found


def finished(bench: Bench, point: Point, key: str) -> bool:
    """Is the point done with these very settings? (What isn't whole JSON of ours counts as not done.)"""
    try:
        return bool(stored(bench, point).get("key") == key)
    except (OSError, json.JSONDecodeError, AttributeError):
        return False
