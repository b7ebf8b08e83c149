"""The bench's rows and page; not its times."""

import csv
import os

import pytest

from negrl.bench.train import sides
from negrl.bench.train import throughput as bench
from negrl.bench.train.sides import make_rows
from negrl.bench.train.throughput import Cell, Measure, cells


@pytest.mark.parametrize("branches", bench.BRANCHES)
@pytest.mark.parametrize("share", bench.SHARES)
def test_rows_share_what_the_grid_says_and_no_more(branches, share):
    problems = make_rows(branches, share, 500)
    every = [branch for problem in problems for branch in problem]
    assert len(every) == sides.ROWS and {len(b) for b in every} == {sides.LENGTH}
    distinct = len({tuple(b[: t + 1]) for b in every for t in range(len(b))})
    cell = Cell(*[Measure("SFT", "x", branches, share, [1.0], [1.0], None)] * 2)
    assert sides.ROWS * sides.LENGTH / distinct == pytest.approx(cell.limit, rel=0.01)


def test_pairs_are_the_same_branches():
    problems = make_rows(4, 0.8, 500)
    rows = sides._pairs(problems, known=True)
    branches = [r["prompt_ids"] + r[s] for r in rows for s in ("chosen_ids", "rejected_ids")]
    assert branches == [b for p in problems for b in p]
    assert {len(r["prompt_ids"]) for r in rows} == {round(0.8 * sides.LENGTH)}


def cell(share, ours, theirs, memory=(10.0, 100.0)):
    return Cell(
        Measure("SFT", "negrl", 8, share, [ours], [ours], memory[0]),
        Measure("SFT", "TRL", 8, share, [theirs], [theirs], memory[1]),
    )


def test_goals_that_are_missed_are_named():
    assert cell(0.8, 1.0, 3.0).misses() == []  # 90% of 3.33
    assert cell(0.8, 1.0, 2.5).misses() == ["SFT, 8 branches, 80%: 75% of the limit"]
    assert cell(0.8, 1.0, 3.0, (70.0, 100.0)).misses() == ["SFT, 8 branches, 80%: 30% of the memory saved"]
    assert cell(0.0, 1.1, 1.0).misses() == ["SFT, 8 branches, 0%: slower than TRL (0.91x)"]


@pytest.mark.slow
def test_a_small_run_writes_its_page(tmp_path, monkeypatch, capsys):
    small = {**bench.QUICK_MODEL, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 64}
    small |= {"num_attention_heads": 2}
    monkeypatch.setattr(bench, "QUICK_MODEL", small)
    for name, value in {"LENGTH": 40, "ROWS": 8, "PROMPT": 4}.items():
        monkeypatch.setattr(sides, name, value)
    seen = []
    monkeypatch.setattr(bench, "peak_memory", lambda *case: seen.append(case) or 1.0)
    found = bench.main(tmp_path / "out", quick=True)
    assert len(cells(found)) == 12 and len(seen) == 24
    page = (tmp_path / "out.md").read_text()
    assert page == capsys.readouterr().out and page.count("| 8 | 80% |") == 3
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert len(rows) == 24 and all(float(r["seconds"]) > 0 for r in rows)


@pytest.mark.slow
def test_both_sides_have_the_same_loss_gradient(tmp_path):
    """TRL's DPO and ours on trees: the bench must not compare two different things."""
    from negrl.quiet import quiet

    with quiet():
        both = sides.SIDES["DPO, reference in step"]
        runners = [sides.Runner("DPO, reference in step", side, bench.QUICK_MODEL, tmp_path) for side in both]
    problems = make_rows(4, 0.8, 500)
    losses = [runner.step(runner.rows(problems)) for runner in runners]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert runners[0].trainer.data_collator(runners[0].rows(problems))["prefix_tree"].nodes < 4096 / 2


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is read from Linux's /proc")
def test_memory_is_measured_in_a_process_of_its_own():
    shape = {**bench.QUICK_MODEL, "num_hidden_layers": 1}
    ours, theirs = (
        bench.peak_memory("DPO, reference known", s, shape, 16, 0.95) for s in sides.SIDES["DPO, reference known"]
    )
    assert 0 < ours < theirs
