"""A process reward model: transformers' token-classification model, one number per token, trained with binary
cross-entropy against the values at the ends of the prompt and of the steps. (TRL dropped its PRM trainer.)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Trainer, TrainingArguments

from negrl.trainers.batches import pad
from negrl.trainers.compat import TokenRows
from negrl.trainers.sft import padding_id

NO_TARGET = -1.0


class StepValueCollator:
    """Pads `StepValueRow` columns: input_ids and attention_mask (B, S) int64, `targets` (B, S) float32 in
    [0, 1], NO_TARGET between them (and everywhere in a filler)."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        targets = [np.full(len(r["input_ids"]), NO_TARGET, dtype=np.float32) for r in rows]
        for line, row in zip(targets, rows, strict=True):
            if "filler" not in row:
                line[np.asarray(row["positions"])] = row["values"]
        return {
            "input_ids": pad([r["input_ids"] for r in rows], self.pad_id, np.int64),
            "attention_mask": pad([np.ones(len(r["input_ids"]), dtype=np.int64) for r in rows], 0, np.int64),
            "targets": pad(targets, NO_TARGET, np.float32),
        }


def value_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of -(v log s(z) + (1 - v) log(1 - s(z))) over the targets.

    Args:
        logits: (B, S) float, z at every token.
        targets: (B, S) float, v in [0, 1]; NO_TARGET where there is none.
    """
    known = targets != NO_TARGET
    per_token = F.binary_cross_entropy_with_logits(logits.float(), targets.clamp(min=0), reduction="none")
    return torch.where(known, per_token, 0.0).sum()


class StepValueTrainer(TokenRows, Trainer):
    """Loss: `value_loss` summed over the global batch / its number of targets. Also logged: `value/error`,
    the mean distance from target to prediction, and `value/accuracy`, the share on the same side of 1/2."""

    columns: ClassVar[tuple[str, ...]] = ("input_ids", "positions", "values")

    def __init__(self, *, args: TrainingArguments, processing_class: Any, options: Any = None, **kwargs: Any):
        self.options = options
        super().__init__(
            args=args,
            processing_class=processing_class,
            data_collator=StepValueCollator(padding_id(processing_class)),
            **kwargs,
        )
        self.model_accepts_loss_kwargs = True  # the loss divides by the global batch's targets itself
        self._seen = torch.zeros(3, dtype=torch.float64, device=self.args.device)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Tensor:
        """Targets of the global batch, over all processes and accumulation steps."""
        targets = sum((batch["targets"] != NO_TARGET).sum() for batch in batch_samples)
        return self.accelerator.reduce(torch.as_tensor(targets, device=device), "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        targets = inputs["targets"]
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        logits = outputs.logits[..., 0]
        count = (targets != NO_TARGET).sum() if num_items_in_batch is None else num_items_in_batch
        # The count covers all processes, and DDP averages over them.
        loss = value_loss(logits, targets) / count * self.accelerator.num_processes
        with torch.no_grad():
            known = targets != NO_TARGET
            wanted, given = targets[known], logits[known].float().sigmoid()
            same = ((wanted > 0.5) == (given > 0.5)).sum()
            self._seen += torch.stack([(wanted - given).abs().sum(), same, known.sum()]).double()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the metrics since the last log, over all processes."""
        error, same, count = self.accelerator.reduce(self._seen.clone(), "sum").tolist()
        if count:
            logs.update({"value/error": error / count, "value/accuracy": same / count})
            self._seen.zero_()
        super().log(logs, *args, **kwargs)
