"""The bench's cells and page; not its figures, but which of two is larger."""

import csv
import itertools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from negrl.bench import train_memory as bench
from negrl.bench.train_memory import HEADS, Measure, markdown

SHAPE = {**bench.MODEL, "vocab_size": 40_000, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is read from Linux's /proc")


def measured(*cells):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["negrl.bench.train_memory", "negrl.trainers.compat", "peft"])
    found = []
    for cell in cells:
        with ProcessPoolExecutor(1, context) as pool:
            found.append(pool.submit(bench.measure, *cell, SHAPE).result())
    return found


def test_all_heads_have_the_same_loss_and_ours_takes_least():
    plain, theirs, ours = measured(*((head, False, False, "float32") for head in HEADS))
    assert ours.loss == pytest.approx(plain.loss, rel=1e-5) and theirs.loss == pytest.approx(plain.loss, rel=1e-5)
    logits = bench.ROWS * bench.LENGTH * SHAPE["vocab_size"] * 4 / 2**20
    assert plain.step_mb > 2 * logits
    assert 0 < ours.step_mb < logits and ours.step_mb < theirs.step_mb  # not even once all logits


def test_lora_and_checkpointing_and_bfloat16_train_the_same_model():
    full, small = measured(("negrl", False, False, "float32"), ("negrl", True, True, "bfloat16"))
    assert small.loss == pytest.approx(full.loss, rel=1e-3) and small.step_mb > 0
    assert small.model_mb < 0.7 * full.model_mb  # bfloat16, frozen


def test_the_page_has_every_cell_and_its_ratios(tmp_path, monkeypatch, capsys):
    megabytes = {"plain": 800.0, "TRL": 400.0, "negrl": 100.0}

    def measure(head, checkpointing, lora, dtype, shape):
        return Measure(head, checkpointing, lora, dtype, 50.0, megabytes[head] - 10 * checkpointing - 20 * lora, 11.0)

    class Here:
        """Runs at once, in this process."""

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def submit(self, call, *args):
            found = call(*args)
            return type("Done", (), {"result": lambda self: found})()

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "ProcessPoolExecutor", Here)
    found = bench.main(tmp_path / "out")
    assert len(found) == 24
    page = (tmp_path / "out.md").read_text()
    assert page == capsys.readouterr().out
    assert "| all | float32 | off | 50 | 800 | 400 | 100 | 8.0x | 4.0x |" in page
    assert "100 to 90 MB where all weights are trained, 80 to 70 MB with LoRA" in page
    assert "800 to 70 MB, 11.4x" in page
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [r["head"] for r in rows] == list(HEADS) * 8
    assert len({tuple(r.values())[:4] for r in rows}) == 24


def test_a_head_that_scores_something_else_is_seen():
    cells = itertools.product((False, True), ("float32", "bfloat16"), (False, True), HEADS)
    found = [Measure(h, c, lo, d, 1.0, 2.0, 11.0 if h != "negrl" else 11.11) for lo, d, c, h in cells]
    assert "differ by 1e-02 of themselves" in markdown(found, bench.MODEL)
