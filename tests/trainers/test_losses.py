"""The step-advantage loss against values worked out by hand and float64 finite differences."""

import math

import pytest
import torch

from negrl.trainers.losses import k3, step_advantage_loss, step_sums, taper


def make(rows=4, width=9, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    step_ids = torch.randint(0, 3, (rows, width), generator=g).sort(1).values
    step_ids[:, 0] = -1
    mask = step_ids >= 0
    mask[1, -2:] = False  # padding
    step_values = torch.randn(rows, 3, generator=g, dtype=dtype)
    step_values[:, 1] = 0  # a dead zone
    advantages = step_values.gather(1, step_ids.clamp(min=0)) * (step_ids >= 0)
    return {
        "log_probs": -torch.rand(rows, width, generator=g, dtype=dtype) * 3,
        "advantages": advantages,
        "sampler_log_probs": -torch.rand(rows, width, generator=g, dtype=dtype) * 3,
        "step_ids": step_ids,
        "mask": mask,
        "correct": torch.tensor([True, False, True, False])[:rows],
    }


def test_a_row_worked_out_by_hand():
    # prompt | step 0: two tokens, A = 2 (clipped to 1) | step 1: two tokens, A = -0.5 | step 2: A = 0
    loss, metrics = step_advantage_loss(
        log_probs=torch.tensor([[-9.0, -1.0, -2.0, -1.5, -0.5, -3.0]]),
        advantages=torch.tensor([[7.0, 2.0, 2.0, -0.5, -0.5, 0.0]]),
        sampler_log_probs=torch.tensor([[0.0, -1.0, -1.0, -0.75, -0.25, -3.0]]),
        step_ids=torch.tensor([[-1, 0, 0, 1, 1, 2]]),
        mask=torch.tensor([[False, True, True, True, True, True]]),
        correct=torch.tensor([True]),
        negative_weight=0.8,
        clip=1.0,
        anchor=0.1,
        kl=0.2,
    )
    # Step 1: log pi - log mu = (-1.5 + 0.75) + (-0.5 + 0.25) = -1, so its taper is e^-1.
    down = 0.5 * 0.8 * math.exp(-1)

    def divergence(log_ratio):
        return math.exp(log_ratio) - 1 - log_ratio

    expected = [
        0.0,
        1.0 + 0.1 * 1.0 + 0.2 * divergence(0.0),
        2.0 + 0.1 * 2.0 + 0.2 * divergence(-1.0),
        -1.5 * down + 0.1 * 1.5 + 0.2 * divergence(-0.75),
        -0.5 * down + 0.1 * 0.5 + 0.2 * divergence(-0.25),
        0.1 * 3.0,
    ]
    torch.testing.assert_close(loss, torch.tensor([expected]))
    found = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert found["positive/logp"] == pytest.approx(-1.5)
    assert found["negative/logp"] == pytest.approx(-1.0)
    assert found["positive/share"] == found["negative/share"] == pytest.approx(0.4)
    assert found["negative/ratio"] == pytest.approx(math.exp(-1))
    assert found["negative/tapered"] == 1.0  # e^-1 < 0.5
    assert found["anchor/nll"] == pytest.approx((1 + 2 + 1.5 + 0.5 + 3) / 5)
    assert found["kl"] == pytest.approx(sum(map(divergence, (0.0, -1.0, -0.75, -0.25, 0.0))) / 5)


def test_the_ratio_is_of_the_whole_step_and_never_above_one():
    log_probs = torch.tensor([[-1.0, -3.0, -1.0, -1.0]])
    sampler = torch.tensor([[-2.0, -1.0, -2.0, -2.0]])
    tapers = taper(log_probs, sampler, torch.tensor([[0, 0, 1, -1]]), torch.ones(1, 4, dtype=torch.bool))
    # Step 0: +1 - 2 = -1; step 1: +1, cut at 1; a token of no step: 1.
    torch.testing.assert_close(tapers, torch.tensor([[math.exp(-1), math.exp(-1), 1.0, 1.0]]))
    sums = step_sums(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0, 0, -1]]), torch.ones(1, 3, dtype=torch.bool))
    assert sums.tolist() == [[3.0]]


