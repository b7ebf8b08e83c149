"""What a sweep leaves in its run folder: the columns of its files, how they are read, and what does not fit together.

points.csv, problems.parquet, costs.json and bench.yaml must be there; grid.csv only where SFT chose its settings,
trials.csv only where arms did.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from negrl.bench.page import Column, a_flag, a_number, a_share, a_whole, read_csv, text_of, to_csv
from negrl.bench.stats import censored, seed_interval
from negrl.bench.sweep.curve import Sample, difference, resample
from negrl.errors import InputError, nearest
from negrl.evaluate.metrics import pass_at_k
from negrl.recipe.read import read_mapping

POINTS = (
    Column("arm"), Column("method"), Column("rounds", a_number), Column("size", a_whole),
    Column("seed", a_whole), Column("pass_at_1", a_share), Column("pass_at_k", a_share),
    Column("k", a_number), Column("greedy", a_share), Column("spurious_share", a_share),
    Column("mass_before", a_number), Column("mass_after", a_number),
    Column("generated_tokens", a_number), Column("label_tokens", a_number),
    Column("train_seconds", a_number), Column("seconds", a_number), Column("samples_n", a_number),
    Column("learning_rate", a_number), Column("epochs", a_number), Column("guard"), Column("note"),
    Column("verified", a_share, optional=True), Column("maj_at_k", a_share, optional=True),
    Column("best_temperature", a_number, optional=True), Column("at_best", a_share, optional=True),
    Column("beyond", a_share, optional=True),
)  # fmt: skip
"""points.csv: a row for each point; a cell is empty where its column has no meaning. `verified`: samples with the right
answer and no wrong step. `maj_at_k`: the majority of the k samples is right. `at_best`: pass@1 at `best_temperature`.
`beyond`: pass@1 at T=1 on the problems of `bench.beyond`. The last five are missing in older files."""
GRID = (
    Column("size", a_whole), Column("seed", a_whole), Column("learning_rate", a_number),
    Column("epochs", a_number), Column("validation_pass_at_1", a_number),
    Column("validation_pass_at_k", a_number), Column("validation_greedy", a_number),
    Column("chosen", a_flag), Column("chosen_k", a_flag), Column("chosen_greedy", a_flag),
)  # fmt: skip
"""grid.csv: SFT's trainings. `chosen`: the best on the validation problems by pass@1 at T=1; `chosen_k`: by pass@k;
`chosen_greedy`: at T=0."""
TRIALS = (
    Column("arm"), Column("size", a_whole), Column("seed", a_whole), Column("settings"),
    Column("validation_pass_at_1", a_number), Column("validation_greedy", a_number),
    Column("train_seconds", a_number), Column("chosen", a_flag),
)  # fmt: skip
"""trials.csv: the trainings of arms with `tune`. `chosen`: the best on the validation problems by pass@1 at T=1."""
COUNTS = ("n", "correct", "greedy", "correct_k")
"""problems.parquet, after arm, size, seed and problem_id: samples, right ones, whether the answer at T=0 is right (1 or
0), right ones behind pass@k."""
SFT, START, BASE, CONTROL = "sft", "start", "base", "control"
MEASURES = ("pass_at_1", "pass_at_k", "greedy")
"""What problems.parquet has per problem: the share of right samples at T=1, pass@k, the answer at T=0."""
_ROUNDED = 2e-3
"""points.csv and problems.parquet may differ by this much."""


@dataclass(frozen=True, slots=True)
class Result:
    """One row of points.csv. In `number` NaN stands for an empty cell."""

    arm: str
    method: str
    size: int
    seed: int
    guard: str
    note: str
    number: dict[str, float]

    @property
    def rounds(self) -> int:
        return 1 if math.isnan(self.number["rounds"]) else int(self.number["rounds"])

    @property
    def name(self) -> str:
        return f"arm {self.arm!r}, size {self.size}, seed {self.seed}"


@dataclass
class Found:
    """A whole run folder. `fell`: points without a pass@1. `by`: the points' errors by measure; the problems are
    drawn alike for all. `rates`: by measure, float64 [points, problems], NaN where a point did not see the problem.
    `samples`: of the T=1 evaluation, per problem; `k`: of pass@k. `table`: points.csv as it stands, the fallen points
    last."""

    points: list[Result]
    fell: list[Result]
    by: dict[str, Sample]
    rates: dict[str, np.ndarray]
    k: int
    problems: int
    shared: bool
    samples: float
    grid: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    costs: dict[str, Any]
    bench: dict[str, Any]
    bench_text: str
    table: bytes
    _at: dict[tuple[str, int], list[Result]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for point in self.points:
            self._at.setdefault((point.arm, point.size), []).append(point)

    @property
    def sample(self) -> Sample:
        """Of pass@1 at T=1."""
        return self.by["pass_at_1"]

    def cell(self, arm: str, size: int) -> list[Result]:
        """The points of an arm at a size, one per seed, by seed; none where it was not measured."""
        return sorted(self._at.get((arm, size), []), key=lambda p: p.seed)

    def arms(self) -> list[str]:
        """As they stand in the file."""
        return list(dict.fromkeys(p.arm for p in self.points))

    def sizes(self, arm: str) -> list[int]:
        return sorted(n for a, n in self._at if a == arm)

    def numbers(self, arm: str, size: int, column: str) -> list[float]:
        return [x for p in self.cell(arm, size) if (x := p.number[column]) == x]

    def mean(self, arm: str, size: int, column: str) -> float:
        """Over the seeds that have the number; NaN where none has."""
        values = self.numbers(arm, size, column)
        return float(np.mean(values)) if values else math.nan

    def bounds(self, arm: str, size: int, column: str) -> tuple[float, float]:
        """95% interval of the mean: of MEASURES over problems and seeds, of the rest over seeds; NaN for fewer than
        two of these."""
        if column in self.by:
            low, high = censored(self.by[column].cell(arm, size, [p.seed for p in self.cell(arm, size)])[1])
            return 1 - high, 1 - low
        return seed_interval(self.numbers(arm, size, column))

    def with_bounds(self, arm: str, size: int, column: str) -> tuple[float, tuple[float, float]]:
        """A share's mean over seeds with its interval, which is cut to [0, 1]."""
        low, high = self.bounds(arm, size, column)
        return self.mean(arm, size, column), (max(low, 0.0), min(high, 1.0))

    def mass_ratio(self, arm: str, size: int) -> float:
        """The probability of wrong steps after training over that before; NaN where either is unknown."""
        before, after = (self.mean(arm, size, f"mass_{when}") for when in ("before", "after"))
        return after / before if before > 0 else math.nan

    def gap(self, first: tuple[str, int], second: tuple[str, int]) -> tuple[float, float, float] | None:
        """The error of one (arm, size) minus that of another with its interval, over the seeds that both have; None
        without one."""
        if seeds := sorted({*self.sample.seeds(*first)} & {*self.sample.seeds(*second)}):
            return difference(self.sample.cell(*first, seeds), self.sample.cell(*second, seeds))
        return None

    def seeds(self) -> list[int]:
        return sorted({p.seed for p in self.points})

    def is_control(self, arm: str) -> bool:
        """Learns from shuffled labels, by name or by the bench file."""
        settings = (self.bench.get("bench") or {}).get("arms") or {}
        one = settings.get(arm) if isinstance(settings, dict) else None
        return arm == CONTROL or (isinstance(one, dict) and bool(one.get("shuffle_labels")))


