"""A process reward model: the policy's backbone with a head of one number per token, trained on our step
values to predict the chance of a right answer after every step (Math-Shepherd, Wang et al. 2023,
arXiv:2312.08935; soft targets as in OmegaPRM, Luo et al. 2024, arXiv:2406.06592). It writes no text: it is used
as a labeler (`label.labeler: prm`), not as a policy."""

from typing import Literal

from negrl.methods.spec import Method, Options


class ProcessRewardOptions(Options):
    targets: Literal["soft", "hard"] = "soft"
    """`soft`: the value. `hard`: 1 where any rollout ended right, else 0 (the best threshold in Zhang et al.
    2025, arXiv:2501.07301; of values without counts: 1 above 0)."""
    prompts: bool = True
    """Also learn V_0 at the end of the prompt; without it the first step has no advantage."""


METHOD = Method(
    name="process_reward",
    view="process_reward",
    config="sft",
    trainer="negrl.trainers.process_reward:StepValueTrainer",
    needs=frozenset({"traces", "values"}),
    options=ProcessRewardOptions,
    defaults={"learning_rate": 1e-5, "num_train_epochs": 2},
    network="AutoModelForTokenClassification",
    own_loss=True,
)
