"""DPO on the step that is to blame (pits as in Setlur et al. 2024, arXiv:2406.14532), in two pair forms.

`step`: after the shared prefix, the step of a rollout that came out right against the pit (Lai et al. 2024,
arXiv:2406.18629). The prefix is prompt: it gets no gradient, and no step gets an EOS that it did not have.
`solution`: a whole right answer to the problem, with its EOS, against the wrong trace up to and with its pit,
without one (Setlur et al., Algorithm 1). Everything chosen is the policy's own."""

from typing import Literal

from pydantic import Field

from negrl.methods.dpo import DpoOptions
from negrl.methods.spec import Method


class StepDpoOptions(DpoOptions):
    pairs_per_problem: int = Field(16, ge=1)
    """At most so many pairs of one problem."""
    pairs: Literal["step", "solution"] = "step"
    """`step`: step against step after the shared prefix. `solution`: a right answer against the wrong prefix
    that ends with the pit."""


METHOD = Method(
    name="step_dpo",
    view="step_preference",
    config="dpo",
    trainer="negrl.trainers.preference:TokenDpoTrainer",
    needs=frozenset({"traces", "values", "rollouts"}),
    options=StepDpoOptions,
    defaults={"learning_rate": 1e-6, "beta": 0.1, "precompute_ref_log_probs": True},
)