def read(folder: Path, draws: int = 2000) -> Found:
    """Read a run folder and draw its evaluation problems again.

    Raises:
        InputError: a file is missing, has other columns, or the files are not of one run.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder; `negrl bench` makes it")
    file, grid, trials = (folder / name for name in ("points.csv", "grid.csv", "trials.csv"))
    rows, as_it_stands = read_csv(file, POINTS), read_csv(file, [Column(c.name, optional=c.optional) for c in POINTS])
    if nameless := next((i for i, row in enumerate(rows, start=2) if not row["arm"]), None):
        raise InputError(f"{file}, line {nameless}: the arm has no name")
    numbers = [c.name for c in POINTS if c.parse is not str]
    every = [
        Result(**{c: row[c] for c in ("arm", "method", "size", "seed", "guard", "note")},
               number={c: row[c] for c in numbers})
        for row in rows
    ]  # fmt: skip
    here = [not math.isnan(p.number["pass_at_1"]) for p in every]
    points = [p for p, measured in zip(every, here, strict=True) if measured]
    if not points:
        raise InputError(f"{file}: no row has a pass_at_1: nothing was measured")
    keys = [(p.arm, p.size, p.seed) for p in points]
    if double := next((k for i, k in enumerate(keys) if k in keys[:i]), None):
        raise InputError(f"{file}: two rows for arm {double[0]!r}, size {double[1]}, seed {double[2]}")
    bench_text, bench = text_of(folder / "bench.yaml"), read_mapping(folder / "bench.yaml", "bench file")
    if "recipe" not in bench:
        raise InputError(f"{folder / 'bench.yaml'}: expected a bench file with the keys recipe and bench")
    rates, k, samples = _rates(folder / "problems.parquet", points)
    seen = [frozenset(np.flatnonzero(~np.isnan(r)).tolist()) for r in rates["pass_at_1"]]
    # The measured points first; sorted() keeps their order.
    table = [row for _, row in sorted(zip(here, as_it_stands, strict=True), key=lambda pair: not pair[0])]
    return Found(
        points=points, fell=[p for p, measured in zip(every, here, strict=True) if not measured],
        by={name: resample(keys, rate, draws) for name, rate in rates.items()}, rates=rates, k=k,
        problems=round(np.mean([len(s) for s in seen])), shared=len(set(seen)) == 1, samples=samples,
        grid=read_csv(grid, GRID) if grid.is_file() else [],
        trials=read_csv(trials, TRIALS) if trials.is_file() else [], costs=_json(folder / "costs.json"),
        bench=bench, bench_text=bench_text, table=to_csv(POINTS, table),
    )  # fmt: skip


def _rates(path: Path, points: Sequence[Result]) -> tuple[dict[str, np.ndarray], int, float]:
    """By measure, how right each problem is, float64 [points, problems] in [0, 1], NaN where a point did not see it;
    the k of pass@k (the fewest samples of a problem); the mean number of samples."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: missing; the bench writes it")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0][:80]})") from None
    wanted = ("arm", "size", "seed", "problem_id", *COUNTS)
    if missing := [c for c in wanted if c not in table.column_names]:
        near = nearest(missing[0], table.column_names)
        raise InputError(f"{path}: no column {missing[0]!r}{near}; run the bench again (finished stages are kept)")
    columns = {c: table.column(c).to_pylist() for c in wanted}
    ids = sorted(set(columns["problem_id"]))
    column, row = {p: i for i, p in enumerate(ids)}, {(p.arm, p.size, p.seed): i for i, p in enumerate(points)}
    counts = np.full((4, len(points), len(ids)), np.nan)
    for arm, size, seed, problem, n, correct, greedy, at_k in zip(*columns.values(), strict=True):
        if (i := row.get((arm, size or 0, seed or 0))) is not None:
            for right in (correct, at_k):
                if not (n and right is not None and 0 <= right <= n):
                    raise InputError(f"{path}: {right} of {n} samples right ({arm}, size {size}, problem {problem})")
            if greedy not in (0, 1):
                raise InputError(f"{path}: greedy must be 0 or 1, not {greedy} ({arm}, size {size}, problem {problem})")
            counts[:, i, column[problem]] = n, correct, greedy, at_k
    if empty := next((p for p, c in zip(points, counts[0], strict=True) if np.isnan(c).all()), None):
        raise InputError(f"{path}: no rows for {empty.name}, which points.csv has")
    k = int(np.nanmin(counts[0]))
    rates = dict(zip(MEASURES, (counts[1] / counts[0], _pass_at_k(counts[0], counts[3], k), counts[2]), strict=True))
    for measure, rate in rates.items():
        for point, mean in zip(points, np.nanmean(rate, axis=1), strict=True):
            if abs(float(mean) - point.number[measure]) > _ROUNDED:  # not where the cell is empty
                raise InputError(
                    f"{path}: {measure} of {point.name} is {mean:.4f}, but {point.number[measure]:.4f} in "
                    "points.csv: the files are not of one run"
                )
    return rates, k, float(np.nanmean(counts[0]))


def _pass_at_k(n: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """The unbiased estimator, elementwise; NaN where n is."""
    out = np.full(n.shape, np.nan)
    seen = ~np.isnan(n)
    pairs, which = np.unique(np.stack([n[seen], right[seen]]).astype(int), axis=1, return_inverse=True)
    out[seen] = np.array([pass_at_k(a, c, k) for a, c in pairs.T.tolist()])[which.ravel()]
    return out


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text_of(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected an object with hardware, planned and taken")
    return found
