"""Negative-sample reinforcement (Zhu et al. 2025, arXiv:2506.01347): lower whole wrong responses and
touch nothing else. Their probability goes to whatever else the policy writes, so it stays diverse; but nothing
keeps right responses up, and without the taper nothing stops the fall: take few steps, at low rates."""

from pydantic import Field

from negrl.methods.spec import Method, added, in_training
from negrl.methods.step_advantage import AdvantageOptions


class OutcomeOptions(AdvantageOptions):
    """For methods that weigh whole responses by their verdict: all tokens get +positive_weight or -1."""

    positive_weight: float = Field(0.0, ge=0, le=1)
    """lambda_+: the weight of right responses. 0 leaves them out."""
    one_sided: bool = True
    """Also use problems whose decided responses are all right or all wrong; false drops them (Reinforce-Rej,
    Xiong et al. 2025, arXiv:2504.11343: all-wrong problems do harm)."""
    spare_shared: bool = added(False)
    """Do not lower the tokens that a wrong response shares with a right one to the same problem, from the first on:
    what both wrote is not what went wrong."""
    taper: bool = in_training(False)
    """Multiply wrong responses by min(1, pi/mu) of the whole response: one that the policy no longer
    writes is not pushed further down."""
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
