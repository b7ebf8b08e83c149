"""A bench file: an ordinary recipe, and what of it is compared over sizes, seeds and methods.

extends: chain.yaml   optional: another bench file beside this one, which this one stands on
recipe: ...           the body of a recipe; every point of the bench is a run of it
bench: ...            `BenchSection`
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from negrl.errors import nearest
from negrl.options import Section
from negrl.recipe import Recipe, TrainSection

Choice = tuple[tuple[str, Any], ...]
"""Settings of a training that are tried: (key, value) by key."""
REFERENCES = ("base", "start", "sft")
"""Points that a bench makes besides its arms."""


class ArmSection(TrainSection):
    """A recipe's train section, and how the bench treats the arm. A guard that trips is a result here: unless
    `guards` say otherwise, the best weights are kept, evaluated, and the row says so."""

    equal_tokens_to: str | None = None
    """Another arm: `sample.n` is chosen so that this arm generates as many tokens, that arm's labels included."""
    shuffle_labels: bool = False
    """The control: `label.shuffle`."""
    sample: dict[str, Any] = Field(default_factory=dict)
    """Fields on top of the recipe's `sample`; null takes one away."""
    label: dict[str, Any] = Field(default_factory=dict)
    """Fields on top of the recipe's `label`; null takes one away."""
    tune: dict[str, list[float | int | str | bool | None]] = Field(default_factory=dict)
    """Settings of the training to choose from, in every combination, on validation problems: pass@1 at T=1, mean over
    `bench.tune_seeds`. What is chosen holds for all seeds of a size."""

    @property
    def train(self) -> dict[str, Any]:
        """The section as it stands in a recipe."""
        return self.model_dump(exclude=_BENCH_KEYS, exclude_unset=True)

    @property
    def choices(self) -> list[Choice]:
        """The combinations of `tune`; none without it."""
        names = list(self.tune)
        return [tuple(zip(names, values, strict=True)) for values in product(*self.tune.values())] if names else []


_BENCH_KEYS = {"equal_tokens_to", "shuffle_labels", "sample", "label", "tune"}
"""Of an arm: not of its train section."""


class GridSection(Section):
    learning_rate: list[float] = Field(min_length=1)
    num_train_epochs: list[int] = Field(min_length=1)


class SftSection(Section):
    """The rival: SFT from the base model at every size, with the best settings of a grid of its own."""

    sizes: list[int] = Field(min_length=1)
    """Training problems, all of one stream: a larger set contains the smaller ones."""
    grid: GridSection
    train: dict[str, Any] = Field(default_factory=dict)
    """Fields on top of `policy.start`'s."""
    rows_at_most: int | None = Field(None, ge=1)
    """Leave out the grid's trainings of more than size x epochs rows (never those of the fewest epochs)."""

    def choices(self, size: int) -> list[Choice]:
        """The learning rates and epochs to try at a size."""
        epochs = sorted(set(self.grid.num_train_epochs))
        kept = [e for e in epochs if e == epochs[0] or self.rows_at_most is None or size * e <= self.rows_at_most]
        rates = sorted(set(self.grid.learning_rate))
        return [(("learning_rate", rate), ("num_train_epochs", e)) for rate in rates for e in kept]


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
    validation: int = Field(500, ge=1)
    """Problems that settings are chosen on: of the training stream, after those of the largest size."""
    tune_seeds: list[int] | None = Field(None, min_length=1)
    """Seeds whose validation problems choose the settings of arms with `tune`. Default: all of `seeds`."""
    temperatures: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    """Besides 0 and 1: the one with the highest pass@1 on validation problems is each arm's best temperature. Empty:
    don't look for it."""
    beyond: dict[str, Any] = Field(default_factory=dict)
    """Fields on top of the recipe's sections (`{problems: {...}, sample: {...}}`) that give other held-out problems, as
    longer ones than training has: one more measure of each arm."""
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
            if arm.budget is not None:
                raise ValueError(f"arms.{name}.equal_tokens_to: its budget decides the tokens; leave one of them out")
        for name, arm in self.live.items():
            if empty := [key for key, values in arm.tune.items() if not values]:
                raise ValueError(f"arms.{name}.tune.{empty[0]}: expected values to choose from, got none")
        if unknown := sorted({*(self.tune_seeds or [])} - {*self.seeds}):
            raise ValueError(f"tune_seeds: {unknown[0]} is none of seeds {self.seeds}")
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


class BenchFile(Section):
    """A bench file on top of what it extends."""

    recipe: dict[str, Any]
    bench: BenchSection


@dataclass(frozen=True)
class Bench:
    """A checked bench file. `body` is the recipe's YAML as plain data, overrides applied."""

    body: dict[str, Any]
    plan: BenchSection
    recipe: Recipe

    @property
    def folder(self) -> Path:
        return Path(self.recipe.output_dir)
