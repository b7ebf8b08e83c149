"""SFT (and RFT) on token rows: TRL's SFTTrainer, its loss unchanged, on rows that are never
tokenized, packed or truncated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from trl import SFTConfig, SFTTrainer

from negrl.trainers.batches import pad
from negrl.trainers.compat import TokenRows, shares_prefixes
from negrl.trainers.tree import tree_of


class TokenCollator:
    """Pads `SftRow` columns: input_ids, attention_mask and labels, each (B, S) int64. A filler's
    labels are all -100. With `shares`, adds `prefix_tree` (a TokenTree) where that saves work."""

    tree_multiple = 1

    def __init__(self, pad_id: int, multiple: int | None = None, shares: bool = False):
        self.pad_id, self.multiple, self.shares = pad_id, multiple, shares

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        ones = [np.ones(len(r["input_ids"]), dtype=np.int64) for r in rows]
        labels = [np.full_like(r["labels"], -100) if "filler" in r else r["labels"] for r in rows]
        batch: dict[str, Any] = {
            "input_ids": pad([r["input_ids"] for r in rows], self.pad_id, np.int64, self.multiple),
            "attention_mask": pad(ones, 0, np.int64, self.multiple),
            "labels": pad(labels, -100, np.int64, self.multiple),
        }
        if self.shares:
            ids = [r["input_ids"] for r in rows]
            batch |= tree_of(ids, labels, batch["input_ids"].shape, self.tree_multiple)
        return batch


class TokenSftTrainer(TokenRows, SFTTrainer):
    """Loss: sum of the NLL over the trained tokens of the global batch / their number."""

    columns: ClassVar[tuple[str, ...]] = ("input_ids", "labels")

    def __init__(self, *, args: SFTConfig, processing_class: Any, options: Any = None, **kwargs: Any):
        args.dataset_kwargs = {"skip_prepare_dataset": True}
        self.options = options
        super().__init__(
            args=args,
            processing_class=processing_class,
            data_collator=self.collator(
                padding_id(processing_class), args.pad_to_multiple_of, shares_prefixes(options)
            ),
            **kwargs,
        )

    def collator(self, pad_id: int, multiple: Any, shares: bool) -> Any:
        return TokenCollator(pad_id, multiple, shares)


def padding_id(tokenizer: Any) -> int:
    """Any id will do: padding is masked in the attention and in the loss."""
    candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(i for i in candidates if i is not None)
