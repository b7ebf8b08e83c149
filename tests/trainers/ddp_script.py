"""Run by test_distributed in two processes: trains every case, each process calling `fit`."""

import sys
from pathlib import Path

from negrl.errors import InputError
from negrl.methods import METHODS
from negrl.policy import PolicySection
from negrl.records import AdvantageRow, PreferenceRow, SftRow
from negrl.trainers.distributed import check_processes
from negrl.trainers.fit import Training, fit
from tests.trainers.helpers import advantage_rows, pair_rows, sft_rows


def cases():
    mixed = advantage_rows(33)
    for row in mixed[::3]:  # a third of the traces came without logprobs
        row.logprobs.clear()
    # 33 rows in global batches of 8: an epoch's last batch holds one row, the other process a filler.
    return {
        "sft": (sft_rows(33), SftRow, {}),
        "dpo": (pair_rows(33), PreferenceRow, {}),
        "step_advantage": (mixed, AdvantageRow, {"anchor": 0.05, "kl": 0.1}),
    }


def train(model: str, out: Path, rows_per_process: int) -> None:
    for name, (rows, row_type, options) in cases().items():
        fields = {
            "learning_rate": 1e-3,
            "per_device_train_batch_size": rows_per_process,
            "num_train_epochs": 2,
            "logging_steps": 1,
            **options,
        }
        fit(Training(METHODS[name], fields, PolicySection(model=model), model), rows, row_type, out / name)


def train_nothing(model: str, out: Path) -> None:
    """5 rows fill no global batch of 8."""
    fields = {"per_device_train_batch_size": 4, "dataloader_drop_last": True}
    try:
        fit(Training(METHODS["sft"], fields, PolicySection(model=model), model), sft_rows(5), SftRow, out)
    except InputError as error:
        print(f"refused: {error}", flush=True)


if __name__ == "__main__":
    check_processes(int(sys.argv[3]))
    train(sys.argv[1], Path(sys.argv[2]), 8 // int(sys.argv[3]))
    train_nothing(sys.argv[1], Path(sys.argv[2]) / "nothing")
