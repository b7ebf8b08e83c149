"""Holds every arm of a sweep against the SFT curve, the main arm against the others, and all arms of a size side by
side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from negrl.bench.stats import censored
from negrl.bench.sweep.curve import (
    KINDS,
    Curve,
    Fit,
    Reading,
    beaten_up_to,
    cost_ratio,
    curve_of,
    difference,
    multiplier,
)
from negrl.bench.sweep.results import BASE, MEASURES, SFT, START, Found
from negrl.errors import InputError

GOAL = 8.0
"""The lower end of the main arm's multiplier, at least."""
MAIN = "step_advantage"
EQUAL = 0.9
"""Another arm has had its chance at equal tokens when it generated at least this share of the main arm's."""


@dataclass(frozen=True, eq=False)
class Compared:
    """An arm at a size. `seeds`: those that SFT has too; the multipliers are over these. `error` and `bounds`: over
    all seeds of the arm. `readings`: by kind of curve, empty without a common seed."""

    arm: str
    size: int
    rounds: int
    control: bool
    seeds: list[int]
    error: float
    bounds: tuple[float, float]
    readings: dict[str, Reading]
    beaten: int | None
    against: dict[int, tuple[float, float, float]]
    """SFT's error at the arm's own size (where SFT has it) and at its largest, minus the arm's, with its interval."""
    tokens: float
    seconds: float
    """The arm's own, and the start policy's at the same size."""
    seconds_ratio: Reading | None


@dataclass(frozen=True)
class Measured:
    """SFT's curve and every arm held against it, by one measure."""

    curve: Curve
    fit: Fit
    fits: Fit
    floor: Fit
    rows: list[Compared]

    def of(self, arm: str) -> list[Compared]:
        return [r for r in self.rows if r.arm == arm]

    def at(self, row: Compared) -> Compared:
        """The row of the same arm and size."""
        return next(r for r in self.rows if (r.arm, r.size) == (row.arm, row.size))


@dataclass(frozen=True)
class Rival:
    """Another arm at the main arm's size: its tokens over the main arm's, its error minus the main arm's."""

    main: str
    arm: str
    size: int
    tokens: float
    error: tuple[float, float, float]

    @property
    def had_its_chance(self) -> bool:
        return self.tokens >= EQUAL


@dataclass(frozen=True)
class Comparison:
    """`by`: by measure; all that is asked for without one is of pass@1 at T=1. `several`: arms of the main arm's
    method with more rounds."""

    found: Found
    by: dict[str, Measured]
    main: str
    several: list[str]
    rivals: list[Rival]

    @property
    def curve(self) -> Curve:
        return self.by["pass_at_1"].curve

    @property
    def rows(self) -> list[Compared]:
        return self.by["pass_at_1"].rows

    def of(self, arm: str) -> list[Compared]:
        return self.by["pass_at_1"].of(arm)

    def word(self, measure: str) -> str:
        """ "T=1", "pass@4", "T=0"."""
        return {"pass_at_1": "T=1", "pass_at_k": f"pass@{self.found.k}", "greedy": "T=0"}[measure]

    def headline(self) -> Compared | None:
        """The main arm at the size where its interval vouches for most; of equals, the largest size."""
        rows = [r for r in self.of(self.main) if "power" in r.readings]
        return max(rows, key=lambda r: (r.readings["power"].at_least, r.size), default=None)


def compare(found: Found) -> Comparison:
    """Read every arm off the SFT curve.

    Raises:
        InputError: SFT was not measured at two sizes or more with a seed in common, or there is nothing beside it.
    """
    sizes = [n for n in found.sizes(SFT) if n > 0]
    shared = sorted(set.intersection(*(set(found.sample.seeds(SFT, n)) for n in sizes))) if sizes else []
    try:
        curves = {name: curve_of(found.by[name], shared) for name in MEASURES if found.k > 1 or name != "pass_at_k"}
    except ValueError:
        raise InputError(
            f"points.csv: the arm {SFT!r} needs two sizes or more that share a seed; it has {sizes or 'no'} sizes and "
            f"shares {shared or 'no'} seeds"
        ) from None
    arms = [a for a in found.arms() if a not in (SFT, BASE) and any(n > 0 for n in found.sizes(a))]
    if not [a for a in arms if a != START]:
        raise InputError("points.csv: there is no arm to hold against SFT")
    by = {name: _measured(found, name, curve, arms) for name, curve in curves.items()}
    rows = by["pass_at_1"].rows
    main = _main(found, rows)
    method = next(p.method for p in found.points if p.arm == main)
    several = [
        a for a in arms if a != main and not found.is_control(a)
        and any(p.arm == a and p.method == method and p.rounds > 1 for p in found.points)
    ]  # fmt: skip
    rivals = [r for name in (main, *several) for r in _rivals(found, rows, name, {main, *several})]
    return Comparison(found, by, main, several, rivals)


def _measured(found: Found, measure: str, curve: Curve, arms: list[str]) -> Measured:
    rows = [_row(found, measure, curve, arm, size) for arm in arms for size in found.sizes(arm) if size > 0]
    (fit, fits), (floor, _) = curve.shapes("power"), curve.shapes("floor")
    assert isinstance(fit, Fit) and isinstance(fits, Fit) and isinstance(floor, Fit)
    return Measured(curve, fit, fits, floor, rows)


