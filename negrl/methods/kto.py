"""KTO (Ethayarajh et al. 2024, arXiv:2402.01306) on unpaired right and wrong responses: each is raised or
lowered relative to the policy's mean drift; no response needs a partner."""

from pydantic import Field

from negrl.methods.spec import Method, Options, in_training


class KtoOptions(Options):
    responses_per_problem: int = Field(16, ge=1)
    """At most this many right and this many wrong responses per problem."""
    balance: bool = in_training(True)
    """Weigh the two sides so that their sums are equal (desirable_weight x right = undesirable_weight x
    wrong, eq. 8's lower end), with a mean weight of 1; false: TRL's desirable_weight and undesirable_weight."""


METHOD = Method(
    name="kto",
    view="unary",
    config="kto",
    trainer="negrl.trainers.kto:TokenKtoTrainer",
    needs=frozenset({"traces"}),
    options=KtoOptions,
    defaults={"learning_rate": 1e-6, "beta": 0.1, "precompute_ref_log_probs": True},
)
