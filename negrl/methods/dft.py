"""Dynamic fine-tuning (Wu et al. 2025, arXiv:2508.05629): SFT whose token loss is weighted by the token's
own probability, -sg(p) log p, so that unlikely tokens of the reference solutions pull less. It is TRL's SFT loss
`dft`; `rft` with `loss_type: dft` is the same on the policy's own right answers."""

from negrl.methods.spec import Method

METHOD = Method(
    name="dft",
    view="sft",
    config="sft",
    trainer="negrl.trainers.sft:TokenSftTrainer",
    needs=frozenset({"solutions"}),
    defaults={"learning_rate": 1e-5, "num_train_epochs": 3, "loss_type": "dft"},
    positive_only=True,
)
