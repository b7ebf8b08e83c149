"""DPO and step-DPO on token pairs: TRL's DPOTrainer on rows that are never tokenized, so that a step
pair gets no EOS, and its shared prefix counts as prompt and gets no gradient.

The reference is the policy that training starts from; its log-probs are computed once, before the first
step (also of a resumed run, whose checkpoint loads later), and kept beside the checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl import DPOConfig, DPOTrainer

from negrl.trainers.batches import Rows, pad
from negrl.trainers.compat import TokenRows, shares_prefixes
from negrl.trainers.distributed import uneven_gather
from negrl.trainers.sft import padding_id
from negrl.trainers.tree import tree_of

REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


class PairCollator:
    """Pads `PreferenceRow` columns as TRL's own collator does, chosen rows first: input_ids,
    attention_mask and completion_mask, each (2B, S) int64; the reference log-probs (B,) float32 where
    they are known; and `pairs`, how many of the B are not fillers. With `shares`, adds `prefix_tree`
    (TokenTree) where that saves work."""

    tree_multiple = 1

    def __init__(self, pad_id: int, multiple: Any = None, shares: bool = False):
        self.pad_id, self.multiple, self.shares = pad_id, multiple, shares

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        halves = [(r["prompt_ids"], r[side]) for side in ("chosen_ids", "rejected_ids") for r in rows]
        attention = [np.ones(len(p) + len(c), dtype=np.int64) for p, c in halves]
        completion = [np.repeat(np.array([0, 1]), [len(p), len(c)]) for p, c in halves]
        ids = [np.concatenate(h) for h in halves]
        batch: dict[str, Any] = {
            "input_ids": pad(ids, self.pad_id, np.int64, self.multiple),
            "attention_mask": pad(attention, 0, np.int64, self.multiple),
            "completion_mask": pad(completion, 0, np.int64, self.multiple),
            "pairs": torch.tensor(sum("filler" not in r for r in rows)),
        }
        for name in REFERENCE:
            if name in rows[0]:
                batch[name] = torch.tensor([float(r[name]) for r in rows])
        if self.shares:
            labels = [np.where(c, i, -100) for i, c in zip(ids, completion, strict=True)]
            batch |= tree_of(ids, labels, batch["input_ids"].shape, self.tree_multiple)
        return batch


class TokenDpoTrainer(TokenRows, DPOTrainer):
    """Loss: mean of the pairs' losses over the global batch."""

    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    # The prompt is run twice, once with each completion.
    length_columns = ("prompt_ids", "chosen_ids", "prompt_ids", "rejected_ids")

    def __init__(self, *, args: DPOConfig, processing_class: Any, options: Any = None, **kwargs: Any):
        self.options = options
        collator = PairCollator(padding_id(processing_class), args.pad_to_multiple_of, shares_prefixes(options))
        super().__init__(args=args, processing_class=processing_class, data_collator=collator, **kwargs)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def rows(self) -> Rows:
        return Rows(self.train_dataset, self.columns + (REFERENCE if self.precompute_ref_logps else ()))

    def _precompute_ref_logps(self, *args: Any) -> Any:
        self.prepare_scoring()  # TRL calls this from its constructor
        return super()._precompute_ref_logps(*args)

    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        return super().compute_ref_log_probs(model, {k: v for k, v in inputs.items() if k != "pairs"})

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Tensor:
        """Pairs of the global batch, over all processes and accumulation steps."""
        pairs = torch.stack([batch["pairs"] for batch in batch_samples]).sum().to(device)
        return self.accelerator.reduce(pairs, "sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        pairs = inputs.pop("pairs")
        with uneven_gather(self.accelerator, len(inputs["input_ids"]) // 2):  # TRL gathers every pair's rewards
            loss = super().compute_loss(model, inputs, return_outputs=return_outputs)
        if return_outputs or num_items_in_batch is None:
            return loss
        # TRL takes the mean of this micro-batch, the trainer divides by the accumulation steps and DDP
        # by the processes: that is right only if all micro-batches hold equally many pairs.
        shares = self.accelerator.num_processes * self.current_gradient_accumulation_steps
        return loss * (pairs * shares / num_items_in_batch)
