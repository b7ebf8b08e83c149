"""The map: cells by hand, pairs that are none, the page and its picture."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

from negrl.bench.sweep import bench
from negrl.bench.sweep.map import BANDS, pairs, write_map
from negrl.bench.sweep.results import read
from negrl.errors import InputError
from tests.bench.run_folder import make

ARMS = {
    "start": {"times": 1, "method": "sft", "tokens": 0},
    "topr_n4": {"times": 2, "method": "topr", "tokens": 100, "n": 4},
    "ours_n4": {"times": 90, "method": "step_advantage", "tokens": 100, "n": 4},
    "topr_n8": {"times": 10, "method": "topr", "tokens": 200, "n": 8},
    "ours_n8": {"times": 10, "method": "step_advantage", "tokens": 220, "n": 8},
    "ours_n9": {"times": 10, "method": "step_advantage", "tokens": 220, "n": 9},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("map"), seeds=5, sizes=(256,), arms=ARMS, shared=False)


def test_the_cells_are_what_plain_arithmetic_gives(folder: Path, tmp_path: Path) -> None:
    write_map([folder], tmp_path / "map", "negrl bench map")
    rows = list(csv.DictReader((tmp_path / "map.csv").open()))
    assert {(r["samples"], r["band"]) for r in rows} == {(n, band) for n in ("4", "8") for band in BANDS}
    counts = pq.read_table(folder / "problems.parquet").to_pylist()
    at = {(c["arm"], c["seed"], c["problem_id"]): c for c in counts if c["size"] == 256}
    begin = {(seed, p): c["correct"] / c["n"] for (arm, seed, p), c in at.items() if arm == "start"}
    for row in rows:
        low, high = BANDS[row["band"]]
        inside = [key for key, share in begin.items() if share <= high and (share > low or low == 0)]
        assert float(row["problems"]) == pytest.approx(len(inside) / 5)
        for column, name, most in (("gap", "correct", 4), ("greedy_gap", "greedy", 1)):
            by_seed = [
                np.mean([
                    (at[f"ours_n{row['samples']}", seed, p][name] - at[f"topr_n{row['samples']}", seed, p][name]) / most
                    for s, p in inside if s == seed
                ])
                for seed in range(5)
            ]  # fmt: skip
            assert float(row[column]) == pytest.approx(np.mean(by_seed), abs=1e-9)
        assert float(row["low"]) <= float(row["gap"]) <= float(row["high"])
    assert [float(r["low"]) > 0 for r in rows if r["band"] == "all"] == [True, False]  # 90x against 2x; 10x against 10x
    assert {float(r["tokens_ratio"]) for r in rows} == {1.0, 1.1}


def test_the_page_and_its_picture(folder: Path, tmp_path: Path) -> None:
    write_map([folder], tmp_path / "map", "negrl bench map a.yaml")
    page = (tmp_path / "map.md").read_text()
    assert "Over all held-out problems 1 of 2 cells lie wholly above 0 at T=1" in page
    assert "hardest quarter of the cells by band (1 of 6" in page and "| chain | 5 | 256 | 1 | 4 | hard |" in page
    assert "Their tokens are **not** equal" in page  # 200 against 220 a problem
    assert imread(tmp_path / "map.png").std() > 0.02


def test_the_command_on_the_page_can_be_given_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "main", lambda *args: 0)
    said: list[str] = []
    overrides = [f"recipe.output_dir={tmp_path}", "bench.seeds=[0]"]
    quick = Path("recipes/bench/quick.yaml")
    assert bench.map_main([quick], overrides, tmp_path / "map", lambda *args: said.append(args[2])) == 0
    assert said == [f"negrl bench map {quick} --set {overrides[0]} --set {overrides[1]} --out {tmp_path / 'map'}"]


def test_a_pair_has_equal_samples(folder: Path, tmp_path: Path) -> None:
    assert [(p.samples, p.ours, p.rival) for p in pairs(read(folder))] == [
        (4, "ours_n4", "topr_n4"),
        (8, "ours_n8", "topr_n8"),
    ]
    alone = make(tmp_path / "alone", seeds=2, sizes=(256,), arms={k: ARMS[k] for k in ("start", "ours_n9", "topr_n8")})
    with pytest.raises(InputError, match="no arm of step_advantage and of topr with the same size"):
        write_map([alone], tmp_path / "map", "")
    twice = make(tmp_path / "twice", seeds=2, sizes=(256,), arms=ARMS | {"again": ARMS["ours_n8"]})
    with pytest.raises(InputError, match="arms again, ours_n8, topr_n8: more than one pair of 8 samples"):
        write_map([twice], tmp_path / "map", "")
