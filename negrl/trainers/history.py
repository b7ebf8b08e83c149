"""The log of a resumed training: the same lines as those of an undisturbed one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def go_on_counting(trainer: Any, checkpoint: Path) -> None:
    """Let `num_tokens` go on from the checkpoint's last line. TRL counts from 0 again after a resume."""
    lines = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    counted = [line["num_tokens"] for line in lines if "num_tokens" in line]
    if counted and hasattr(trainer, "_total_train_tokens"):
        trainer._total_train_tokens = int(counted[-1])


def whole(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines, with the last one's `train_loss` as the mean over all logged steps. The trainer's own leaves out what
    was before the resume."""
    windows, before = [], 0
    for line in history:
        if "loss" in line:
            windows.append(line["loss"] * (line["step"] - before))
            before = line["step"]
    mean = {"train_loss": math.fsum(windows) / before} if before else {}
    return [{**line, **mean} if "train_loss" in line else line for line in history]
