"""Negative-aware fine-tuning on stored right and wrong traces. The loss itself is in `nft_loss`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from negrl.trainers.advantage import AdvantageTrainer
from negrl.trainers.compat import Scores
from negrl.trainers.nft_loss import nft_loss


class NftTrainer(AdvantageTrainer):
    """Loss: `nft_loss` summed over the trained tokens of the global batch / their number. `options` are the method's
    `NftOptions`."""

    def token_losses(
        self, scores: Scores, inputs: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        return nft_loss(
            scores.log_probs,
            inputs["advantages"][:, 1:],
            inputs["logprobs"][:, 1:],
            scores.mask,
            inputs["correct"],
            negative_weight=self.options.negative_weight,
            lowest=self.options.lowest,
            prompt_weight=self.options.prompt_weight,
        )
