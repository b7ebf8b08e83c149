"""Weighted REINFORCE on whole responses (W-REINFORCE, Zhu et al. 2025, arXiv:2506.01347): wrong ones with
weight -1, right ones with lambda_+ = 0.1, which preserves pass@k; lambda_+ = 1 sharpens the policy and lowers it."""

from pydantic import Field

from negrl.methods.nsr import OutcomeOptions
from negrl.methods.spec import Method


class PsrNsrOptions(OutcomeOptions):
    positive_weight: float = Field(0.1, ge=0, le=1)
    """lambda_+: the weight of right responses."""


METHOD = Method(
    name="psr_nsr",
    view="outcome",
    config="sft",
    trainer="negrl.trainers.step_advantage:StepAdvantageTrainer",
    needs=frozenset({"traces"}),
    options=PsrNsrOptions,
    defaults={"learning_rate": 1e-6},
    own_loss=True,
)
