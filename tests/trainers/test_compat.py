"""The forward pass that all methods share."""

import pytest
import torch

from negrl.quiet import quiet
from negrl.trainers import compat
from negrl.trainers.batches import pad
from negrl.trainers.compat import add_small_head, score
from tests.trainers.helpers import sft_rows
from tests.trainers.test_fit import difference, load, run, weights


def batch():
    rows = sft_rows(6)
    return {
        "input_ids": pad([r.input_ids for r in rows], 0, int),
        "attention_mask": pad([[1] * len(r.input_ids) for r in rows], 0, int),
        "labels": pad([r.labels for r in rows], -100, int),
    }


def test_the_small_head_and_trls_fused_head_are_the_same_function(tiny, monkeypatch):
    from trl.trainer.utils import add_fused_lm_head

    found = []
    for limit in (0, 1 << 23):  # 0: always the fused one
        monkeypatch.setattr(compat, "SMALL_LOGITS", limit)
        model = load(tiny)
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1", "mean_logits", "log_sum_sq_probs"))
        add_small_head(model)
        inputs = batch()
        output = model(**inputs, use_cache=False, fused_lm_head=True)
        (output.log_probs.sum() - 0.1 * (output.log_probs**2).sum()).backward()
        found.append((output, {n: p.grad for n, p in model.named_parameters()}))
        assert model(**{k: v for k, v in inputs.items() if k != "labels"}).logits.shape[-1] == 24
    (fused, by_fused), (small, by_small) = found
    for name in ("log_probs", "entropy", "is_top1", "mean_logits", "log_sum_sq_probs", "label_mask"):
        torch.testing.assert_close(getattr(small, name), getattr(fused, name), rtol=1e-4, atol=1e-5)
    for name, gradient in by_small.items():
        torch.testing.assert_close(gradient, by_fused[name], rtol=1e-3, atol=1e-4)
    # And both are log p of the next token, zero where nothing is trained.
    inputs = batch()
    scores = score(model, inputs)
    every = load(tiny)(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.log_softmax(-1)
    exact = every[:, :-1].gather(-1, inputs["input_ids"][:, 1:, None])[..., 0]
    torch.testing.assert_close(scores.log_probs, exact.masked_fill(inputs["labels"][:, 1:] == -100, 0))
    assert torch.equal(scores.mask, inputs["labels"][:, 1:] != -100)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo", "step_advantage"])
def test_training_through_either_head_gives_the_same_model(method, tiny, tmp_path, monkeypatch):
    from tests.trainers.test_fit import KINDS

    rows = KINDS[method][0](16)
    small = run(method, rows, tiny, tmp_path / "small")
    monkeypatch.setattr(compat, "SMALL_LOGITS", 0)
    fused = run(method, rows, tiny, tmp_path / "fused")
    assert difference(weights(small.model_path), weights(fused.model_path)) < 1e-5


def test_quiet_leaves_everything_as_it_was(monkeypatch):
    import logging
    import os

    import datasets

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    logging.getLogger("trl").setLevel(logging.INFO)
    with quiet():
        assert logging.getLogger("trl").level == logging.ERROR and os.environ["TQDM_DISABLE"] == "1"
    assert logging.getLogger("trl").level == logging.INFO and "TQDM_DISABLE" not in os.environ
    assert not datasets.utils.are_progress_bars_disabled()
