"""A killed training goes on where it was, and ends where it would have ended."""

import json
import shutil

import pytest

from negrl.trainers.checkpoints import TimedCheckpoints, is_whole, last_checkpoint
from tests import processes
from tests.trainers.helpers import advantage_rows, pair_rows, sft_rows
from tests.trainers.test_fit import difference, run, weights

pytestmark = pytest.mark.slow


class Killed(Exception):
    pass


def kill_at(step):
    def on_step(done, total, metrics):
        if done == step:
            raise Killed

    return on_step


ROWS = {"sft": sft_rows, "dpo": pair_rows, "step_advantage": lambda n: advantage_rows(n, logprob=None)}
# 5 steps per epoch: the kill comes in the middle of the second.
FIELDS = {"num_train_epochs": 3, "save_steps": 4, "save_total_limit": 2, "lr_scheduler_type": "cosine", "kl": 0.1}


def fields(method):
    return {k: v for k, v in FIELDS.items() if k != "kl" or method == "step_advantage"}


def logged(line):
    """A line of the log without what the clock says."""
    return {k: v for k, v in line.items() if not k.endswith(("runtime", "per_second"))}


@pytest.mark.parametrize("method", ["sft", "dpo", "step_advantage"])
def test_interrupted_equals_uninterrupted(method, tiny, tmp_path):
    rows = ROWS[method](36)
    whole = run(method, rows, tiny, tmp_path / "whole", fields(method))
    with pytest.raises(Killed):
        run(method, rows, tiny, tmp_path / "out", fields(method), on_step=kill_at(11))
    assert not (tmp_path / "out" / "model").exists()
    assert last_checkpoint(tmp_path / "out" / "checkpoints").name == "checkpoint-8"
    steps = []
    resumed = run(method, rows, tiny, tmp_path / "out", fields(method), on_step=lambda s, *_: steps.append(s))
    assert steps == list(range(9, 16))
    assert difference(weights(whole.model_path), weights(resumed.model_path)) < 1e-7
    assert resumed.trained_tokens == whole.trained_tokens and resumed.steps == whole.steps
    for a, b in zip(whole.log_history, resumed.log_history, strict=True):
        assert logged(a) == logged(b)
    losses = [line["loss"] for line in whole.log_history if "loss" in line]
    assert whole.log_history[-1]["train_loss"] == pytest.approx(sum(losses) / 15, rel=1e-6)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_half_written_checkpoint_is_skipped(tiny, tmp_path):
    with pytest.raises(Killed):
        run("sft", sft_rows(36), tiny, tmp_path, fields("sft"), on_step=kill_at(11))
    folder = tmp_path / "checkpoints"
    newest, older = folder / "checkpoint-8", folder / "checkpoint-4"
    assert is_whole(newest) and is_whole(older)

    def spoil(name, change):
        copy = tmp_path / "copy" / "checkpoint-8"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(newest, copy)
        change(copy / name)
        return is_whole(copy)

    def truncate(path):
        path.write_bytes(path.read_bytes()[:-100])

    assert spoil("config.json", lambda p: None)
    for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
        assert not spoil(name, truncate)
        assert not spoil(name, lambda p: p.write_bytes(b""))
        assert not spoil(name, lambda p: p.unlink())
    truncate(newest / "optimizer.pt")
    assert last_checkpoint(folder) == older
    steps = []
    run("sft", sft_rows(36), tiny, tmp_path, fields("sft"), on_step=lambda s, *_: steps.append(s))
    assert steps == list(range(5, 16))


def test_checkpoints_of_other_settings_are_not_resumed(tiny, tmp_path):
    with pytest.raises(Killed):
        run("sft", sft_rows(36), tiny, tmp_path, fields("sft"), on_step=kill_at(11))
    steps = []
    other = {**fields("sft"), "learning_rate": 2e-3}
    run("sft", sft_rows(36), tiny, tmp_path, other, on_step=lambda s, *_: steps.append(s))
    assert steps == list(range(1, 16))


TWO = """
import sys
from pathlib import Path
from tests.trainers.helpers import sft_rows
from tests.trainers.test_fit import run
from tests.trainers.test_resume import fields, kill_at
steps = []
step = kill_at(int(sys.argv[2])) if sys.argv[2] != "never" else lambda step, *_: steps.append(step)
for folder in map(Path, sys.argv[3:]):
    run("sft", sft_rows(36), sys.argv[1], folder, fields("sft"), on_step=step)
    print(folder.name, "returned", steps, flush=True)
"""


def test_two_processes_killed_and_resumed(tiny, tmp_path):
    """Two go on as two, and end where one process with their global batch ends that never stopped. One alone, with
    another global batch, starts over; a training that is done stays done."""
    (tmp_path / "two.py").write_text(TWO)
    done = processes.run(tmp_path / "two.py", tiny, 6, tmp_path / "out", processes=2)
    assert done.returncode != 0 and "test_resume.Killed" in done.stderr, done.stderr[-3000:]
    # 3 steps per epoch: the checkpoint is one step into the second.
    assert last_checkpoint(tmp_path / "out" / "checkpoints").name == "checkpoint-4"
    shutil.copytree(tmp_path / "out", tmp_path / "resumed")
    steps = []
    run("sft", sft_rows(36), tiny, tmp_path / "out", fields("sft"), on_step=lambda s, *_: steps.append(s))
    assert steps == list(range(1, 16))
    done = processes.run(tmp_path / "two.py", tiny, "never", tmp_path / "resumed", tmp_path / "out", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed returned [5, 6, 7, 8, 9]" in done.stdout and "out returned [5, 6, 7, 8, 9]" in done.stdout
    one = {**fields("sft"), "per_device_train_batch_size": 16}
    whole = run("sft", sft_rows(36), tiny, tmp_path / "whole", one)
    assert difference(weights(whole.model_path), weights(tmp_path / "resumed" / "model")) < 1e-6
    assert json.loads((tmp_path / "resumed" / "fit.json").read_text())["trained_tokens"] == whole.trained_tokens


def test_without_save_steps_the_clock_saves(tiny, tmp_path, monkeypatch):
    original = TimedCheckpoints.__init__
    monkeypatch.setattr(TimedCheckpoints, "__init__", lambda self: original(self, seconds=0))
    with pytest.raises(Killed):
        run("sft", sft_rows(36), tiny, tmp_path, on_step=kill_at(3))
    state = json.loads((last_checkpoint(tmp_path / "checkpoints") / "trainer_state.json").read_text())
    assert state["global_step"] == 2  # the third step was killed before it was saved
    assert len(list((tmp_path / "checkpoints").glob("checkpoint-*"))) == 1


def test_the_log_has_the_windows_of_an_undisturbed_training(tiny, tmp_path, monkeypatch):
    original = TimedCheckpoints.__init__
    monkeypatch.setattr(TimedCheckpoints, "__init__", lambda self: original(self, seconds=0))
    windows = {"num_train_epochs": 2, "logging_steps": 4}
    whole = run("sft", sft_rows(36), tiny, tmp_path / "whole", windows)
    with pytest.raises(Killed):
        run("sft", sft_rows(36), tiny, tmp_path / "out", windows, on_step=kill_at(7))
    assert last_checkpoint(tmp_path / "out" / "checkpoints").name == "checkpoint-4"
    resumed = run("sft", sft_rows(36), tiny, tmp_path / "out", windows)
    for a, b in zip(whole.log_history, resumed.log_history, strict=True):
        assert logged(a) == logged(b)
