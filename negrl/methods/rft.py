"""Rejection-sampling fine-tuning: SFT on the policy's own right answers (Yuan et al. 2023,
arXiv:2308.01825). Positive-only, so it also copies the spurious steps inside them."""

from negrl.methods import Method, Options


class RftOptions(Options):
    share_prefixes: bool = True
    """Run what rows of a micro-batch have in common once. Rows of a problem then travel together, as GRPO's groups
    do; loss and gradient of a batch are the same with and without. false: all rows shuffled, each run alone."""


METHOD = Method(
    name="rft",
    view="rft",
    config="sft",
    trainer="negrl.trainers.sft:TokenSftTrainer",
    options=RftOptions,
    defaults={"learning_rate": 1e-5, "num_train_epochs": 3},
)
