"""Tapered off-policy REINFORCE (Le Roux et al. 2025, arXiv:2503.14286): right responses are raised as in SFT,
wrong ones lowered with weight min(1, pi/mu) of the whole response, so that the objective stays bounded however far
the policy has moved away from the one that sampled them."""

from pydantic import Field

from negrl.methods.nsr import OutcomeOptions
from negrl.methods.spec import Method, in_training


class ToprOptions(OutcomeOptions):
    positive_weight: float = Field(1.0, ge=0, le=1)
    """The weight of right responses."""
    taper: bool = in_training(True)
    """Multiply wrong responses by min(1, pi/mu) of the whole response; false: plain off-policy REINFORCE."""


METHOD = Method(
    name="topr",
    view="outcome",
    config="sft",
    trainer="negrl.trainers.step_advantage:StepAdvantageTrainer",
    needs=frozenset({"traces"}),
    options=ToprOptions,
    defaults={"learning_rate": 1e-6},
    own_loss=True,
)
