"""The one place that leans on TRL 1.16's and transformers' internals.

`TokenRows` is mixed into TRL's trainers: they then read our token rows through our own plan of
batches, and stay off the network. `score` is the fused forward pass that they all share.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from negrl.trainers.batches import GlobalBatches, RowLoader, Rows

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object


@dataclass(frozen=True, slots=True)
class Scores:
    """Each (B, S-1), 0 where the label is -100: log p of the next token, the entropy of the
    distribution it was scored under, whether the token was the likeliest; and the mask itself."""

    log_probs: Tensor
    entropy: Tensor | None
    top1: Tensor | None
    mask: Tensor


def score(model: Any, inputs: Mapping[str, Tensor]) -> Scores:
    """Score `inputs` (input_ids, attention_mask, labels, each (B, S)) with a model that a TRL trainer
    has given its fused LM head: logits exist in tiles only, never as (B, S, vocabulary)."""
    output = model(**inputs, use_cache=False, fused_lm_head=True)
    return Scores(output.log_probs, output.entropy, output.is_top1, output.label_mask)


class TokenRows(Trainer):
    """Mixed in before a TRL trainer. `columns` are the row columns that its collator reads."""

    columns: ClassVar[tuple[str, ...]]
    length_columns: ClassVar[tuple[str, ...]] = ("input_ids",)

    def get_train_dataloader(self) -> Any:
        return RowLoader(
            self.rows(),
            self.batches(),
            self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def rows(self) -> Rows:
        return Rows(self.train_dataset, self.columns)

    def batches(self) -> GlobalBatches:
        """The plan of this run."""
        args = self.args
        lengths = sum(_lengths(self.train_dataset, c) for c in self.length_columns)
        return GlobalBatches(
            lengths,
            args.per_device_train_batch_size,
            args.gradient_accumulation_steps,
            seed=args.seed if args.data_seed is None else args.data_seed,
            order=str(getattr(args.train_sampling_strategy, "value", args.train_sampling_strategy)),  # type: ignore[arg-type]
            drop_last=args.dataloader_drop_last,
            rank=args.process_index,
            processes=args.world_size,
        )

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            self.stop_not_finite("loss", float(loss))
        return loss

    def stop_not_finite(self, name: str, value: float) -> None:
        """Raises RuntimeError: before the optimizer step, so the last checkpoint is clean."""
        kind = "not a number" if math.isnan(value) else "infinite"
        raise RuntimeError(
            f"training stopped at step {self.state.global_step + 1} of {self.state.max_steps}: the {name} is {kind}; "
            f"lower train.learning_rate (now {self.args.learning_rate:g}) or train.max_grad_norm "
            f"(now {self.args.max_grad_norm:g})"
        )

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL writes one beside every checkpoint; ours comes from the report."""

    def _send_telemetry(self) -> None:
        """TRL pings the hub here."""


def _lengths(dataset: Any, column: str) -> Any:
    import pyarrow.compute as pc

    return pc.list_value_length(dataset.data.table.column(column)).to_numpy().astype("int64")


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, progress bars or info lines of the libraries, unless NEGRL_DEBUG is set."""
    if os.environ.get("NEGRL_DEBUG"):
        yield
        return
    import datasets
    from transformers.utils import logging as transformers_logging

    names = ("trl", "accelerate", "datasets", "torch.distributed", "huggingface_hub")
    levels = {name: logging.getLogger(name).level for name in names}
    verbosity = transformers_logging.get_verbosity()
    bars = datasets.utils.are_progress_bars_disabled()
    tqdm = os.environ.get("TQDM_DISABLE")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.utils.disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
        if not bars:
            datasets.utils.enable_progress_bars()
        if tqdm is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = tqdm
