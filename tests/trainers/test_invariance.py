"""However a global batch is divided into micro-batches, accumulation and processes, the training is the same.

Two gloo processes are real; they are started once for all cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

from negrl.errors import InputError
from tests import processes
from tests.trainers import layouts_script
from tests.trainers.layouts_script import LAYOUTS, OTHERS, ROWS, STEPS
from tests.trainers.test_step_grpo import model as five  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow

LOSS, NORM, WEIGHTS = 1e-5, 1e-5, 1e-5
"""Largest difference: of a loss, absolute and relative; of a gradient norm, relative; of a weight, absolute."""
NAMES = [f"{rows}x{accumulation}x{n}" for n, layouts in LAYOUTS.items() for rows, accumulation in layouts]


def logs(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def weights(folder: Path) -> dict:
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tiny, five, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("layouts")
    done = processes.run(layouts_script.__file__, tiny, five, out, "two", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    layouts_script.train_all(str(tiny), out)
    return out


def same(one: Path, other: Path, start: Path) -> None:
    a, b = weights(one), weights(other)
    first = weights_of(start)
    moved = max(float((a[k] - first[k]).abs().max()) for k in a if k in first)
    assert max(float((a[k] - b[k]).abs().max()) for k in a) < WEIGHTS < 20 * WEIGHTS < moved
    for x, y in zip(logs(one), logs(other), strict=True):
        assert x["loss"] == pytest.approx(y["loss"], rel=LOSS, abs=LOSS), x["step"]
        assert x["grad_norm"] == pytest.approx(y["grad_norm"], rel=NORM), x["step"]


def weights_of(model: Path) -> dict:
    return load_file(model / "model.safetensors")


@pytest.mark.parametrize("method", ROWS)
@pytest.mark.parametrize("layout", NAMES[1:])
def test_every_layout_trains_the_same(method, layout, trained, tiny):
    one, other = trained / NAMES[0] / method, trained / layout / method
    assert len(logs(one)) == STEPS
    same(one, other, tiny)


@pytest.mark.parametrize("method", ["step_advantage", "dpo"])
def test_the_layouts_shared_their_prefixes(method, trained):
    """Or the test above would not be about trees."""
    for layout in NAMES:
        assert max(line["tokens_per_unique"] for line in logs(trained / layout / method)) > 1.2, layout


@pytest.mark.parametrize("method", OTHERS)
def test_the_other_methods_train_the_same_on_two_processes(method, trained, tiny):
    same(trained / "1" / method, trained / "2" / method, tiny)


def test_online_training_runs_on_two_processes(trained, five):  # noqa: F811
    """Each samples and labels its own part, with seeds of its own: there is no run to equal."""
    folder = trained / "online-two" / "out"
    lines = logs(folder)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)
    assert all(line["positive/share"] > 0 and line["negative/share"] > 0 for line in lines)
    start, end = weights_of(five), weights(folder)
    assert max(float((start[k] - end[k]).abs().max()) for k in start) > 1e-3


def test_online_training_is_refused_with_fsdp(tiny, tmp_path, monkeypatch):
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="step_grpo writes text while it trains, not with FSDP"):
        layouts_script.train_online(str(tiny), tmp_path)
