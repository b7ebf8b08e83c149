"""The tiled LM head against the whole softmax."""

import pytest
import torch
from torch import nn

from negrl.trainers import head
from negrl.trainers.head import OUTPUTS, plain_head, tiled_scores


def whole(hidden, weight, targets):
    every = (hidden @ weight.T).log_softmax(-1)
    probs = every.exp()
    return {
        "log_probs": every.gather(1, targets[:, None])[:, 0],
        "entropy": -(probs * every).sum(-1),
        "log_sum_sq_probs": (probs**2).sum(-1).log(),
        "mean_logits": (hidden @ weight.T).mean(-1),
        "is_top1": every.argmax(-1) == targets,
    }


def inputs(count=50, width=8, vocabulary=30):
    torch.manual_seed(0)
    hidden, weight = torch.randn(count, width), torch.randn(vocabulary, width)
    return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(0, vocabulary, (count,))


def gradients(function, hidden, weight, targets):
    found = function(hidden, weight, targets)
    (found["log_probs"] * torch.linspace(-1, 1, len(hidden))).sum().backward()
    out = found, hidden.grad.clone(), weight.grad.clone() if weight.grad is not None else None
    hidden.grad = weight.grad = None
    return out


@pytest.mark.parametrize("tokens", [1, 7, 50, 1000])
def test_tiles_of_any_size_are_the_whole(tokens, monkeypatch):
    monkeypatch.setattr(head, "AT_LEAST", 1)
    expected, to_hidden, to_weight = gradients(whole, *inputs())
    found, ours_hidden, ours_weight = gradients(lambda *x: tiled_scores(*x, tile=30 * tokens), *inputs())
    for name in OUTPUTS:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
        assert found[name].requires_grad == (name == "log_probs")
    torch.testing.assert_close(ours_hidden, to_hidden, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours_weight, to_weight, rtol=1e-4, atol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_extreme_logits_no_nan():
    hidden, weight, targets = inputs()
    frozen = (weight.detach() * 1000).requires_grad_(False)
    found, to_hidden, to_weight = gradients(lambda *x: tiled_scores(*x, tile=64), hidden, frozen, targets)
    assert to_weight is None and to_hidden.isfinite().all()
    assert found["log_probs"].isfinite().all() and found["entropy"].isfinite().all()


def test_no_token_at_all_is_a_zero_that_reaches_the_weights():
    hidden, weight, targets = inputs()
    tiled_scores(hidden[:0], weight, targets[:0], tile=64)["log_probs"].sum().backward()
    assert (hidden.grad == 0).all() and (weight.grad == 0).all()


def test_under_autocast_only_the_projection_is_rounded():
    hidden, weight, targets = inputs(width=64)
    exact = whole(hidden, weight, targets)["log_probs"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = tiled_scores(hidden, weight, targets, tile=64)["log_probs"]
    assert rounded.dtype == torch.float32
    assert 0 < float((rounded - exact).abs().detach().max()) < 0.3
    rounded.sum().backward()
    assert weight.grad.dtype == torch.float32 and weight.grad.isfinite().all()


def test_only_heads_that_are_a_projection_and_nothing_more():
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"vocab_size": 24, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}

    def of(family, **extra):
        return plain_head(AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **small, **heads, **extra)))

    assert of("llama").weight.shape == (24, 32)
    assert of("gemma2", final_logit_softcapping=30.0) is None
    assert of("granite", logits_scaling=8.0) is None
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **small, **heads))
    network.lm_head = nn.Linear(32, 24, bias=True)
    assert plain_head(network) is None
