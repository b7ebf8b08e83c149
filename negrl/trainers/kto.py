"""KTO on token rows: TRL's KTOTrainer, its loss unchanged, on rows that are never tokenized or truncated.

TRL pairs each response with its neighbour's prompt to estimate the KL, so it wants the rows in file order and
at least two of them at once. Here the row itself contains another problem's response (`kl_ids`), so any order
will do. The KL is TRL's: the mean over a micro-batch (over all processes), floored at 0. So the loss depends a
little on the micro-batch size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from trl import KTOConfig, KTOTrainer

from negrl.errors import InputError
from negrl.trainers.batches import GlobalBatches, Rows, pad
from negrl.trainers.compat import TokenRows
from negrl.trainers.sft import padding_id

REFERENCE = ("ref_logps", "ref_KL_logps")


class UnaryCollator:
    """Pads `UnaryRow` columns as TRL's own collator does: input_ids, attention_mask and completion_mask, each
    (B, S) int64, the same with `KL_` before them for the KL rows, and label (B,) bool; the reference log-probs
    (B,) float32 where they are known; and `rows`, how many of the B are no fillers."""

    def __init__(self, pad_id: int, multiple: Any = None):
        self.pad_id, self.multiple = pad_id, multiple

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            "label": torch.tensor([bool(r["label"]) for r in rows]),
            "rows": torch.tensor(sum("filler" not in r for r in rows)),
        }
        for prefix, column in (("", "completion_ids"), ("KL_", "kl_ids")):
            both = [(r["prompt_ids"], r[column]) for r in rows]
            attention = [np.ones(len(p) + len(c), dtype=np.int64) for p, c in both]
            completion = [np.repeat(np.array([0, 1]), [len(p), len(c)]) for p, c in both]
            batch[f"{prefix}input_ids"] = pad([np.concatenate(b) for b in both], self.pad_id, np.int64, self.multiple)
            batch[f"{prefix}attention_mask"] = pad(attention, 0, np.int64, self.multiple)
            batch[f"{prefix}completion_mask"] = pad(completion, 0, np.int64, self.multiple)
        for name in REFERENCE:
            if name in rows[0]:
                batch[name] = torch.tensor([float(r[name]) for r in rows])
        return batch


class TokenKtoTrainer(TokenRows, KTOTrainer):
    """Loss: mean of the rows' losses over the global batch."""

    columns: ClassVar[tuple[str, ...]] = ("prompt_ids", "completion_ids", "label", "kl_ids")
    length_columns: ClassVar[tuple[str, ...]] = ("prompt_ids", "completion_ids", "prompt_ids", "kl_ids")

    def __init__(self, *, args: KTOConfig, processing_class: Any, train_dataset: Any, options: Any, **kwargs: Any):
        right = int(sum(train_dataset.data.table.column("label").to_pylist()))
        wrong = len(train_dataset) - right
        if not right or not wrong:
            raise InputError(f"train: kto needs right and wrong responses, there are {right} and {wrong}")
        if options.balance:
            args.desirable_weight, args.undesirable_weight = balanced(right, wrong)
        self.options = options
        super().__init__(
            args=args,
            processing_class=processing_class,
            train_dataset=train_dataset,
            data_collator=UnaryCollator(padding_id(processing_class), args.pad_to_multiple_of),
            **kwargs,
        )

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def rows(self) -> Rows:
        known = (REFERENCE if self.calculate_KL else REFERENCE[:1]) if self.precompute_ref_logps else ()
        return Rows(self.train_dataset, self.columns + known)

    def batches(self) -> GlobalBatches:
        """Shuffled: TRL requires `sequential`, which has no meaning here."""
        plan = super().batches()
        plan.order = "random"
        return plan

    def _precompute_ref_logps(self, *args: Any) -> Any:
        self.prepare_scoring()  # TRL comes here while it is still being made
        return super()._precompute_ref_logps(*args)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        return super().compute_ref_log_probs(model, {k: v for k, v in inputs.items() if k != "rows"})

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Tensor:
        """Rows of the global batch, over all processes and accumulation steps."""
        rows = torch.stack([batch["rows"] for batch in batch_samples]).sum().to(device)
        return self.accelerator.reduce(rows, "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        rows = inputs.pop("rows")
        loss = super().compute_loss(model, inputs, return_outputs=return_outputs)
        if return_outputs or num_items_in_batch is None:
            return loss
        # As in TokenDpoTrainer: right even if the micro-batches hold unequally many rows.
        shares = self.accelerator.num_processes * self.current_gradient_accumulation_steps
        return loss * (rows * shares / num_items_in_batch)


def balanced(right: int, wrong: int) -> tuple[float, float]:
    """Weights of right and wrong rows with which both sides count the same, with a mean weight of 1 (after
    Ethayarajh et al. 2024, eq. 8)."""
    return (right + wrong) / (2 * right), (right + wrong) / (2 * wrong)
