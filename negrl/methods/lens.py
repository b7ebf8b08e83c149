"""Confidence-weighted penalties (LENS, Feng et al. 2025, arXiv:2510.08696, sec. 5.1): a wrong response is penalized the
more, the surer the sampler was of it. So groups without a right answer, whose advantages are all 0 in GRPO, have
something to say, too. The advantages are the paper's; they enter our tapered loss instead of GRPO's clipped one."""

from pydantic import Field

from negrl.methods.spec import Method, in_training
from negrl.methods.step_advantage import AdvantageOptions


class LensOptions(AdvantageOptions):
    negative_groups: float = Field(0.25, ge=0)
    """alpha: the weight of groups without a right answer. 0 leaves them out, as GRPO does."""
    centered: bool = True
    """In those groups, subtract the mean (as in the paper): wrong responses of which the sampler was less sure than of
    the others then rise. false: all of them are lowered."""
    clip: float = in_training(10.0, gt=0)
    """The largest |A|; larger ones are clipped. One right response among n has an advantage of about sqrt(n)."""
    anchor: float = Field(0.0, ge=0)
    """alpha: NLL on all tokens of right responses."""


METHOD = Method(
    name="lens",
    view="confidence",
    config="sft",
    trainer="negrl.trainers.step_advantage:StepAdvantageTrainer",
    needs=frozenset({"traces"}),
    options=LensOptions,
    defaults={"learning_rate": 1e-6},
    own_loss=True,
)
