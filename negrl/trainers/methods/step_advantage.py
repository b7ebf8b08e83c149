"""Per-step advantage-weighted RL on right and wrong traces (Setlur et al. 2024, arXiv:2406.14532,
eq. 4), with tapered negatives (TOPR, arXiv:2503.14286). The default method; docs/losses.md has the
formula, `negrl.trainers.losses` the tensors."""

from pydantic import Field

from negrl.trainers.methods import Method, Options


class StepAdvantageOptions(Options):
    negative_weight: float = Field(1.0, ge=0)
    """lambda_neg: multiplies the steps with negative advantage. 0: positives only."""
    clip: float = Field(1.0, gt=0)
    """|A| is clipped here."""
    anchor: float = Field(0.1, ge=0)
    """alpha: NLL on all tokens of right answers. 0.1 did better than 0 on all three seeds of the
    quickstart (docs/results/learning-rates.md)."""
    kl: float = Field(0.0, ge=0)
    """Weight of the k3 estimate of KL(sampler || policy), from the stored logprobs."""


METHOD = Method(
    name="step_advantage",
    view="advantage",
    config="sft",
    trainer="negrl.trainers.step_advantage:StepAdvantageTrainer",
    options=StepAdvantageOptions,
    defaults={"learning_rate": 1e-6},
    view_reads=("anchor",),
)
