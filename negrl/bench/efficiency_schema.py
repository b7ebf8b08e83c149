"""A bench file: an ordinary recipe, and what of it is compared over sizes, seeds and methods.

extends: chain.yaml   optional: another bench file beside this one, which this one stands on
recipe: ...           the body of a recipe; every point of the bench is a run of it
bench: ...            `BenchSection`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
from pydantic import Field, model_validator

from negrl.errors import InputError, nearest
from negrl.options import Section
from negrl.recipe import Recipe, TrainSection, first_error
from negrl.recipe.read import merged, read_mapping

REFERENCES = ("base", "start", "sft")
"""Points that a bench makes besides its arms."""


class ArmSection(TrainSection):
    """A recipe's train section, and how the bench treats the arm. A guard that trips is a result here: unless
    `guards` say otherwise, the best weights are kept, evaluated, and the row says so."""

    equal_tokens_to: str | None = None
    """Another arm: `sample.n` is chosen so that this arm generates as many tokens, that arm's labels included."""
    shuffle_labels: bool = False
    """The control: `label.shuffle`."""

    @property
    def train(self) -> dict[str, Any]:
        """The section as it stands in a recipe."""
        return self.model_dump(exclude={"equal_tokens_to", "shuffle_labels"}, exclude_unset=True)


class GridSection(Section):
    learning_rate: list[float] = Field(min_length=1)
    num_train_epochs: list[int] = Field(min_length=1)


class SftSection(Section):
    """The rival: SFT from the base model at every size, with the best settings of a grid of its own."""

    sizes: list[int] = Field(min_length=1)
    """Training problems, all of one stream: a larger set contains the smaller ones."""
    grid: GridSection
    validation: int = Field(500, ge=1)
    """Problems that choose among the grid: of the training stream, after those of the largest size."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Fields on top of `policy.start`'s."""
    rows_at_most: int | None = Field(None, ge=1)
    """Leave out the grid's trainings of more than size x epochs rows (never those of the fewest epochs)."""

    def choices(self, size: int) -> list[tuple[float, int]]:
        """(learning rate, epochs) to try at a size."""
        epochs = sorted(set(self.grid.num_train_epochs))
        kept = [e for e in epochs if e == epochs[0] or self.rows_at_most is None or size * e <= self.rows_at_most]
        return [(rate, e) for rate in sorted(set(self.grid.learning_rate)) for e in kept]


class BenchSection(Section):
    seeds: list[int] = Field(default_factory=lambda: [0, 1, 2, 3, 4], min_length=1)
    """Each sets the world, its problems (the held-out ones, too), the base model, sampling and training."""
    workers: int | None = Field(None, ge=1)
    """Processes, of one thread each (`recipe.threads`). Default: one for each core."""
    sizes: list[int] = Field(min_length=1)
    """Training problems of the arms."""
    arms: dict[str, ArmSection | None]
    """The methods, each from `policy.start` trained on the same problems; an arm that is null is left out."""
    sft: SftSection | None = None
    spurious_steps: int = Field(300, ge=1)
    """At most so many wrong steps inside the start policy's right answers are looked at for their mass."""

    @model_validator(mode="after")
    def _whole(self) -> BenchSection:
        for name in self.live:
            if name in REFERENCES or not all(c.isalnum() or c in "_.+" for c in name):
                raise ValueError(
                    f"arms: '{name}' can't be an arm's name (letters, digits, _ . +; not base, start, sft)"
                )
        for name, arm in self.live.items():
            other = arm.equal_tokens_to
            if other is None:
                continue
            if other not in self.live or other == name:
                raise ValueError(f"arms.{name}.equal_tokens_to: no arm '{other}'{nearest(other, self.live)}")
            if self.live[other].equal_tokens_to is not None:
                raise ValueError(f"arms.{name}.equal_tokens_to: '{other}' is itself made equal to another arm")
        for where, sizes in (("sizes", self.sizes), ("sft.sizes", self.sft.sizes if self.sft else [1])):
            if min(sizes) < 1 or sorted(set(sizes)) != sizes:
                raise ValueError(f"{where}: expected rising numbers of problems, got {sizes}")
        return self

    @property
    def live(self) -> dict[str, ArmSection]:
        return {name: arm for name, arm in self.arms.items() if arm is not None}

    @property
    def largest(self) -> int:
        """The most training problems of any point: validation problems come after them."""
        return max([*self.sizes, *(self.sft.sizes if self.sft else [])])


