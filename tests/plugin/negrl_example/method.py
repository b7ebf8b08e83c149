"""`smooth_rft`: RFT with a smoothed loss. The trainer is a module of its own, because it loads torch."""

from negrl.methods import Method
from negrl.methods.spec import SharedPrefixes, in_training


class SmoothOptions(SharedPrefixes):
    smoothing: float = in_training(0.1, ge=0, lt=1)
    """Weight of a uniform target beside the token that was written."""


METHOD = Method(
    name="smooth_rft",
    view="rft",
    config="sft",
    trainer="negrl_example.trainer:SmoothTrainer",
    needs=frozenset({"traces"}),
    options=SmoothOptions,
    defaults={"learning_rate": 1e-5},
    positive_only=True,
    columns=frozenset({"input_ids", "labels"}),
)
