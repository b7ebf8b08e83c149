"""Rows of earlier rounds in the step-advantage loss: values worked out by hand, and finite differences."""

import math

import pytest
import torch

from negrl.trainers.losses import step_advantage_loss, step_weights, taper
from tests.trainers.test_losses import make

AGE = torch.tensor([0, 1, 3, 0])


def row(values):
    return torch.tensor([values], dtype=torch.float64)


def by_hand(age, **options):
    """prompt | step 0: 2 tokens, A = 0.5, pi/mu = e^-1 | step 1: A = -0.4, pi/mu = e^-2 | step 2: A = 0.5, pi > mu."""
    return step_advantage_loss(
        log_probs=row([-9.0, -1.5, -1.5, -3.0, -1.0]),
        advantages=row([0.0, 0.5, 0.5, -0.4, 0.5]),
        sampler_log_probs=row([0.0, -1.0, -1.0, -1.0, -2.0]),
        step_ids=torch.tensor([[-1, 0, 0, 1, 2]]),
        mask=torch.tensor([[False, True, True, True, True]]),
        correct=torch.tensor([True]),
        age=None if age is None else torch.tensor([age]),
        **options,
    )


@pytest.mark.parametrize("age", [None, 0])
def test_this_rounds_rows_are_as_ever(age):
    loss, metrics = by_hand(age, anchor=0.1)
    negative = -0.4 * math.exp(-2) * 3.0
    assert loss.tolist()[0] == pytest.approx([0, 0.75 + 0.15, 0.75 + 0.15, negative + 0.3, 0.5 + 0.1])
    assert ("old_share" in metrics) == (age is not None)
    assert age is None or (float(metrics["old_share"][0]), int(metrics["old_ratio"][1])) == (0.0, 0)


def test_both_signs_and_the_anchor_of_an_old_row_are_tapered():
    loss, metrics = by_hand(2, anchor=0.1)
    up, down = math.exp(-1), math.exp(-2)
    # The last step is written more often now than then: it counts in full, never more.
    expected = [0, (0.75 + 0.15) * up, (0.75 + 0.15) * up, (-0.4 * 3.0 + 0.3) * down, 0.5 + 0.1]
    assert loss.tolist()[0] == pytest.approx(expected)
    assert float(metrics["old_share"][0] / metrics["old_share"][1]) == 1.0
    assert float(metrics["old_ratio"][0] / metrics["old_ratio"][1]) == pytest.approx((up + down + 1) / 3)
    assert float(metrics["weight/up"][0]) == pytest.approx(0.5 * up * 2 + 0.5)


def test_the_taper_of_old_rows_and_that_of_negatives_are_two_switches():
    up, down = math.exp(-1), math.exp(-2)
    plain = by_hand(1, taper_old=False)[0].tolist()[0]
    assert plain == pytest.approx([0, 0.75, 0.75, -1.2 * down, 0.5])
    only_old = by_hand(1, tapered=False)[0].tolist()[0]
    assert only_old == pytest.approx([0, 0.75 * up, 0.75 * up, -1.2 * down, 0.5])
    neither = by_hand(1, tapered=False, taper_old=False)[0].tolist()[0]
    assert neither == pytest.approx([0, 0.75, 0.75, -1.2, 0.5])
    assert by_hand(0, tapered=False)[0].tolist()[0] == neither


def test_exponential_weights_of_old_rows_are_tapered():
    loss, _ = by_hand(1, weights="exponential", beta=0.5)
    up, down = math.exp(1 - 1), math.exp(-0.8 - 2)
    assert loss.tolist()[0] == pytest.approx([0, 1.5 * up, 1.5 * up, 3.0 * down, math.e])


