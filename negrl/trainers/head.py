"""log p of given tokens through an LM head on a CPU: logits exist only one tile at a time, small enough for the
cache.

TRL's fused head has no kernel for CPUs: it takes twice as long there, with tiles of 512 MB. On a GPU use TRL's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

OUTPUTS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
AT_LEAST = 64
"""The fewest tokens per tile: with fewer the projection spends its time reading the weights."""
_CHANGED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
"""Config fields of models that transform their logits."""


def plain_head(model: Any) -> nn.Linear | None:
    """The LM head of the model if its logits are just a projection of the hidden states and its whole weight (not a
    shard) is on this CPU; else None."""
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None or type(head.weight) not in (nn.Parameter, Tensor):
        return None
    if head.weight.device.type != "cpu" or head.weight.dim() != 2 or hasattr(head.weight, "ds_id"):
        return None
    return None if any(getattr(config, name, None) is not None for name in _CHANGED) else head


def tiled_scores(hidden: Tensor, weight: Tensor, targets: Tensor, tile: int) -> dict[str, Tensor]:
    """Scores of `targets` under softmax(hidden @ weight.T), each (P,), under the names in OUTPUTS.

    Only `log_probs` carries a gradient. Under autocast, the projection runs in autocast's dtype and all else in
    float32.

    Args:
        hidden: (P, H) float. weight: (V, H) float. targets: (P,) int64.
        tile: number of logits in a tile; a tile never has fewer than AT_LEAST tokens, whatever the vocabulary.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    with torch.autocast(kind, enabled=False):
        return dict(zip(OUTPUTS, _Tiled.apply(hidden, weight, targets, tile, dtype), strict=True))


class _Tiled(torch.autograd.Function):
    """Keeps the log of each token's normalizer; backward computes the tile again, unless there was only one."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, tile: int, dtype: Any) -> Any:  # type: ignore[override]
        size = max(tile // len(weight), AT_LEAST)
        low, head = hidden.to(dtype), weight.to(dtype)
        out = {name: hidden.new_empty(len(hidden), dtype=torch.float32) for name in (*OUTPUTS[:4], "lse")}
        out["is_top1"] = torch.empty_like(targets, dtype=torch.bool)
        kept = None
        for start in range(0, len(hidden), size):
            at = slice(start, start + size)
            logits = (low[at] @ head.T).float()
            best, first = logits.max(-1)
            probs = (logits - best[:, None]).exp_()
            total = probs.sum(-1)
            lse = best + total.log()
            probs /= total[:, None]
            out["lse"][at] = lse
            out["log_probs"][at] = logits.gather(1, targets[at, None])[:, 0] - lse
            out["entropy"][at] = lse - torch.linalg.vecdot(probs, logits)
            out["log_sum_sq_probs"][at] = torch.linalg.vecdot(probs, probs).log()
            out["mean_logits"][at] = logits.mean(-1)
            out["is_top1"][at] = first == targets[at]
            kept = probs
        ctx.save_for_backward(hidden, weight, targets, out.pop("lse"), kept if len(hidden) <= size else None)
        ctx.size, ctx.dtype = size, dtype
        ctx.mark_non_differentiable(*(out[name] for name in OUTPUTS[1:]))
        return tuple(out[name] for name in OUTPUTS)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:  # type: ignore[override]
        hidden, weight, targets, lse, kept = ctx.saved_tensors
        low, head = hidden.to(ctx.dtype), weight.to(ctx.dtype)
        to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for start in range(0, len(hidden), ctx.size):
            at = slice(start, start + ctx.size)
            # d log p / d logits = onehot - p
            probs = (low[at] @ head.T).float().sub_(lse[at, None]).exp_() if kept is None else kept.clone()
            probs *= -grad[at, None]
            probs.scatter_add_(1, targets[at, None], grad[at, None].to(probs.dtype))
            probs = probs.to(ctx.dtype)
            if to_hidden is not None:
                to_hidden[at] = probs @ head
            if to_weight is not None:
                to_weight.addmm_(probs.T.float(), low[at].float())
        return to_hidden, to_weight.to(weight.dtype) if to_weight is not None else None, None, None, None
