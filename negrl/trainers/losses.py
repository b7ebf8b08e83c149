"""The step-advantage loss: raise the steps that helped, lower the steps that hurt.

Pure functions on tensors; docs/losses.md has the formulas and their sources. B rows of S tokens have S-1 predicted
positions: position t scores token t+1, so row columns are passed as `column[:, 1:]`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TAPERED_BELOW = 0.5
"""A negative step counts as tapered (metric `negative/tapered`) if pi/mu is below this."""


def step_sums(values: Tensor, step_ids: Tensor, mask: Tensor) -> Tensor:
    """Sum `values` over the tokens of each step.

    Args:
        values: (B, S-1) float.
        step_ids: (B, S-1) int64, -1 where a token belongs to no step.
        mask: (B, S-1) bool, the tokens that count.

    Returns:
        (B, K) float with K = largest step id + 1 (at least 1); 0 for a step without tokens.
    """
    inside = mask & (step_ids >= 0)
    count = max(int(step_ids.max()) + 1, 1) if step_ids.numel() else 1
    sums = values.new_zeros(values.shape[0], count)
    return sums.scatter_add(1, step_ids.clamp(min=0), torch.where(inside, values, 0.0))


def taper(log_probs: Tensor, sampler_log_probs: Tensor, step_ids: Tensor, mask: Tensor) -> Tensor:
    """min(1, pi(step) / mu(step)) of each token's whole step, without gradient.

    Args: as in `step_advantage_loss`.

    Returns:
        (B, S-1) float in [0, 1]: the same for all tokens of a step, 1 outside the steps.
    """
    with torch.no_grad():
        log_ratio = step_sums(log_probs - sampler_log_probs, step_ids, mask)
        per_token = log_ratio.clamp(max=0).exp().gather(1, step_ids.clamp(min=0))
        return torch.where(mask & (step_ids >= 0), per_token, 1.0)


def k3(log_probs: Tensor, sampler_log_probs: Tensor) -> Tensor:
    """r - 1 - log r with r = pi/mu, per token (B, S-1): never negative, and for tokens drawn from mu
    its mean is KL(mu || pi). The gradient with respect to log pi is r - 1."""
    log_ratio = log_probs - sampler_log_probs
    return torch.expm1(log_ratio) - log_ratio


def step_lengths(step_ids: Tensor, mask: Tensor) -> Tensor:
    """Trained tokens of each token's step.

    Args:
        step_ids: (B, S-1) int64, -1 where a token belongs to no step.
        mask: (B, S-1) bool, the trained tokens.

    Returns:
        (B, S-1) float32, at least 1 inside a step, 0 for a token that is not trained or belongs to no step.
    """
    inside = mask & (step_ids >= 0)
    per_token = step_sums(inside.float(), step_ids, mask).gather(1, step_ids.clamp(min=0))
    return torch.where(inside, per_token, 0.0)


def count_items(step_ids: Tensor, mask: Tensor, normalize: Literal["token", "step"]) -> Tensor:
    """What a batch adds to the divisor N: its trained tokens, or its steps that have a trained token.

    Args: as in `step_lengths`.

    Returns:
        () int64.
    """
    if normalize == "token":
        return mask.sum()
    return (step_sums(mask.float(), step_ids, mask) > 0).sum()


def unlikeliest(log_probs: Tensor, among: Tensor, share: float) -> Tensor:
    """The least likely tokens of each row (negative-token filtering, Wu et al. 2026, arXiv:2606.17250).

    Args:
        log_probs: (B, S-1) float.
        among: (B, S-1) bool, the tokens to choose from.
        share: in (0, 1]; a row keeps this share of them, rounded up.

    Returns:
        (B, S-1) bool. Of equally likely tokens the earlier one goes first.
    """
    order = log_probs.detach().masked_fill(~among, torch.inf).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)
    # The small number undoes rounding: 0.3 of 10 is 3.
    return among & (rank < (share * among.sum(1, keepdim=True) - 1e-6).ceil())


def step_weights(
    advantages: Tensor,
    tapers: Tensor,
    *,
    form: Literal["signed", "exponential", "positive", "negative"] = "signed",
    negative_weight: float = 1.0,
    clip: float = 1.0,
    baseline: float = 0.0,
    beta: float = 1.0,
    max_weight: float = 20.0,
) -> Tensor:
    """The weight of each token, w of its step. No gradient flows through it.

    signed: A' = A - baseline where A != 0 (AsymRE's delta, arXiv:2506.20520), then min(A', clip) above 0
    and -min(|A'|, clip) * negative_weight * taper below. positive, negative: one side of this, the other 0.
    exponential: min(exp(A / beta), max_weight), never negative (advantage-weighted regression,
    arXiv:1910.00177, as in Setlur et al. 2024, arXiv:2406.14532, eq. 4): a step with A = 0 weighs 1.

    Args:
        advantages: (B, S-1) float, A of the token's step.
        tapers: (B, S-1) float in [0, 1], the factor of negative weights (`taper`, or ones).

    Returns:
        (B, S-1) float.
    """
    if form == "exponential":
        return (advantages / beta).exp().clamp(max=max_weight)
    shifted = torch.where(advantages != 0, advantages - baseline, 0.0)
    size = shifted.abs().clamp(max=clip)
    above = torch.zeros_like(size) if form == "negative" else size
    below = torch.zeros_like(size) if form == "positive" else -size * negative_weight * tapers
    return torch.where(shifted > 0, above, below)


def step_advantage_loss(
    log_probs: Tensor,
    advantages: Tensor,
    sampler_log_probs: Tensor,
    step_ids: Tensor,
    mask: Tensor,
    correct: Tensor,
    *,
    weights: Literal["signed", "exponential", "positive", "negative"] = "signed",
    negative_weight: float = 1.0,
    clip: float = 1.0,
    tapered: bool = True,
    baseline: float = 0.0,
    beta: float = 1.0,
    max_weight: float = 20.0,
    normalize: Literal["token", "step"] = "token",
    anchor: float = 0.0,
    kl: float = 0.0,
    reference_log_probs: Tensor | None = None,
    age: Tensor | None = None,
    taper_old: bool = True,
    negative_tokens: float = 1.0,
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Per-token loss `-w log pi + anchor [correct] (-log pi) + kl k3`, with w from `step_weights` and the
    taper sg(min(1, pi/mu of the step)), or 1 if not `tapered`.

    The caller sums it and divides by `count_items` of the global batch. With `normalize="step"`, each token's loss is
    divided by the number of trained tokens in its step, so that a step counts once, whatever its length; tokens that
    belong to no step have loss 0.

    Rows of earlier rounds were sampled from an older policy. With `taper_old`, all their weights, including positive
    ones, and their anchor are multiplied by the taper (importance weights capped at 1 for both signs, as in V-trace
    with rho-bar = 1, arXiv:1802.01561). The KL to the sampler leaves them out, because it would pull back to the
    older policy.

    Args:
        log_probs: (B, S-1) float, log pi of each token; the only input that carries a gradient.
        advantages: (B, S-1) float, A of the token's step; with 0 the token gets no signed weight.
        sampler_log_probs: (B, S-1) float, log mu of each token when it was sampled.
        step_ids: (B, S-1) int64, the token's step within its row, -1 for none.
        mask: (B, S-1) bool, the trained tokens (label != -100); all others have loss 0.
        correct: (B,) bool, rows whose trained tokens carry the NLL anchor.
        reference_log_probs: (B, S-1) float, the reference of the KL term; None: `sampler_log_probs`.
        age: (B,) int64, how many rounds old a row is; None: all rows are of this round. Adds the metrics
            `old_ratio` (mean taper over steps of old rows, each counted once) and `old_share` (of trained tokens).
        negative_tokens: of a row's lowered tokens only this share, the least likely ones under the sampler, is lowered
            (`unlikeliest`); the divisor still counts all of them.

    Returns:
        The loss (B, S-1), and metrics as (sum, count) scalars without gradient, so that they can be added over batches
        and processes before they are divided.
    """
    old = torch.zeros_like(mask) if age is None else mask & (age > 0)[:, None]
    ones = torch.ones_like(log_probs).detach()
    ratios = taper(log_probs, sampler_log_probs, step_ids, mask) if tapered or age is not None else ones
    kept = torch.where(old, ratios, ones) if taper_old else ones  # the factor of every weight of an old row
    weight = mask * step_weights(
        advantages,
        ratios if tapered else kept,
        form=weights,
        negative_weight=negative_weight,
        clip=clip,
        baseline=baseline,
        beta=beta,
        max_weight=max_weight,
    )
    weight = torch.where(weight > 0, weight * kept, weight)
    if negative_tokens < 1:
        weight = torch.where(unlikeliest(sampler_log_probs, weight < 0, negative_tokens), weight, weight.clamp(min=0))
    anchored = mask & correct[:, None]
    near = mask if reference_log_probs is not None else mask & ~old
    divergence = k3(log_probs, sampler_log_probs if reference_log_probs is None else reference_log_probs)
    loss = -weight * log_probs
    if anchor:
        loss = loss - anchor * torch.where(anchored, kept * log_probs, 0.0)
    if kl:
        loss = loss + kl * torch.where(near, divergence, 0.0)
    if normalize == "step":
        lengths = step_lengths(step_ids, mask)
        loss = torch.where(lengths > 0, loss / lengths.clamp(min=1), 0.0)

    with torch.no_grad():
        positive, negative = mask & (advantages > 0), mask & (advantages < 0)
        # Each step counts once, whatever its length; it is negative if it has a negative token.
        negative_steps = step_sums(negative.to(log_probs.dtype), step_ids, mask) > 0
        log_ratio = step_sums(log_probs - sampler_log_probs, step_ids, mask)
        ratio = log_ratio.clamp(max=0).exp()
        metrics = {
            "positive/logp": _mean(log_probs, positive),
            "negative/logp": _mean(log_probs, negative),
            "positive/share": _mean(positive.to(log_probs.dtype), mask),
            "negative/share": _mean(negative.to(log_probs.dtype), mask),
            "negative/ratio": _mean(ratio, negative_steps),
            "negative/tapered": _mean((ratio < TAPERED_BELOW).to(log_probs.dtype), negative_steps),
            "weight/up": _mean(weight.clamp(min=0), mask),
            "weight/down": _mean(weight.clamp(max=0), mask),
            "kl": _mean(divergence, near),
            "anchor/nll": _mean(-log_probs, anchored),
        }
        if age is not None:
            metrics["old_ratio"] = _mean(ratio, step_sums(old.to(log_probs.dtype), step_ids, mask) > 0)
            metrics["old_share"] = _mean(old.to(log_probs.dtype), mask)
    return loss, metrics


def _mean(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(where, values, 0.0).sum(), where.sum()