def test_the_kl_to_the_sampler_leaves_old_rows_out_and_that_to_the_start_does_not():
    plain = by_hand(1)[0]
    assert torch.equal(by_hand(1, kl=2.0)[0], plain)
    assert int(by_hand(1)[1]["kl"][1]) == 0
    assert not torch.equal(by_hand(0, kl=2.0)[0], by_hand(0)[0])
    reference = row([-9.0, -1.5, -1.5, -3.0, -1.0]) - 0.3
    added = by_hand(1, kl=2.0, reference_log_probs=reference)[0] - plain
    assert added.tolist()[0] == pytest.approx([0, *[2.0 * (math.exp(0.3) - 1.3)] * 4])


@pytest.mark.parametrize(
    "options",
    [
        {"negative_weight": 0.7, "clip": 0.9, "anchor": 0.3},
        {"tapered": False, "baseline": -0.1, "kl": 0.5},
        {"weights": "exponential", "beta": 0.5, "max_weight": 3.0, "anchor": 0.2},
        {"weights": "positive", "taper_old": False, "anchor": 0.2, "kl": 0.5},
        {"weights": "negative", "normalize": "step"},
    ],
)
def test_gradient_equals_finite_differences(options):
    """Everything that the log-probs are multiplied by is frozen: it is no path of the gradient."""
    data = make()
    log_probs = data.pop("log_probs").requires_grad_()
    step_advantage_loss(log_probs, **data, **options, age=AGE)[0].sum().backward()

    old = (AGE > 0)[:, None]
    ratio = taper(log_probs, data["sampler_log_probs"], data["step_ids"], data["mask"])
    kept = torch.where(old, ratio, 1.0) if options.get("taper_old", True) else torch.ones_like(ratio)
    names = {"negative_weight", "clip", "baseline", "beta", "max_weight"}
    weights = step_weights(
        data["advantages"],
        ratio if options.get("tapered", True) else kept,
        form=options.get("weights", "signed"),
        **{k: v for k, v in options.items() if k in names},
    )
    weights = torch.where(weights > 0, weights * kept, weights)
    share = data["mask"].double()
    if options.get("normalize") == "step":
        for b, k in [(b, k) for b in range(4) for k in range(3)]:
            inside = data["mask"][b] & (data["step_ids"][b] == k)
            share[b, inside] = 1 / inside.sum().double()

    def value(x):
        divergence = (x - data["sampler_log_probs"]).exp() - 1 - (x - data["sampler_log_probs"])
        anchor = options.get("anchor", 0) * kept * data["correct"][:, None]
        return ((-weights * x - anchor * x + options.get("kl", 0) * ~old * divergence) * share).sum()

    eps, start = 1e-5, log_probs.detach()
    for at in [(i, j) for i in range(4) for j in range(9)]:
        bump = torch.zeros_like(start)
        bump[at] = eps
        slope = (value(start + bump) - value(start - bump)) / (2 * eps)
        assert abs(slope - log_probs.grad[at]) < 1e-7


def test_what_the_policy_no_longer_writes_is_not_brought_back():
    """A good step of an old row that has become unlikely: its pull fades with it."""
    log_probs = row([-20.0]).requires_grad_()
    rest = (row([1.0]), row([-1.0]), torch.tensor([[0]]), torch.tensor([[True]]), torch.tensor([True]))
    for age, slope in ((1, -math.exp(-19) * 1.5), (0, -1.5)):
        loss, _ = step_advantage_loss(log_probs, *rest, anchor=0.5, age=torch.tensor([age]))
        (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
        assert float(gradient) == pytest.approx(slope)


@pytest.mark.parametrize("taper_old", [True, False])
def test_a_batch_is_the_sum_of_its_rows(taper_old):
    data = make()
    options = {"anchor": 0.1, "kl": 0.2, "taper_old": taper_old}
    whole = step_advantage_loss(**data, **options, age=AGE)[0].sum()
    one_by_one = [
        step_advantage_loss(**{k: v[i : i + 1] for k, v in data.items()}, **options, age=AGE[i : i + 1])[0].sum()
        for i in range(4)
    ]
    torch.testing.assert_close(sum(one_by_one), whole)
