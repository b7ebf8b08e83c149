"""Save the good prefix (VPPO, Liu et al. 2026, arXiv:2601.18984): step labels serve only to find the first error of a
wrong response. What stands before it is credited; the error and what follows are penalized, each against the mean of
the problem's responses. Right responses are credited as a whole. Our labels take the place of the paper's process
reward model, and our tapered loss that of GRPO's clipped one."""

from typing import Literal

from pydantic import Field

from negrl.methods.spec import Method
from negrl.methods.step_advantage import AdvantageOptions


class VppoOptions(AdvantageOptions):
    prefix_reward: float = Field(0.5, ge=0, le=1)
    """alpha: what the tokens before the first error are worth; those of a right response are worth 1."""
    keep_prefix: bool = True
    """Never lower the tokens before the first error, even where they are worth less than the mean (the paper's ReLU,
    eq. 8)."""
    shorten: int = Field(0, ge=0)
    """The last so many tokens before the first error are worth nothing (the paper: the prompt's length, against
    responses that gain by making more steps)."""
    first_error: Literal["bad", "pit"] = "bad"
    """bad: the first step that is labeled bad or pit. pit: the step that brings the value down to its lowest."""
    anchor: float = Field(0.0, ge=0)
    """alpha: NLL on all tokens of right responses."""


METHOD = Method(
    name="vppo",
    view="prefix",
    config="sft",
    trainer="negrl.trainers.step_advantage:StepAdvantageTrainer",
    needs=frozenset({"traces", "values"}),
    options=VppoOptions,
    defaults={"learning_rate": 1e-6},
    own_loss=True,
)
