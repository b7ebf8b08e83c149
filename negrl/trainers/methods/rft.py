"""Rejection-sampling fine-tuning: SFT on the policy's own right answers (Yuan et al. 2023,
arXiv:2308.01825). Positive-only, so it also copies the spurious steps inside them."""

from negrl.trainers.methods import Method

METHOD = Method(
    name="rft",
    view="rft",
    config="sft",
    trainer="negrl.trainers.sft:TokenSftTrainer",
    defaults={"learning_rate": 1e-5, "num_train_epochs": 3},
)
