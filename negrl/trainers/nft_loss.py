"""The loss of negative-aware fine-tuning (NFT, Chen et al. 2025, arXiv:2505.18116), as in the authors' released code
(github.com/NVlabs/NFT, dp_actor.py, ratio_type "token"). A pure function on tensors; docs/losses.md has the formula."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

LARGEST_LOG_RATIO = 10.0
"""log(pi / mu) is capped here, as in the released code."""

PromptWeight = Literal["failures", "odds", "equal"]


def prompt_weights(rate: Tensor, kind: PromptWeight) -> Tensor:
    """What a prompt counts, by its pass rate r in (0, 1), any shape: 1 - r, sqrt((1 - r) / r), or 1."""
    if kind == "equal":
        return torch.ones_like(rate)
    return 1 - rate if kind == "failures" else ((1 - rate) / rate).sqrt()


def at_least(values: Tensor, lowest: float) -> Tensor:
    """max(values, lowest), whose gradient is that of `values` everywhere (straight-through)."""
    return values.clamp(min=lowest).detach() + (values - values.detach())


def nft_loss(
    log_probs: Tensor,
    advantages: Tensor,
    sampler_log_probs: Tensor,
    mask: Tensor,
    correct: Tensor,
    *,
    negative_weight: float = 1.0,
    lowest: float = 1.0,
    prompt_weight: PromptWeight = "failures",
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Right responses: -w log R, with R = pi/mu of the token. Wrong ones, by the implicit negative policy:
    -w log max(lowest, (1 - r R) / (1 - r)), the max straight-through. r is the prompt's pass rate, w its weight.

    Args:
        log_probs: (B, S-1) float, log pi of each token; the only input that carries a gradient.
        advantages: (B, S-1) float, the verdict (1 or 0) minus r, with r in (0, 1).
        sampler_log_probs: (B, S-1) float, log mu of each token when it was sampled.
        mask: (B, S-1) bool, the trained tokens; all others have loss 0.
        correct: (B,) bool.

    Returns:
        The loss (B, S-1), and metrics as (sum, count) scalars without gradient.
    """
    right, wrong = mask & correct[:, None], mask & ~correct[:, None]
    rate = torch.where(right, 1 - advantages, torch.where(wrong, -advantages, 0.5))
    log_ratio = (log_probs - sampler_log_probs).clamp(max=LARGEST_LOG_RATIO)
    failing = torch.where(wrong, rate, 0.5)  # never 1, whose gradient would be none, even where it is not used
    implicit = (1 - failing * log_ratio.exp()) / (1 - failing)
    negative = -at_least(implicit, lowest).log()
    weight = prompt_weights(rate, prompt_weight)
    loss = weight * torch.where(right, -log_ratio, torch.where(wrong, negative_weight * negative, 0.0))

    with torch.no_grad():

        def mean(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
            return torch.where(where, values, 0.0).sum(), where.sum()

        kind = log_probs.dtype
        metrics = {
            "positive/logp": mean(log_probs, right),
            "negative/logp": mean(log_probs, wrong),
            "positive/share": mean(right.to(kind), mask),
            "negative/share": mean(wrong.to(kind), mask),
            "negative/ratio": mean(log_ratio.clamp(max=0).exp(), wrong),
            "negative/clipped": mean((implicit < lowest).to(kind), wrong),
        }
    return loss, metrics
