"""When to save during training, and which checkpoints are complete enough to resume from."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from negrl.policy.folder import safetensors_problem

SECONDS_BETWEEN = 60.0
"""A killed run loses at most about this many seconds of training (when the recipe sets no save_steps)."""
STEPS_BETWEEN_VOTES = 20
"""With several processes rank 0's clock decides, once in this many steps."""


class TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint when the last one is `seconds` old: a short run never pays for one. It waits for the end of
    a logging window, so that a resumed training averages over the same steps in its log as an undisturbed one."""

    def __init__(self, seconds: float = SECONDS_BETWEEN):
        self.seconds = seconds
        self._last = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.world_size > 1 and state.global_step % STEPS_BETWEEN_VOTES:
            return
        if args.logging_strategy == "steps" and state.global_step % max(1, state.logging_steps):
            return
        due = [time.monotonic() - self._last >= self.seconds and state.global_step < state.max_steps]
        if args.world_size > 1:
            broadcast_object_list(due, from_process=0)
        if due[0]:
            control.should_save = True
            self._last = time.monotonic()


class Finite(TrainerCallback):
    """Stops on a gradient norm that is not finite (the trainer itself checks every loss)."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        norm = (logs or {}).get("grad_norm")
        if norm is not None and not math.isfinite(norm):
            raise RuntimeError(
                f"training stopped at step {state.global_step} of {state.max_steps}: the gradient norm is {norm}; "
                f"lower train.learning_rate (now {args.learning_rate:g})"
            )


class Steps(TrainerCallback):
    """Calls `on_step(step, total, latest metrics)` after every optimizer step."""

    def __init__(self, on_step: Callable[[int, int, dict[str, Any]], None]):
        self.on_step = on_step
        self._metrics: dict[str, Any] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self._metrics = dict(logs or {})

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_step(state.global_step, state.max_steps, self._metrics)


def save_shard(folder: Path, step: int, rank: int, tensors: dict[str, Any]) -> None:
    """Tensors of process `rank` that belong to the checkpoint of `step`, kept in `folder` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{step}-{rank}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def load_shard(folder: Path, step: int, rank: int) -> dict[str, Any]:
    """What `save_shard` wrote."""
    return load_file(folder / f"{step}-{rank}.safetensors")


def drop_shards(folder: Path, keep: Callable[[int], bool], rank: int) -> None:
    """Delete this process's tensors (on rank 0 also the JSON) of the steps for which `keep` is false."""
    for path in [*folder.glob(f"*-{rank}.safetensors"), *(folder.glob("*.json") if rank == 0 else ())]:
        if not keep(int(path.stem.split("-")[0])):
            path.unlink()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`, None if there is none."""
    found = sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)
    return next((path for path in found if is_whole(path)), None)


def remove_broken(folder: Path) -> None:
    """Delete the incomplete checkpoints of a killed run."""
    for path in folder.glob("checkpoint-*"):
        if not is_whole(path):
            shutil.rmtree(path)


def is_whole(checkpoint: Path) -> bool:
    """Did the trainer finish writing it? The state, written last, must name the folder's step; the weights and
    the optimizer must be complete files, those of every process where they are sharded."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    if not isinstance(state, dict) or state.get("global_step") != _step(checkpoint):
        return False
    if zero := list(checkpoint.glob("global_step*/*.pt")):  # DeepSpeed
        return (checkpoint / "latest").is_file() and all(map(zipfile.is_zipfile, zero))
    if (checkpoint / "pytorch_model_fsdp_0").is_dir():  # FSDP, sharded
        return all(_shards_are_whole(checkpoint / name) for name in ("pytorch_model_fsdp_0", "optimizer_0"))
    if (checkpoint / "pytorch_model_fsdp.bin").is_file():  # FSDP, gathered
        return all(zipfile.is_zipfile(checkpoint / name) for name in ("pytorch_model_fsdp.bin", "optimizer.bin"))
    weights = list(checkpoint.glob("*.safetensors"))
    optimizer = checkpoint / "optimizer.pt"
    return bool(weights) and not any(map(safetensors_problem, weights)) and zipfile.is_zipfile(optimizer)


def _shards_are_whole(folder: Path) -> bool:
    """A folder of torch.distributed.checkpoint: its list of tensors, written last, says which bytes of which
    process's file each is."""
    from torch.distributed.checkpoint import FileSystemReader

    try:
        pieces = (FileSystemReader(folder).read_metadata().storage_data or {}).values()
        ends = [((folder / piece.relative_path).stat().st_size, piece.offset + piece.length) for piece in pieces]
    except (OSError, EOFError, pickle.UnpicklingError):
        return False
    return bool(ends) and all(size >= end for size, end in ends)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1
