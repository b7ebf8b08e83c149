"""Step-advantage training on stored right and wrong traces. The loss itself is in `losses`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from negrl.errors import InputError
from negrl.trainers.advantage import AdvantageTrainer
from negrl.trainers.compat import Scores
from negrl.trainers.losses import count_items, step_advantage_loss


class StepAdvantageTrainer(AdvantageTrainer):
    """Loss: `step_advantage_loss` summed over the trained tokens of the global batch / their number
    (`normalize: step`: / the number of its steps).

    `options` are the method's `AdvantageOptions`. With `kl_to: start` all rows get their log-probs under the start
    policy, as the KL's reference.
    """

    @property
    def wants_reference(self) -> bool:
        return self.options.kl > 0 and self.options.kl_to == "start"

    def items(self, step_ids: Tensor, mask: Tensor) -> Tensor:
        return count_items(step_ids, mask, self.options.normalize)

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """Trained tokens, or steps, of the global batch, over all processes and accumulation steps."""
        if self.options.normalize == "token":
            return super()._get_num_items_in_batch(batch_samples, device)
        counts = [count_items(b["step_ids"][:, 1:], b["labels"][:, 1:] != -100, "step") for b in batch_samples]
        count = torch.stack(counts).sum().to(device)
        return self.accelerator.reduce(count, "sum") if self.args.average_tokens_across_devices else count

    def token_losses(
        self, scores: Scores, inputs: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        options = self.options
        return step_advantage_loss(
            scores.log_probs,
            inputs["advantages"][:, 1:],
            inputs["logprobs"][:, 1:],
            inputs["step_ids"][:, 1:],
            scores.mask,
            inputs["correct"],
            weights=options.weights,
            negative_weight=options.negative_weight,
            clip=options.clip,
            tapered=options.taper,
            baseline=options.baseline,
            beta=options.advantage_temperature,
            max_weight=options.max_weight,
            normalize=options.normalize,
            anchor=options.anchor,
            kl=options.kl,
            reference_log_probs=inputs["reference"][:, 1:] if "reference" in inputs else None,
            age=inputs.get("age"),
            taper_old=options.taper_old,
            negative_tokens=options.negative_tokens,
        )

    def check_advantages(self) -> None:
        """Without any advantage only the anchor (or nothing) would be trained, in a run that looks fine."""
        lowest, highest = self.advantage_bounds()
        form = self.options.weights
        up = highest > 0 and form != "negative"
        down = lowest < 0 and form != "positive" and self.options.negative_weight > 0
        learns = up or down or (form == "exponential" and lowest < 0)
        if not learns:
            raise InputError(
                "train: no step of any row has an advantage to learn from (all in the dead zone, or outside the "
                "value band): label with more rollouts, widen label.value_band, or train with rft"
            )
