"""Negative-sample reinforcement (Zhu et al. 2025, arXiv:2506.01347): lower the wrong responses, whole, and
touch nothing else. Probability flows to whatever else the policy writes, so diversity holds; but nothing
holds on to what is right, and without the taper nothing stops the fall: few steps, low rates."""

from pydantic import Field

from negrl.methods.spec import Method, in_training
from negrl.methods.step_advantage import StepAdvantageOptions


class OutcomeOptions(StepAdvantageOptions):
    """Of the methods that weigh whole responses by their verdict: +positive_weight or -1 for all their tokens."""

    positive_weight: float = Field(0.0, ge=0, le=1)
    """lambda_+: the weight of right responses. 0: they are left out."""
    one_sided: bool = True
    """Also take problems of which all decided responses are right, or all wrong; false drops them (Reinforce-Rej,
    Xiong et al. 2025, arXiv:2504.11343: all-wrong problems do harm)."""
    taper: bool = in_training(False)
    """Multiply wrong responses by min(1, pi/mu) of the whole response: one that is no longer written is pushed
    no further."""
    anchor: float = Field(0.0, ge=0)
    """alpha: NLL on all tokens of right responses."""


METHOD = Method(
    name="nsr",
    view="outcome",
    config="sft",
    trainer="negrl.trainers.step_advantage:StepAdvantageTrainer",
    needs=frozenset({"traces"}),
    options=OutcomeOptions,
    defaults={"learning_rate": 1e-6},
    own_loss=True,
)
