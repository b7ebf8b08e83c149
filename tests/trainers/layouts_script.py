"""Trainings that test_invariance compares. Run as a script it is what two processes run: each calls `fit`
for every layout of its number of processes, then for the methods that have no layouts to compare."""

from __future__ import annotations

import sys
from pathlib import Path

from negrl.methods import METHODS
from negrl.pipeline.online import RecipeOnline
from negrl.policy import PolicySection
from negrl.records import AdvantageRow, PreferenceRow, PromptRow, SftRow, StepValueRow, UnaryRow
from negrl.trainers.distributed import check_processes, world_size
from negrl.trainers.fit import Training, fit
from tests.trainers.helpers import sft_rows
from tests.trainers.test_methods import unary_rows
from tests.trainers.test_process_reward import value_rows
from tests.trainers.test_step_grpo import ROWS as PROMPTS
from tests.trainers.test_step_grpo import recipe
from tests.trainers.test_tree_training import advantages, pairs

LAYOUTS = {1: [(16, 1), (4, 4)], 2: [(4, 2), (8, 1)]}
"""Processes -> (rows per process, accumulation): a global batch of 16 each."""
STEPS = 20
# 99 rows: an epoch's last batch holds three, uneven shares, one of them a filler. 20 steps: almost three epochs.
ROWS = {
    "step_advantage": (lambda: advantages(25, 4)[:99], AdvantageRow, {"anchor": 0.1, "kl": 0.05}),
    "dpo": (lambda: pairs(25, 4)[:99], PreferenceRow, {}),
    "sft": (lambda: sft_rows(99), SftRow, {}),
}
OTHERS = {
    "kto": (lambda: unary_rows(7, 9), UnaryRow, {}),
    "process_reward": (lambda: value_rows(33), StepValueRow, {}),
}


def train(method: str, rows: list, row_type: type, model: str, out: Path, layout: tuple[int, int], **fields) -> None:
    base = {"learning_rate": 1e-3, "logging_steps": 1, "guards": None}
    base |= {"per_device_train_batch_size": layout[0], "gradient_accumulation_steps": layout[1]}
    fit(Training(METHODS[method], {**base, **fields}, PolicySection(model=model), model), rows, row_type, out)


def train_all(model: str, out: Path) -> None:
    processes = world_size()
    for layout in LAYOUTS[processes]:
        for method, (rows, row_type, fields) in ROWS.items():
            folder = out / f"{layout[0]}x{layout[1]}x{processes}" / method
            train(method, rows(), row_type, model, folder, layout, max_steps=STEPS, **fields)
    for method, (rows, row_type, fields) in OTHERS.items():
        layout = (8 // processes, 1)
        train(method, rows(), row_type, model, out / str(processes) / method, layout, num_train_epochs=2, **fields)


def train_online(model: str, out: Path) -> None:
    out.mkdir(exist_ok=True)
    wanted = recipe(Path(model), out, k=2)
    fields = {"learning_rate": 1e-2, "per_device_train_batch_size": 16, "num_generations": 8, "logging_steps": 1}
    training = Training(METHODS["step_grpo"], {**fields, "max_steps": 2}, wanted.policy, model)
    fit(training, PROMPTS, PromptRow, out / "out", online=RecipeOnline(wanted))


if __name__ == "__main__":
    check_processes(2)
    folder = Path(sys.argv[3])
    train_all(sys.argv[1], folder)
    train_online(sys.argv[2], folder / f"online-{sys.argv[4]}")
