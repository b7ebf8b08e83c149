"""Online step advantages: sample G responses to each prompt, value their steps with rollouts of the policy as
it is now, and give every token its step's advantage (VinePPO, Kazemnejad et al. 2024, arXiv:2410.01679) in
TRL's GRPO loss. The recipe's `sample`, `verify` and `label` say how to sample, verify and label."""

from negrl.methods.spec import Method

METHOD = Method(
    name="step_grpo",
    view="prompts",
    config="grpo",
    trainer="negrl.trainers.step_grpo:StepGrpoTrainer",
    needs=frozenset({"prompts", "sampling"}),
    # loss_type grpo would weigh a token by its response's length; beta 0: no reference model.
    defaults={"learning_rate": 1e-6, "loss_type": "dapo", "beta": 0.0, "num_generations": 8},
)
