"""DPO (Rafailov et al. 2023, arXiv:2305.18290) on whole responses: a right against a wrong answer
to the same problem."""

from pydantic import Field

from negrl.trainers.methods import Method, Options


class DpoOptions(Options):
    pairs_per_problem: int = Field(8, ge=1)
    """At most so many right/wrong pairs of one problem; no response is used twice while others wait."""


METHOD = Method(
    name="dpo",
    view="preference",
    config="dpo",
    trainer="negrl.trainers.preference:TokenDpoTrainer",
    options=DpoOptions,
    defaults={"learning_rate": 1e-6, "beta": 0.1, "precompute_ref_log_probs": True},
    view_reads=("pairs_per_problem",),
)
