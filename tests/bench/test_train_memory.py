"""The bench's cells and page; not its figures, but which of two is larger."""

import csv
import itertools
import os

import pytest

from negrl.bench.page import read_csv
from negrl.bench.train import memory as bench
from negrl.bench.train import parts
from negrl.bench.train.memory import HEADS, Measure, page

SHAPE = {**bench.MODEL, "vocab_size": 40_000, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is read from Linux's /proc")


def measured(*cells):
    preload = ["negrl.bench.train.memory", "negrl.trainers.compat", "peft"]
    return [parts.apart(preload, bench.measure, *cell, SHAPE) for cell in cells]


@pytest.mark.slow
def test_all_heads_have_the_same_loss_and_ours_takes_least():
    plain, theirs, ours = measured(*((head, False, False, "float32") for head in HEADS))
    assert ours.loss == pytest.approx(plain.loss, rel=1e-5) and theirs.loss == pytest.approx(plain.loss, rel=1e-5)
    logits = bench.ROWS * bench.LENGTH * SHAPE["vocab_size"] * 4 / 2**20
    assert plain.step_mb > 2 * logits
    assert 0 < ours.step_mb < logits and ours.step_mb < theirs.step_mb  # not even once all logits


@pytest.mark.slow
def test_lora_and_checkpointing_and_bfloat16_train_the_same_model():
    full, small = measured(("negrl", False, False, "float32"), ("negrl", True, True, "bfloat16"))
    assert small.loss == pytest.approx(full.loss, rel=1e-3) and small.step_mb > 0
    assert small.model_mb < 0.7 * full.model_mb  # bfloat16, frozen


def test_the_page_has_every_cell_and_its_ratios(tmp_path, monkeypatch, capsys):
    megabytes = {"plain": 800.0, "TRL": 400.0, "negrl": 100.0}

    def measure(head, checkpointing, lora, dtype, shape):
        return Measure(head, checkpointing, lora, dtype, 50.0, megabytes[head] - 10 * checkpointing - 20 * lora, 11.0)

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "apart", lambda _, work, *args: work(*args))
    found = bench.main(tmp_path / "out")
    assert len(found) == 24
    text = (tmp_path / "out.md").read_text()
    assert text == capsys.readouterr().out
    assert "| all | float32 | off | 50 | 800 | 400 | 100 | 8.0x | 4.0x |" in text
    assert "100 to 90 MB where all weights are trained, 80 to 70 MB with LoRA" in text
    assert "800 to 70 MB, 11.4x" in text
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [r["head"] for r in rows] == list(HEADS) * 8
    assert len({tuple(r.values())[:4] for r in rows}) == 24
    assert [Measure(**row) for row in read_csv(tmp_path / "out.csv", bench.COLUMNS)] == found


def test_a_head_that_scores_something_else_is_seen():
    cells = itertools.product((False, True), ("float32", "bfloat16"), (False, True), HEADS)
    found = [Measure(h, c, lo, d, 1.0, 2.0, 11.0 if h != "negrl" else 11.11) for lo, d, c, h in cells]
    assert "by at most 1e-02 of themselves" in page(found, bench.MODEL)