@pytest.mark.parametrize("anchor, kl", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.5), (0.3, 0.5)])
def test_gradient_equals_finite_differences(anchor, kl):
    """With the taper frozen: it is a weight, not a path of the gradient."""
    data = make()
    log_probs = data.pop("log_probs").requires_grad_()
    knobs = {"negative_weight": 0.7, "clip": 0.9, "anchor": anchor, "kl": kl}
    step_advantage_loss(log_probs, **data, **knobs)[0].sum().backward()
    frozen = taper(log_probs, data["sampler_log_probs"], data["step_ids"], data["mask"])

    def value(x):
        size = data["advantages"].abs().clamp(max=0.9)
        weight = torch.where(data["advantages"] > 0, size, -0.7 * size * frozen)
        per_token = -weight * x - anchor * data["correct"][:, None] * x + kl * k3(x, data["sampler_log_probs"])
        return (per_token * data["mask"]).sum()

    eps, start = 1e-5, log_probs.detach()
    for at in [(i, j) for i in range(4) for j in range(9)]:
        bump = torch.zeros_like(start)
        bump[at] = eps
        slope = (value(start + bump) - value(start - bump)) / (2 * eps)
        assert abs(slope - log_probs.grad[at]) < 1e-7


def test_descent_raises_good_steps_and_lowers_bad_ones():
    data = make()
    log_probs = data.pop("log_probs").requires_grad_()
    step_advantage_loss(log_probs, **data)[0].sum().backward()
    up, down = data["mask"] & (data["advantages"] > 0), data["mask"] & (data["advantages"] < 0)
    assert up.any() and (log_probs.grad[up] < 0).all()
    assert down.any() and (log_probs.grad[down] > 0).all()
    assert (log_probs.grad[~(up | down)] == 0).all()  # dead zone, prompt and padding


def test_all_advantages_one_is_sft_and_all_zero_is_nothing():
    data = make()
    data["advantages"] = torch.ones_like(data["advantages"])
    loss, _ = step_advantage_loss(**data)
    assert torch.equal(loss, -data["log_probs"] * data["mask"])
    data["advantages"] = torch.zeros_like(data["advantages"])
    assert not step_advantage_loss(**data)[0].any()


def test_k3_is_the_kl_divergence_under_the_sampler():
    g = torch.Generator().manual_seed(1)
    mu = torch.randn(50, generator=g, dtype=torch.float64).log_softmax(0)
    logits = torch.randn(50, generator=g, dtype=torch.float64).requires_grad_()
    pi = logits.log_softmax(0)
    estimate = (mu.exp() * k3(pi, mu)).sum()  # the exact mean over tokens drawn from mu
    exact = (mu.exp() * (mu - pi)).sum()
    torch.testing.assert_close(estimate, exact)
    (by_k3,) = torch.autograd.grad(estimate, logits, retain_graph=True)
    (by_kl,) = torch.autograd.grad(exact, logits)
    torch.testing.assert_close(by_k3, by_kl)
    assert (k3(pi, mu) >= 0).all() and (k3(mu, mu) == 0).all()


def test_padding_and_fillers_change_nothing():
    data = make()
    loss, metrics = step_advantage_loss(**data, anchor=0.2, kl=0.1)
    wider = {
        k: torch.nn.functional.pad(v, (0, 5), value=-1 if k == "step_ids" else 0) if v.dim() == 2 else v
        for k, v in data.items()
    }
    wide_loss, wide_metrics = step_advantage_loss(**wider, anchor=0.2, kl=0.1)
    torch.testing.assert_close(wide_loss.sum(), loss.sum())
    for name, (total, count) in metrics.items():
        torch.testing.assert_close(wide_metrics[name], (total, count))
    data["mask"] = torch.zeros_like(data["mask"])  # a filler: no token is trained
    loss, metrics = step_advantage_loss(**data, anchor=0.2, kl=0.1)
    assert not loss.any() and not any(count for _, count in metrics.values())
