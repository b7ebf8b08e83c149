"""The one place that depends on the internals of TRL 1.16 and transformers.

`TokenRows` is mixed into TRL's trainers: they then read our token rows through our own plan of
batches, and stay off the network. `score` is the fused forward pass that they all share, row by row or,
where the batch has a `prefix_tree`, each distinct token once.
"""

from __future__ import annotations

import functools
import logging
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from negrl.trainers.batches import GlobalBatches, RowLoader, Rows
from negrl.trainers.head import OUTPUTS, plain_head, tiled_scores
from negrl.trainers.tree_attention import enable, model_inputs, multiple

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object

logger = logging.getLogger(__name__)

SMALL_LOGITS = 1 << 20
"""Numbers in a tile of logits on a CPU: 4 MB. 0: TRL's fused head there too."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Each (B, S-1), 0 where the label is -100: log p of the next token, the entropy of the
    distribution it was scored under, whether the token was the likeliest; and the mask itself."""

    log_probs: Tensor
    entropy: Tensor | None
    top1: Tensor | None
    mask: Tensor


def score(model: Any, inputs: Mapping[str, Any]) -> Scores:
    """Score `inputs` (input_ids, attention_mask, labels, each (B, S); on the tree `prefix_tree` of these
    rows where there is one) with a model that a TRL trainer has given its fused LM head: logits exist in
    tiles only, never as (B, S, vocabulary)."""
    names = [n for n in ("input_ids", "attention_mask", "labels", "prefix_tree") if n in inputs]
    output = model(**{n: inputs[n] for n in names}, use_cache=False, fused_lm_head=True)
    return Scores(output.log_probs, output.entropy, output.is_top1, output.label_mask)


def add_small_head(model: Any) -> None:
    """Let a model that has TRL's fused head score on a `prefix_tree`, and on a CPU with our own tiles."""
    fused = model.forward

    @functools.wraps(type(model).forward)
    def forward(
        self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, prefix_tree: Any = None, **kwargs: Any
    ) -> Any:
        ids = kwargs.get("input_ids")
        routed = kwargs.get("output_router_logits") or getattr(self.config, "output_router_logits", False)
        if not fused_lm_head or ids is None or "shift_labels" in kwargs or routed:
            if labels is not None:
                kwargs["labels"] = labels
            return fused(*args, fused_lm_head=fused_lm_head, **kwargs)
        tree = prefix_tree.to(ids.device) if prefix_tree is not None and self.can_share_prefixes else None
        mask = labels[:, 1:] != -100
        if SMALL_LOGITS and (head := plain_head(self)) is not None:
            kwargs.pop("num_items_in_batch", None)
            if tree is None:
                hidden = self.base_model(*args, **kwargs).last_hidden_state[:, :-1][mask]
            else:
                hidden = self.base_model(**model_inputs(tree)).last_hidden_state[0]
            targets = labels[:, 1:][mask] if tree is None else tree.targets
            found = tiled_scores(hidden, head.weight, targets, SMALL_LOGITS)
        elif tree is None:
            return fused(*args, fused_lm_head=True, labels=labels, **kwargs)
        else:
            output = fused(fused_lm_head=True, shift_labels=tree.targets[None], **model_inputs(tree))
            found = {name: output[name][0] for name in OUTPUTS if output.get(name) is not None}
        if tree is not None:
            fields = {name: tree.spread(value) for name, value in found.items()}
        else:
            fields = {name: value.new_zeros(mask.shape).masked_scatter(mask, value) for name, value in found.items()}
        return FusedCausalLMOutput(label_mask=mask, **fields)

    model.forward = types.MethodType(forward, model)
    model.can_share_prefixes = False


class TokenRows(Trainer):
    """Mixed in before a TRL trainer. `columns` are the row columns that its collator reads."""

    columns: ClassVar[tuple[str, ...]]
    length_columns: ClassVar[tuple[str, ...]] = ("input_ids",)

    def __init__(self, *args: Any, **kwargs: Any):
        self._ready = False
        self._shared = [0, 0]
        super().__init__(*args, **kwargs)
        self.prepare_scoring()

    def prepare_scoring(self) -> None:
        """Once: the models score small batches their own way, and trees where the collator makes them."""
        if self._ready:
            return
        self._ready = True
        whole = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        for model in (self.model, getattr(self, "ref_model", None)):
            model = model.get_base_model() if isinstance(model, PeftModel) else model
            # Not what is wrapped already (a sharded reference).
            if model is None or not isinstance(vars(model).get("forward"), types.MethodType):
                continue
            add_small_head(model)
            collator: Any = self.data_collator
            if getattr(collator, "shares", False):
                if reason := unfit(self.model) or enable(model, probe=whole):
                    collator.shares = False
                    logger.warning(f"prefixes are not shared in {type(model).__name__}: {reason}")
                else:
                    model.can_share_prefixes = True
                    collator.tree_multiple = multiple(self.args.device)

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
            groups=problems(self.train_dataset) if shares_prefixes(getattr(self, "options", None)) else None,
        )

    def floating_point_ops(self, inputs: Any) -> int:
        """The trainer counts all parameters for it at every step (2 ms); nothing here reads it."""
        return 0

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        tree = inputs.get("prefix_tree")
        if getattr(self.data_collator, "shares", False):
            count = tree.tokens if tree is not None else int(inputs["attention_mask"].sum())
            self._shared[0] += count
            self._shared[1] += tree.nodes if tree is not None else count
        loss = super().training_step(model, inputs, *args, **kwargs)
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

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds how many tokens of rows were run as one since the last log (of this process)."""
        if self._shared[1]:
            logs["tokens_per_unique"] = self._shared[0] / self._shared[1]
            self._shared = [0, 0]
        super().log(logs, *args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """TRL writes one beside every checkpoint; ours comes from the report."""

    def _send_telemetry(self) -> None:
        """TRL pings the hub here."""


def shares_prefixes(options: Any) -> bool:
    """Does the recipe ask for it? (Methods with nothing to share have no such option.)"""
    return bool(getattr(options, "share_prefixes", False))


def problems(dataset: Any) -> np.ndarray | None:
    """Which problem each row is of, as `rows.training_columns` numbers them; (rows,) int64."""
    table = dataset.data.table
    return table.column("problem").to_numpy().astype(np.int64) if "problem" in table.column_names else None


def unfit(model: Any) -> str | None:
    """Why a PEFT model's rows can't share their prefixes, or None."""
    if isinstance(model, PeftModel) and any(c.is_prompt_learning for c in model.peft_config.values()):
        return "its adapter puts virtual tokens before every row"
    return None


def _lengths(dataset: Any, column: str) -> Any:
    import pyarrow.compute as pc

    return pc.list_value_length(dataset.data.table.column(column)).to_numpy().astype("int64")