def _main(found: Found, rows: list[Compared]) -> str:
    """The arm `step_advantage`, or the first of that method, or the one with the smallest error."""
    real = [r for r in rows if not r.control and r.arm != START] or rows
    methods = {p.arm: p.method for p in found.points}
    named = [r.arm for r in real if r.arm == MAIN] or [r.arm for r in real if methods[r.arm] == MAIN and r.rounds == 1]
    return named[0] if named else min(real, key=lambda r: r.error).arm


def _row(found: Found, measure: str, curve: Curve, arm: str, size: int) -> Compared:
    cell, sample = found.cell(arm, size), found.by[measure]
    error, drawn = sample.cell(arm, size, [p.seed for p in cell])
    own, start = found.mean(arm, size, "seconds"), found.mean(START, size, "seconds")
    seconds = own + (start if start == start and arm != START else 0.0)
    seeds = [p.seed for p in cell if p.seed in curve.seeds]
    readings, beaten, against, ratio = {}, None, {}, None
    if seeds:
        sft = curve if seeds == curve.seeds else curve_of(sample, seeds)  # paired: the same seeds
        paired = sample.cell(arm, size, seeds)
        readings = {kind: multiplier(sft, *paired, size, kind) for kind in KINDS}
        beaten = beaten_up_to(sft, *paired)
        for i in [i for i, n in enumerate(sft.sizes) if n in (size, sft.sizes[-1])]:
            against[sft.sizes[i]] = difference((float(sft.error[i]), sft.drawn[:, i]), paired)
        costs = [found.mean(SFT, n, "seconds") for n in sft.sizes]
        if seconds > 0 and all(c > 0 for c in costs):
            ratio = cost_ratio(sft, costs, *paired, seconds)
    return Compared(
        arm=arm, size=size, rounds=cell[0].rounds, control=found.is_control(arm), seeds=seeds, error=error,
        bounds=censored(drawn), readings=readings, beaten=beaten, against=against,
        tokens=found.mean(arm, size, "generated_tokens"), seconds=seconds, seconds_ratio=ratio,
    )  # fmt: skip


def _rivals(found: Found, rows: list[Compared], main: str, ours: set[str]) -> list[Rival]:
    out = []
    for mine in (r for r in rows if r.arm == main):
        for other in rows:
            if other.arm in (*ours, START) or other.control or other.size != mine.size:
                continue
            gap = found.gap((other.arm, mine.size), (main, mine.size))
            if gap and mine.tokens > 0 and not np.isnan(other.tokens):
                out.append(Rival(main, other.arm, mine.size, other.tokens / mine.tokens, gap))
    return out


@dataclass(frozen=True)
class Standing:
    """An arm at a size among the others: pass@1 at T=1 with its interval, and what it gained over the start policy.
    `tokens` is NaN where nobody counted them."""

    arm: str
    size: int
    rounds: int
    seeds: list[int]
    value: float
    bounds: tuple[float, float]
    gain: tuple[float, float, float] | None
    tokens: float

    @property
    def reference(self) -> bool:
        """A policy that arms start from."""
        return self.arm in (START, BASE)


@dataclass(frozen=True)
class Block:
    """The arms of a size that sampled anew equally often, the best one first. `above` and `even`: those that the best
    one is significantly better than, and the rest. `main`: the arm whose tokens the others' are compared with."""

    rounds: int
    arms: list[Standing]
    above: list[str]
    even: list[str]
    main: Standing | None

    @property
    def name(self) -> str:
        return f"{self.rounds} round{'s' if self.rounds > 1 else ''}"

    @property
    def best(self) -> Standing:
        return self.arms[0]


def standings(found: Found, size: int) -> list[Standing]:
    """All arms at `size` by rounds, then by pass@1, rising; the start and the base policy first."""
    out = []
    for arm in found.arms():
        at = size if found.cell(arm, size) else found.sizes(arm)[0] if arm == BASE else None
        if at is None:
            continue
        cell = found.cell(arm, at)
        seeds = [p.seed for p in cell]
        error, drawn = found.sample.cell(arm, at, seeds)
        low, high = censored(drawn)
        gain = None if arm in (START, BASE) else found.gap((START, size), (arm, size))
        tokens = found.mean(arm, at, "generated_tokens")
        out.append(Standing(arm, at, cell[0].rounds, seeds, 1 - error, (1 - high, 1 - low), gain, tokens))
    return sorted(out, key=lambda r: (not r.reference, r.rounds, r.value))


def blocks(found: Found, table: list[Standing]) -> list[Block]:
    """Arms by how often they sampled anew, without the policies that they start from."""
    out = []
    for rounds in sorted({r.rounds for r in table if not r.reference}):
        arms = [r for r in table if r.rounds == rounds and not r.reference][::-1]
        above: list[str] = []
        even: list[str] = []
        for other in arms[1:]:
            if gap := found.gap((other.arm, other.size), (arms[0].arm, arms[0].size)):
                (above if gap[1] > 0 else even).append(other.arm)
        named = [r for r in arms if r.arm == MAIN] or [r for r in arms if r.arm.startswith(MAIN)][::-1]
        out.append(Block(rounds, arms, above, even, named[0] if named and named[0].tokens > 0 else None))
    return out
