"""NFT's loss against plain Python numbers, and its gradient against the one that the paper derives."""

from __future__ import annotations

import math

import pytest
import torch

from negrl.trainers.nft_loss import at_least, nft_loss, prompt_weights


def make(rows: int = 6, width: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    """Rows of random rates and ratios; the first token of each is a prompt's, the last two of row 1 are padding."""
    g = torch.Generator().manual_seed(seed)
    correct = torch.arange(rows) % 2 == 0
    rate = 0.05 + 0.9 * torch.rand(rows, 1, generator=g, dtype=torch.float64)
    mask = torch.ones(rows, width, dtype=torch.bool)
    mask[:, 0] = False
    mask[1, -2:] = False
    log_probs = -3 * torch.rand(rows, width, generator=g, dtype=torch.float64)
    return {
        "log_probs": log_probs,
        "advantages": torch.where(mask, correct[:, None].double() - rate, 0.0),
        "sampler_log_probs": log_probs + torch.randn(rows, width, generator=g, dtype=torch.float64),
        "mask": mask,
        "correct": correct,
    }


def plain(log_pi: float, log_mu: float, rate: float, right: bool, lowest: float, kind: str) -> float:
    """One token's loss, with the probabilities themselves."""
    pi, mu = math.exp(log_pi), math.exp(log_mu)
    weight = {"failures": 1 - rate, "odds": math.sqrt(1 / rate - 1), "equal": 1.0}[kind]
    if right:
        return -weight * math.log(pi / mu)
    # The negative policy: mu = rate * pi + (1 - rate) * negative, and its ratio to mu.
    negative = (mu - rate * pi) / (1 - rate)
    return -weight * math.log(max(negative / mu, lowest))


@pytest.mark.parametrize("lowest", [1.0, 0.2])
@pytest.mark.parametrize("kind", ["failures", "odds", "equal"])
def test_each_token_is_the_formula(lowest, kind):
    data = make()
    loss, _ = nft_loss(**data, lowest=lowest, prompt_weight=kind)
    for i, right in enumerate(data["correct"].tolist()):
        rate = float(right) - float(data["advantages"][i, 1])
        for t in range(7):
            at = float(data["log_probs"][i, t]), float(data["sampler_log_probs"][i, t])
            expected = plain(*at, rate, right, lowest, kind) if data["mask"][i, t] else 0.0
            assert float(loss[i, t]) == pytest.approx(expected, abs=1e-9), (i, t)


def test_a_case_worked_out_by_hand():
    """Pass rate 1/2. A wrong token at half of the sampler's probability: (1 - 1/4) / (1/2) = 3/2."""
    data = {
        "log_probs": torch.log(torch.tensor([[0.2, 0.4], [0.2, 0.4]], dtype=torch.float64)),
        "sampler_log_probs": torch.log(torch.tensor([[0.4, 0.4], [0.4, 0.2]], dtype=torch.float64)),
        "advantages": torch.tensor([[0.5, 0.5], [-0.5, -0.5]], dtype=torch.float64),
        "mask": torch.ones(2, 2, dtype=torch.bool),
        "correct": torch.tensor([True, False]),
    }
    loss, metrics = nft_loss(**data, lowest=1.0, negative_weight=3.0)
    # The last token's ratio is 2: (1 - 1) / (1/2) = 0 is raised to 1, whose log is 0.
    expected = [[0.5 * math.log(2), 0.0], [-0.5 * 3 * math.log(1.5), 0.0]]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))
    found = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert found["negative/ratio"] == pytest.approx(0.75) and found["negative/clipped"] == 0.5
    assert found["positive/share"] == found["negative/share"] == 0.5
    assert found["positive/logp"] == pytest.approx((math.log(0.2) + math.log(0.4)) / 2)


def test_the_gradient_is_the_papers_with_a_straight_through_bound():
    """d loss / d log pi = -w (right) and w r R / ((1 - r) max(eps, (1 - r R) / (1 - r))) (wrong)."""
    data = make(rows=8, seed=3)
    log_probs = data.pop("log_probs").requires_grad_()
    nft_loss(log_probs, **data, lowest=0.5)[0].sum().backward()
    clipped = 0
    for i, right in enumerate(data["correct"].tolist()):
        rate = float(right) - float(data["advantages"][i, 1])
        for t in torch.nonzero(data["mask"][i])[:, 0].tolist():
            ratio = math.exp(float(log_probs.detach()[i, t]) - float(data["sampler_log_probs"][i, t]))
            inner = (1 - rate * ratio) / (1 - rate)
            clipped += not right and inner < 0.5
            expected = -(1 - rate) if right else (1 - rate) * rate * ratio / (1 - rate) / max(0.5, inner)
            assert float(log_probs.grad[i, t]) == pytest.approx(expected, rel=1e-9), (i, t)
    assert clipped >= 3
    assert (log_probs.grad[~data["mask"]] == 0).all()


@pytest.mark.parametrize(("kind", "size"), [("failures", 1.0), ("odds", None)])
def test_at_the_sampler_a_prompt_is_its_own_baseline(kind, size):
    """Right responses weigh 1 - r and wrong ones -r, as in Dr. GRPO; divided by sqrt(r (1 - r)), as in GRPO."""
    data = make()
    data["sampler_log_probs"] = data["log_probs"].clone()
    log_probs = data.pop("log_probs").requires_grad_()
    nft_loss(log_probs, **data, prompt_weight=kind)[0].sum().backward()
    rate = data["correct"][:, None].double() - data["advantages"]
    divisor = size or (rate * (1 - rate)).sqrt()
    expected = torch.where(data["mask"], -data["advantages"] / divisor, 0.0)
    torch.testing.assert_close(log_probs.grad, expected)


def test_right_rises_wrong_falls_and_what_is_gone_is_left_alone():
    data = make()
    log_probs = data.pop("log_probs").requires_grad_()
    nft_loss(log_probs, **data)[0].sum().backward()
    right, wrong = (data["mask"] & side[:, None] for side in (data["correct"], ~data["correct"]))
    assert (log_probs.grad[right] < 0).all() and (log_probs.grad[wrong] > 0).all()
    gone = torch.full_like(log_probs, -30.0).requires_grad_()
    nft_loss(gone, **data)[0].sum().backward()
    assert gone.grad[wrong].abs().max() < 1e-9 and (gone.grad[right] < 0).all()


def test_a_ratio_without_bound_stays_finite():
    data = make()
    data["sampler_log_probs"] -= 200
    log_probs = data.pop("log_probs").requires_grad_()
    loss, _ = nft_loss(log_probs, **data, lowest=1e-3)
    loss.sum().backward()
    assert loss.isfinite().all() and log_probs.grad.isfinite().all()


def test_helpers():
    values = torch.tensor([0.2, 0.9], requires_grad=True)
    bounded = at_least(values, 0.5)
    bounded.sum().backward()
    assert bounded.tolist() == pytest.approx([0.5, 0.9]) and values.grad.tolist() == [1, 1]
    rate = torch.tensor([0.2])
    assert [float(prompt_weights(rate, k)) for k in ("failures", "odds", "equal")] == pytest.approx([0.8, 2.0, 1.0])


def test_a_right_response_without_weight_leaves_the_gradient_whole():
    """A = 0 means a pass rate of 1: nothing is divided by 1 - r there."""
    data = make()
    data["advantages"][data["correct"]] = 0.0
    log_probs = data.pop("log_probs").requires_grad_()
    nft_loss(log_probs, **data)[0].sum().backward()
    assert log_probs.grad.isfinite().all() and (log_probs.grad[data["correct"]] == 0).all()
