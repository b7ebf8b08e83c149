"""Negative-aware fine-tuning (NFT, Chen et al. 2025, arXiv:2505.18116): supervised learning on both sides. A right
response is raised as in SFT. A wrong one raises the likelihood of the *implicit negative policy*: what is left of the
sampler when the model, taken as the policy of its right answers, is subtracted at the prompt's pass rate. Near the
sampler, right responses weigh 1 - r and wrong ones -r in the gradient, so each prompt is its own baseline."""

from typing import Literal

from pydantic import Field

from negrl.methods.spec import Method, SharedPrefixes, in_training


class NftOptions(SharedPrefixes):
    rate_bound: float = Field(0.02, gt=0, lt=0.5)
    """A prompt's pass rate is cut to [this, 1 - this]. Prompts whose responses are all right or all wrong are left
    out."""
    negative_weight: float = in_training(1.0, ge=0)
    """Multiplies the loss of wrong responses. 0: right ones only."""
    lowest: float = in_training(1.0, gt=0)
    """epsilon: the implicit negative policy's ratio is kept at or above it, straight-through. 1 (as released) keeps the
    gradient of a token small that the model now writes more often than the sampler did."""
    prompt_weight: Literal["failures", "odds", "equal"] = in_training("failures")
    """By the prompt's pass rate r. failures: 1 - r (as released). odds: sqrt((1 - r) / r), which is GRPO's weighting
    near the sampler. equal: 1."""


METHOD = Method(
    name="nft",
    view="pass_rate",
    config="sft",
    trainer="negrl.trainers.nft:NftTrainer",
    needs=frozenset({"traces"}),
    options=NftOptions,
    defaults={"learning_rate": 1e-6},
    own_loss=True,
)
