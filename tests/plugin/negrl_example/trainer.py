"""The trainer of `smooth_rft`. It is imported when training starts."""

from typing import Any

from negrl.trainers.sft import TokenSftTrainer


class SmoothTrainer(TokenSftTrainer):
    """SFT's loss, (1 - s) NLL + s times the mean NLL over the vocabulary, on the trained tokens."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(model, dict(inputs), return_outputs=True, **kwargs)
        labels = inputs["labels"][:, 1:]
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
        uniform = -logits.log_softmax(-1).mean(-1)[labels != -100].mean()
        smoothing = self.options.smoothing
        mixed = (1 - smoothing) * loss + smoothing * uniform
        return (mixed, outputs) if return_outputs else mixed
