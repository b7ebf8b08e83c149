"""Step-DPO: after the shared prefix, the step of a rollout that came out right against the pit step
of a wrong trace (Lai et al. 2024, arXiv:2406.18629; pits as in Setlur et al. 2024, arXiv:2406.14532).
The prefix is prompt: it gets no gradient. The chosen step is the policy's own, from labelling."""

from pydantic import Field

from negrl.trainers.methods import Method, Options


class StepDpoOptions(Options):
    pairs_per_problem: int = Field(16, ge=1)
    """At most so many step pairs of one problem."""


METHOD = Method(
    name="step_dpo",
    view="step_preference",
    config="dpo",
    trainer="negrl.trainers.preference:TokenDpoTrainer",
    options=StepDpoOptions,
    defaults={"learning_rate": 1e-6, "beta": 0.1, "precompute_ref_log_probs": True},
    view_reads=("pairs_per_problem",),
)
