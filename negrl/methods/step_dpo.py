"""DPO on the step that is to blame (pits as in Setlur et al. 2024, arXiv:2406.14532), with two kinds of pairs.

`step`: after the shared prefix, a step of a rollout that ended right against the pit (Lai et al. 2024,
arXiv:2406.18629). The prefix counts as prompt: it gets no gradient, and no step gets an EOS that it did not have.
`solution`: a whole right answer to the problem, with its EOS, against the wrong trace up to and including its pit,
without EOS (Setlur et al., Algorithm 1). Everything chosen was written by the policy itself."""

from typing import Literal

from pydantic import Field

from negrl.methods.dpo import DpoOptions
from negrl.methods.spec import Method


class StepDpoOptions(DpoOptions):
    pairs_per_problem: int = Field(16, ge=1)
    """At most this many pairs per problem."""
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
