"""SFT on the reference solutions (a teacher's or a person's): the positive-only baseline."""

from negrl.methods.spec import Method

METHOD = Method(
    name="sft",
    view="sft",
    config="sft",
    trainer="negrl.trainers.sft:TokenSftTrainer",
    needs=frozenset({"solutions"}),
    defaults={"learning_rate": 1e-5, "num_train_epochs": 3},
    positive_only=True,
)
