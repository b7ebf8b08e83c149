"""The one place that leans on TRL 1.16's and transformers' internals.

`TokenRows` is mixed into TRL's trainers: they then read our token rows through our own plan of
batches, and stay off the network. `score` is the fused forward pass that they all share.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from negrl.trainers.batches import GlobalBatches, RowLoader, Rows

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object

SMALL_LOGITS = 1 << 23
"""Numbers in a (B, S, vocabulary) logits tensor that is made in one piece, on a CPU: 32 MB."""


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
    has given its fused LM head: logits exist in tiles only, not as (B, S, vocabulary), except for small
    batches on a CPU (`add_small_head`)."""
    output = model(**inputs, use_cache=False, fused_lm_head=True)
    return Scores(output.log_probs, output.entropy, output.is_top1, output.label_mask)


def add_small_head(model: Any) -> None:
    """Let a CPU model that has TRL's fused head score small batches through its own logits.

    Without Triton the fused head is a loop in Python that runs the projection twice: 14 ms against 1 ms
    for 3,200 tokens and a vocabulary of 24. Up to SMALL_LOGITS numbers the logits are no burden.
    """
    fused = model.forward
    plain = type(model).forward

    @functools.wraps(plain)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        ids = kwargs.get("input_ids")
        small = ids is not None and ids.device.type == "cpu" and ids.numel() * self.config.vocab_size <= SMALL_LOGITS
        if not fused_lm_head or not small or "shift_labels" in kwargs or kwargs.get("output_router_logits"):
            if labels is not None:
                kwargs["labels"] = labels
            return fused(*args, fused_lm_head=fused_lm_head, **kwargs)
        kwargs.pop("num_items_in_batch", None)
        logits = plain(self, *args, **kwargs).logits[:, :-1].float()
        mask, targets = labels[:, 1:] != -100, labels[:, 1:].clamp(min=0)
        every = logits.log_softmax(-1)
        log_probs = every.gather(-1, targets[..., None])[..., 0].masked_fill(~mask, 0)
        with torch.no_grad():
            extra = {
                "entropy": -(every.exp() * every).sum(-1),
                "log_sum_sq_probs": (2 * every).logsumexp(-1),
                "mean_logits": logits.mean(-1),
                "is_top1": every.argmax(-1) == targets,
            }
            extra = {name: value.masked_fill(~mask, 0) for name, value in extra.items()}
        return FusedCausalLMOutput(log_probs=log_probs, label_mask=mask, **extra)

    model.forward = types.MethodType(forward, model)


class TokenRows(Trainer):
    """Mixed in before a TRL trainer. `columns` are the row columns that its collator reads."""

    columns: ClassVar[tuple[str, ...]]
    length_columns: ClassVar[tuple[str, ...]] = ("input_ids",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for model in (self.model, getattr(self, "ref_model", None)):
            # Not what is wrapped already (a sharded reference) and not what PEFT wraps.
            if model is not None and isinstance(vars(model).get("forward"), types.MethodType):
                add_small_head(model)

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

    def floating_point_ops(self, inputs: Any) -> int:
        """The trainer counts all parameters for it at every step (2 ms); nothing here reads it."""
        return 0

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
