"""DPO (Rafailov et al. 2023, arXiv:2305.18290) on whole responses: a right answer against a wrong one
to the same problem."""

from typing import Any

from pydantic import Field

from negrl.methods.spec import Method, SharedPrefixes, in_training


class DpoOptions(SharedPrefixes):
    pairs_per_problem: int = Field(8, ge=1)
    """At most this many pairs per problem; no response is used twice before all others were used once."""
    nll: float = in_training(0.0, ge=0)
    """Weight of the NLL per token of the chosen side, added to the DPO loss (Iterative RPO, Pang et al. 2024,
    arXiv:2404.19733: 1.0). DPO alone may lower the chosen side too, as long as the rejected side falls more."""

    def trl_fields(self, given: dict[str, Any]) -> dict[str, Any]:
        if not self.nll:
            return {}
        if taken := {"loss_type", "loss_weights"} & given.keys():
            raise ValueError(f"nll: it sets loss_type and loss_weights itself; leave out {' and '.join(sorted(taken))}")
        return {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, self.nll]}


METHOD = Method(
    name="dpo",
    view="preference",
    config="dpo",
    trainer="negrl.trainers.preference:TokenDpoTrainer",
    needs=frozenset({"traces"}),
    options=DpoOptions,
    defaults={"learning_rate": 1e-6, "beta": 0.1, "precompute_ref_log_probs": True},
)
