"""Reads what a bench over (arm, size, seed) points left in its run folder, and refuses what does not fit together.

points.csv, problems.parquet, costs.json and bench.yaml must be there; grid.csv only where SFT chose its settings.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from negrl.bench.efficiency_stats import Sample, interval, resample, seed_interval
from negrl.errors import InputError, nearest

NUMBERS = (
    "rounds", "size", "seed", "pass_at_1", "pass_at_k", "k", "greedy", "spurious_share", "mass_before", "mass_after",
    "generated_tokens", "label_tokens", "train_seconds", "seconds", "samples_n", "learning_rate", "epochs",
)  # fmt: skip
COLUMNS = ("arm", "method", *NUMBERS, "guard", "note")
GRID = (
    "size", "seed", "learning_rate", "epochs", "validation_pass_at_1", "validation_pass_at_k", "validation_greedy",
    "chosen", "chosen_k", "chosen_greedy",
)  # fmt: skip
SFT, START, BASE, CONTROL = "sft", "start", "base", "control"
MEASURES = ("pass_at_1", "pass_at_k", "greedy")
"""What problems.parquet has per problem: the share of right samples at T=1, pass@k, the answer at T=0."""
_ROUNDED = 2e-3
"""points.csv and problems.parquet may differ by this much."""


@dataclass(frozen=True, slots=True)
class Point:
    """One row of points.csv. `number` has NaN where a cell is empty; `cells` is the row as it stands."""

    arm: str
    method: str
    size: int
    seed: int
    guard: str
    note: str
    number: dict[str, float]
    cells: dict[str, str]

    @property
    def rounds(self) -> int:
        return int(self.number["rounds"]) if self.number["rounds"] == self.number["rounds"] else 1


@dataclass(frozen=True, slots=True)
class GridRow:
    """A training of SFT's grid. `chosen`: the best on the validation problems by pass@1 at T=1; `chosen_k`: by
    pass@k; `chosen_greedy`: at T=0."""

    size: int
    seed: int
    learning_rate: float
    epochs: float
    validation: float
    validation_k: float
    validation_greedy: float
    chosen: bool
    chosen_k: bool
    chosen_greedy: bool


@dataclass
class Found:
    """A whole run folder. `fell`: points without a pass@1. `by`: the points' errors by measure; the problems are
    drawn alike for all. `samples`: of the T=1 evaluation, per problem; `k`: of pass@k."""

    points: list[Point]
    fell: list[Point]
    by: dict[str, Sample]
    k: int
    problems: int
    shared: bool
    samples: float
    grid: list[GridRow]
    costs: dict[str, Any]
    bench: dict[str, Any]
    _at: dict[tuple[str, int], list[Point]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for point in self.points:
            self._at.setdefault((point.arm, point.size), []).append(point)

    @property
    def sample(self) -> Sample:
        """Of pass@1 at T=1."""
        return self.by["pass_at_1"]

    def cell(self, arm: str, size: int) -> list[Point]:
        """The points of an arm at a size, one per seed, by seed; none where it was not measured."""
        return sorted(self._at.get((arm, size), []), key=lambda p: p.seed)

    def arms(self) -> list[str]:
        """As they stand in the file."""
        return list(dict.fromkeys(p.arm for p in self.points))

    def sizes(self, arm: str) -> list[int]:
        return sorted(n for a, n in self._at if a == arm)

    def mean(self, arm: str, size: int, column: str) -> float:
        """Over the seeds that have the number; NaN where none has."""
        values = self.numbers(arm, size, column)
        return float(np.mean(values)) if values else math.nan

    def numbers(self, arm: str, size: int, column: str) -> list[float]:
        return [x for p in self.cell(arm, size) if (x := p.number[column]) == x]

    def bounds(self, arm: str, size: int, column: str) -> tuple[float, float]:
        """95% interval of the mean: of MEASURES over problems and seeds, of the rest over seeds; NaN for fewer than
        two of these."""
        if column in self.by:
            low, high = interval(self.by[column].cell(arm, size, [p.seed for p in self.cell(arm, size)])[1])
            return 1 - high, 1 - low
        return seed_interval(self.numbers(arm, size, column))

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
    rows = [_point(folder / "points.csv", i, row) for i, row in _table(folder / "points.csv", COLUMNS)]
    points = [p for p in rows if p.number["pass_at_1"] == p.number["pass_at_1"]]
    fell = [p for p in rows if p not in points]
    if not points:
        raise InputError(f"{folder / 'points.csv'}: no row has a pass_at_1: nothing was measured")
    keys = [(p.arm, p.size, p.seed) for p in points]
    if double := next((k for i, k in enumerate(keys) if k in keys[:i]), None):
        raise InputError(f"{folder / 'points.csv'}: two rows for arm {double[0]!r}, size {double[1]}, seed {double[2]}")
    rates, k, samples = _rates(folder / "problems.parquet", points)
    seen = [frozenset(np.flatnonzero(~np.isnan(r)).tolist()) for r in rates["pass_at_1"]]
    grid = folder / "grid.csv"
    return Found(
        points=points, fell=fell, by={name: resample(keys, rate, draws) for name, rate in rates.items()}, k=k,
        problems=round(np.mean([len(s) for s in seen])), shared=len(set(seen)) == 1, samples=samples,
        grid=[_grid(grid, i, row) for i, row in _table(grid, GRID)] if grid.is_file() else [],
        costs=_json(folder / "costs.json"), bench=_yaml(folder / "bench.yaml"),
    )  # fmt: skip


def _table(path: Path, columns: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise InputError(f"{path}: missing; the bench's runner writes it")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason})") from None
    reader = csv.DictReader(text.splitlines())
    heads = list(reader.fieldnames or [])
    if missing := [c for c in columns if c not in heads]:
        raise InputError(f"{path}: no column {missing[0]!r}{nearest(missing[0], heads)}")
    return [(i, {k: v or "" for k, v in row.items() if k}) for i, row in enumerate(reader, start=2)]


def _number(path: Path, line: int, column: str, text: str) -> float:
    if not text.strip():
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path}, line {line}: {column} must be a number or empty, not {text[:40]!r}") from None


def _whole(path: Path, line: int, column: str, text: str) -> int:
    value = _number(path, line, column, text)
    return 0 if value != value else int(value)


def _point(path: Path, line: int, row: dict[str, str]) -> Point:
    number = {c: _number(path, line, c, row[c]) for c in NUMBERS}
    for share in ("pass_at_1", "pass_at_k", "greedy", "spurious_share"):
        if not (number[share] != number[share] or 0 <= number[share] <= 1):
            raise InputError(f"{path}, line {line}: {share} must lie between 0 and 1, not {row[share]}")
    if not row["arm"]:
        raise InputError(f"{path}, line {line}: the arm has no name")
    size, seed = (_whole(path, line, c, row[c]) for c in ("size", "seed"))
    return Point(row["arm"], row["method"], size, seed, row["guard"], row["note"], number, row)


def _grid(path: Path, line: int, row: dict[str, str]) -> GridRow:
    size, seed = (_whole(path, line, c, row[c]) for c in ("size", "seed"))
    rate, epochs, right, at_k, greedy = (_number(path, line, c, row[c]) for c in GRID[2:7])
    chosen = [row[c].strip().lower() in ("true", "1", "yes") for c in GRID[7:]]
    return GridRow(size, seed, rate, epochs, right, at_k, greedy, *chosen)


def _rates(path: Path, points: Sequence[Point]) -> tuple[dict[str, np.ndarray], int, float]:
    """By measure, how right each problem is, float64 [points, problems] in [0, 1], NaN where a point did not see it;
    the k of pass@k (the fewest samples of a problem); the mean number of samples."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"{path}: missing; the bench's runner writes it")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0][:80]})") from None
    wanted = ("arm", "size", "seed", "problem_id", "n", "correct", "greedy", "correct_k")
    if table.column_names == list(wanted[:6]):
        raise InputError(f"{path}: no column 'greedy': an older negrl wrote it; run the bench again (stages are kept)")
    if missing := [c for c in wanted if c not in table.column_names]:
        raise InputError(f"{path}: no column {missing[0]!r}{nearest(missing[0], table.column_names)}")
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
        raise InputError(f"{path}: no rows for {_name(empty)}, which points.csv has")
    k = int(np.nanmin(counts[0]))
    rates = dict(zip(MEASURES, (counts[1] / counts[0], _pass_at_k(counts[0], counts[3], k), counts[2]), strict=True))
    for measure, rate in rates.items():
        for point, mean in zip(points, np.nanmean(rate, axis=1), strict=True):
            if abs(float(mean) - point.number[measure]) > _ROUNDED:  # not where the cell is empty
                raise InputError(
                    f"{path}: {measure} of {_name(point)} is {mean:.4f}, but {point.number[measure]:.4f} in "
                    "points.csv: the files are not of one run"
                )
    return rates, k, float(np.nanmean(counts[0]))


def _name(point: Point) -> str:
    return f"arm {point.arm!r}, size {point.size}, seed {point.seed}"


def _pass_at_k(n: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """The unbiased estimator, elementwise; NaN where n is."""
    from negrl.evaluate.metrics import pass_at_k

    out = np.full(n.shape, np.nan)
    seen = ~np.isnan(n)
    pairs, which = np.unique(np.stack([n[seen], right[seen]]).astype(int), axis=1, return_inverse=True)
    out[seen] = np.array([pass_at_k(a, c, k) for a, c in pairs.T.tolist()])[which.ravel()]
    return out


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: missing; the bench's runner writes it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected an object with hardware, planned and taken")
    return found


def _yaml(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    if not path.is_file():
        raise InputError(f"{path}: missing; the bench's runner writes it")
    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, OSError) as error:  # a bare word is an OSError
        raise InputError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict) or "recipe" not in found:
        raise InputError(f"{path}: expected a bench file with the keys recipe and bench")
    return {str(k): v for k, v in found.items()}
