"""The committed pages say what the committed CSVs say: their figures are made again from the CSVs and compared."""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from negrl.bench import verify
from negrl.bench.labels import free
from negrl.bench.labels.page import tables
from negrl.bench.labels.results import COLUMNS
from negrl.bench.page import between, count, number, percent, read_csv, to_csv
from negrl.bench.stats import seed_interval
from negrl.bench.sweep.report import MULTIPLIERS, reading_of
from negrl.bench.sweep.results import POINTS
from negrl.bench.train import memory, throughput

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SWEEPS = ("sample-efficiency", "sample-efficiency-8", "sample-efficiency-habits")


def text(stem: str) -> str:
    return (RESULTS / f"{stem}.md").read_text()


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of all tables whose head begins so, without what marks an arm."""
    found = []
    for start in [m.start() for m in re.finditer(re.escape(f"| {head}"), page)]:
        for line in page[start:].split("\n\n")[0].splitlines()[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.append([cells[0].strip("*").removesuffix(" (shuffled labels)"), *cells[1:]])
    assert found
    return found


def near(made: str, committed: str) -> None:
    """The same text but for one unit in the last digit of a figure: CSVs are rounded."""
    figure = r"\d+(?:\.\d+)?"
    assert re.sub(figure, "#", made) == re.sub(figure, "#", committed)
    for a, b in zip(re.findall(figure, made), re.findall(figure, committed), strict=True):
        assert abs(float(a) - float(b)) <= 1.001 * 10.0 ** -len(b.partition(".")[2]), (a, b)


def test_label_cost() -> None:
    table = read_csv(RESULTS / "label-cost.csv", COLUMNS)
    assert to_csv(COLUMNS, table) == (RESULTS / "label-cost.csv").read_bytes()
    for name, made in tables(table, ["base", "start", "strong"]).items():
        assert f"### {name}: " in text("label-cost") and made in text("label-cost")


def test_free_labels() -> None:
    table = read_csv(RESULTS / "free-labels.csv", free.COLUMNS)
    assert to_csv(free.COLUMNS, table) == (RESULTS / "free-labels.csv").read_bytes()
    for row, cells in zip(table, rows(text("free-labels"), "wordings of a line"), strict=True):
        made = [between(row[name], (row[f"{name}_low"], row[f"{name}_high"])) for name in ("rmse", "rmse_value")]
        assert cells[0] == str(row["wordings"]) and cells[3:5] == made
        assert [cells[2], *cells[5:]] == [
            number(row["tokens"], 0),
            percent(row["coverage"], digits=0),
            number(row["discount"], 2),
        ]


def test_train_memory() -> None:
    found = [memory.Measure(**row) for row in read_csv(RESULTS / "train-memory.csv", memory.COLUMNS)]
    assert to_csv(memory.COLUMNS, map(asdict, found)) == (RESULTS / "train-memory.csv").read_bytes()
    made = memory.table(found)
    start = text("train-memory").index(made.split("\n")[0])
    near(made, text("train-memory")[start : start + len(made)])


def test_train_throughput() -> None:
    found = throughput.measures(read_csv(RESULTS / "train-throughput.csv", throughput.COLUMNS))
    assert to_csv(throughput.COLUMNS, throughput.rows(found)) == (RESULTS / "train-throughput.csv").read_bytes()
    made = throughput.grid_tables(found)
    start = text("train-throughput").index("## SFT")
    near(made, text("train-throughput")[start : start + len(made)])
    assert not [m for c in throughput.cells(found) for m in c.misses()] and "ll reached" in text("train-throughput")


def test_verify() -> None:
    table = read_csv(RESULTS / "verify.csv", verify.COLUMNS)
    assert to_csv(verify.COLUMNS, table) == (RESULTS / "verify.csv").read_bytes()
    assert verify.differences(table) in text("verify")


@pytest.mark.parametrize("stem", SWEEPS)
def test_multipliers(stem: str) -> None:
    table = read_csv(RESULTS / f"{stem}-multipliers.csv", MULTIPLIERS)
    assert to_csv(MULTIPLIERS, table) == (RESULTS / f"{stem}-multipliers.csv").read_bytes()
    found = {(r["measure"], r["arm"], count(r["size"]), r["curve"]): str(reading_of(r)) for r in table}
    kinds = rows(text(stem), "arm | problems | pass@1 | multiplier")
    measures = rows(text(stem), "arm | problems | T=1")
    assert len(kinds) == len(measures) == len({key[1:3] for key in found})
    for arm, size, _, *cells, _ in kinds:
        assert cells == [found["pass_at_1", arm, size, kind] for kind in ("power", "floor", "isotonic")]
    for arm, size, *cells, no_fit, _, _ in measures:
        assert cells == [found[measure, arm, size, "power"] for measure in ("pass_at_1", "pass_at_k", "greedy")]
        assert no_fit == found["greedy", arm, size, "isotonic"]


def points(stem: str) -> dict[tuple[str, int], dict[str, list[float]]]:
    """(arm, size) -> column -> the numbers of its seeds."""
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in sorted(read_csv(RESULTS / f"{stem}.csv", POINTS), key=lambda row: row["seed"]):
        cell = found.setdefault((row["arm"], row["size"]), {})
        for name, value in row.items():
            if isinstance(value, float) and value == value:
                cell.setdefault(name, []).append(value)
    return found


def mean(cell: dict[str, list[float]], column: str) -> float:
    return float(np.mean(cell[column])) if column in cell else float("nan")


def shares(cell: dict[str, list[float]]) -> str:
    low, high = seed_interval(cell["spurious_share"])
    return percent(mean(cell, "spurious_share"), (low, high))


@pytest.mark.parametrize("stem", SWEEPS)
def test_means_of_a_sweep(stem: str) -> None:
    """Those that need no problems.parquet, which is not committed."""
    found = points(stem)
    for arm, size, tokens, labels, seconds, value, _ in rows(text(stem), "arm | problems | generated tokens"):
        cell = found[arm, int(size.replace(",", ""))]
        assert tokens == count(mean(cell, "generated_tokens")) and value == number(mean(cell, "pass_at_1"))
        assert arm == "sft" or labels == count(mean(cell, "label_tokens"))
        start = found["start", int(size.replace(",", ""))] if arm not in ("sft", "start") else {"seconds": [0.0]}
        assert seconds == count(mean(cell, "seconds") + mean(start, "seconds"))
    for arm, size, share, before, after, at_k, greedy in rows(text(stem), "arm | problems | share"):
        cell = found[arm, 0 if size == "–" else int(size.replace(",", ""))]
        assert share == shares(cell)
        assert [before, after] == [number(mean(cell, f"mass_{when}")) for when in ("before", "after")]
        assert at_k.startswith(number(mean(cell, "pass_at_k"))) and greedy.startswith(number(mean(cell, "greedy")))


def test_means_of_the_methods() -> None:
    found = points("methods")
    heads = rows(text("methods"), "arm | seeds | pass@1, T=1")
    assert {(row[0], 0 if row[0] == "base" else 256) for row in heads} == set(found)
    for arm, seeds, value, _, greedy, at_k, share, mass, tokens, samples, seconds, *_ in heads:
        cell = found[arm, 0 if arm == "base" else 256]
        assert len(cell["pass_at_1"]) == int(seeds) and share == shares(cell)
        for shown, column in ((value, "pass_at_1"), (greedy, "greedy"), (at_k, "pass_at_k")):
            assert shown.startswith(number(mean(cell, column)))
        assert mass == percent(mean(cell, "mass_after") / mean(cell, "mass_before"), digits=0)
        assert [tokens, samples, seconds] == [
            count(mean(cell, c)) for c in ("generated_tokens", "samples_n", "seconds")
        ]
    for arm in ("step_grpo",):  # measured before its tokens were counted
        assert "generated_tokens" not in found[arm, 256] and "–" in text("methods")