@dataclass(frozen=True)
class Bench:
    """A checked bench file. `body` is the recipe's YAML as plain data, overrides applied."""

    body: dict[str, Any]
    plan: BenchSection
    recipe: Recipe

    @property
    def folder(self) -> Path:
        return Path(self.recipe.output_dir)


def load_bench(path: str | Path, overrides: Sequence[str] = ()) -> Bench:
    """Read and check a bench file.

    Args:
        overrides: `bench.seeds=[0]`, `recipe.problems.operations=8`, values in YAML syntax.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown, a value is wrong, or the recipe is
            none that a bench can vary.
    """
    for item in overrides:
        if "=" not in item or item.split(".", 1)[0] not in ("bench", "recipe"):
            raise InputError(f"override '{item}': expected bench.key=value or recipe.key=value")
    data = _merged(Path(path), overrides)
    for key in data:
        if key not in ("recipe", "bench"):
            near = nearest(str(key), ("recipe", "bench", "extends"))
            raise InputError(f"{path}: unknown key '{key}'{near}; a bench file has recipe and bench")
    missing = [key for key in ("recipe", "bench") if not isinstance(data.get(key), dict)]
    if missing:
        raise InputError(f"{path}: no section '{missing[0]}'; a bench file has recipe and bench")
    try:
        plan = BenchSection.model_validate(data["bench"])
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: {_line(error)}") from None
    bench = Bench(data["recipe"], plan, _recipe(path, data["recipe"]))
    _check(path, bench)
    return bench


def _recipe(path: str | Path, body: dict[str, Any]) -> Recipe:
    if body.get("arms") is not None:
        raise InputError(f"{path}: recipe.arms: the arms of a bench stand under bench.arms")
    try:
        # The default method wants step labels; which arms do is seen when each is checked.
        return Recipe.model_validate({**body, "train": {**(body.get("train") or {}), "method": "sft"}})
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: recipe.{first_error(error)}") from None


def _check(path: str | Path, bench: Bench) -> None:
    """Raises InputError unless every point of the bench is a recipe."""
    from negrl.bench.efficiency_points import points, recipe_of

    recipe = bench.recipe
    if recipe.problems is None or recipe.traces is not None:
        raise InputError(f"{path}: recipe.problems: a bench samples problems of a source; it imports no traces")
    if recipe.evaluate is None:
        raise InputError(f"{path}: recipe.evaluate: a bench needs it")
    if recipe.policy.start is None:
        raise InputError(f"{path}: recipe.policy.start: give the SFT settings that all arms start from")
    if recipe.policy.build is not None and recipe.policy.build.corpus != "world":
        raise InputError(f"{path}: recipe.policy.build.corpus: must be world, so that all sizes share one base model")
    for name, arm in bench.plan.live.items():
        if arm.shuffle_labels and arm.method != "step_advantage":
            raise InputError(f"{path}: bench.arms.{name}.shuffle_labels: only step_advantage reads shuffled labels")
    for point in points(bench):
        if point.seed != bench.plan.seeds[0]:
            continue
        try:
            recipe_of(bench, point)
        except pydantic.ValidationError as error:
            raise InputError(f"{path}: {point.name}: {first_error(error)}") from None


def _merged(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The file on top of what it extends, overrides on top of both."""
    layers: list[dict[str, Any]] = []
    here: Path | None = path
    while here is not None:
        data = read_mapping(here, "bench file")
        below = data.pop("extends", None)
        layers.insert(0, data)
        if len(layers) > 8:
            raise InputError(f"{path}: extends: more than 8 files stand on each other; is it a circle?")
        here = None if below is None else here.parent / str(below)
    return merged(path, layers, overrides)


def _line(error: pydantic.ValidationError) -> str:
    """The first problem of the bench section as one line; unknown keys come first."""
    first = sorted(error.errors(), key=lambda d: d["type"] != "extra_forbidden")[0]
    key = ".".join(["bench", *map(str, first["loc"])])
    if first["type"] == "extra_forbidden":
        sections: dict[str, type[Section]] = {"sft": SftSection, "grid": GridSection}
        section = sections.get(str(first["loc"][-2])) if len(first["loc"]) > 1 else None
        known = (section or BenchSection).model_fields
        return f"unknown key '{key}'{nearest(str(first['loc'][-1]), known)}"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}"
