"""FSDP2 on two gloo processes against one process that shards nothing: see fsdp_script, which is started once
for all cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from negrl.trainers.checkpoints import is_whole
from tests import processes
from tests.trainers import fsdp_script
from tests.trainers.helpers import build

pytestmark = pytest.mark.slow

CASES = list(fsdp_script.cases())
LOSS, NORM, WEIGHTS = 1e-5, 1e-4, 2e-5
"""Largest difference: of a loss, absolute and relative; of a gradient norm, relative; of a weight, absolute."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("tied", "untied"):
        build(folder / name, tied=name == "tied")
    return folder


@pytest.fixture(scope="module")
def sharded(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("sharded")
    done = processes.run(fsdp_script.__file__, models, out, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 processes, backend gloo, DistributedType.FSDP" in done.stdout
    return out, done.stdout


def logs(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def weights(folder: Path) -> dict:
    return load_file(folder / "model.safetensors")


def difference(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("name", CASES)
def test_sharded_training_equals_unsharded(name, sharded, models, tmp_path):
    folder = sharded[0] / name
    alone = fsdp_script.train(name, models, tmp_path)
    end, start = weights(alone.model_path), weights(models / fsdp_script.cases()[name][2])
    assert difference(end, weights(folder / "model")) < WEIGHTS < 20 * WEIGHTS < difference(end, start)
    steps = logs(tmp_path)
    assert len(steps) >= 3
    for one, two in zip(steps, logs(folder), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=LOSS, abs=LOSS), one["step"]
        assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=NORM), one["step"]
    shares = name in ("trees", "lora-trees", "dpo", "dpo-lora")
    assert (max(line.get("tokens_per_unique", 0) for line in logs(folder)) > 1.05) == shares or name == "one-loads"
    assert (folder / "adapter").is_dir() == ("lora" in name)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_sharded_checkpoint_is_resumed(name, sharded):
    """In the middle of an epoch; optimizer, schedule and weights of both processes."""
    out = sharded[0] / name
    assert difference(weights(out / "whole" / "model"), weights(out / "resumed" / "model")) < 1e-7
    steps = [line["step"] for line in logs(out / "resumed")]
    assert steps == list(range(1, 9))  # the log of the killed part is part of the checkpoint
    for one, two in zip(logs(out / "whole"), logs(out / "resumed"), strict=True):
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-6)


def test_a_broken_sharded_checkpoint_is_no_checkpoint(sharded, tmp_path):
    whole = sharded[0] / "full" / "checkpoint-6"
    assert is_whole(whole)

    def spoil(name, change):
        copy = tmp_path / "checkpoint-6"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        change(copy / name)
        return is_whole(copy)

    assert spoil("scheduler.pt", lambda path: None)
    for name in ("pytorch_model_fsdp_0/__1_0.distcp", "optimizer_0/__0_0.distcp", "optimizer_0/.metadata"):
        assert not spoil(name, lambda path: path.write_bytes(path.read_bytes()[:-100])), name
        assert not spoil(name, lambda path: path.unlink()), name


def test_weights_on_one_process_are_scored_by_none(sharded):
    lines = [line for line in sharded[1].splitlines() if line.startswith("refused: ")]
    assert len(lines) == 2 and all("fsdp_cpu_ram_efficient_loading" in line for line in lines)
    assert "rows without logprobs" in lines[0] and "dpo scores its reference" in lines[1]
