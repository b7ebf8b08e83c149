"""The forms of the step-advantage loss: values worked out by hand, and float64 finite differences."""

import math

import pytest
import torch

from negrl.trainers.losses import count_items, step_advantage_loss, step_lengths, step_weights, taper, unlikeliest
from tests.trainers.test_losses import make

VARIANTS = [
    {"weights": "signed", "negative_weight": 0.7, "clip": 0.9},
    {"weights": "signed", "baseline": -0.1, "tapered": False},
    {"weights": "exponential", "beta": 0.5, "max_weight": 3.0},
    {"weights": "positive", "clip": 0.5},
    {"weights": "negative", "negative_weight": 2.0},
    {"weights": "negative", "tapered": False, "anchor": 0.2},
    {"weights": "signed", "normalize": "step", "anchor": 0.3, "kl": 0.5},
    {"weights": "exponential", "normalize": "step", "kl": 0.5},
]


def row(values):
    return torch.tensor([values], dtype=torch.float64)


def test_weights_worked_out_by_hand():
    advantages, tapers = row([0.5, -0.4, 0.0, 2.0]), row([1.0, 0.5, 1.0, 1.0])

    def weights(**options):
        return step_weights(advantages, tapers, **options).tolist()[0]

    assert weights() == pytest.approx([0.5, -0.2, 0, 1])
    assert weights(negative_weight=3.0, clip=0.3) == pytest.approx([0.3, -0.3 * 3 * 0.5, 0, 0.3])
    assert weights(form="positive") == pytest.approx([0.5, 0, 0, 1])
    assert weights(form="negative") == pytest.approx([0, -0.2, 0, 0])
    # A - delta with delta = -0.1, only where there is an advantage.
    assert weights(baseline=-0.1) == pytest.approx([0.6, -0.3 * 0.5, 0, 1])
    # 0.5 - 0.6 < 0: what does not reach the baseline is lowered.
    assert weights(baseline=0.6) == pytest.approx([-0.1, -1.0 * 0.5, 0, 1])
    # exp(A / 0.5): e, e^-0.8, 1, e^4 cut at 20. The taper is for what is lowered: nothing is.
    assert weights(form="exponential", beta=0.5, max_weight=20.0) == pytest.approx(
        [math.e, math.exp(-0.8), 1.0, 20.0], rel=1e-6
    )


def test_step_normalization_worked_out_by_hand():
    # prompt | step 0: 3 tokens, A = 1 | step 1: 1 token, A = -1 | padding
    data = {
        "log_probs": row([-9.0, -1.0, -2.0, -3.0, -0.5, -7.0]),
        "advantages": row([0.0, 1.0, 1.0, 1.0, -1.0, 0.0]),
        "sampler_log_probs": row([0.0, -1.0, -2.0, -3.0, -0.5, 0.0]),
        "step_ids": torch.tensor([[-1, 0, 0, 0, 1, -1]]),
        "mask": torch.tensor([[False, True, True, True, True, False]]),
        "correct": torch.tensor([True]),
    }
    by_token, _ = step_advantage_loss(**data, anchor=0.1)
    by_step, _ = step_advantage_loss(**data, anchor=0.1, normalize="step")
    assert by_token.tolist()[0] == pytest.approx([0, 1.1, 2.2, 3.3, -0.5 + 0.05, 0])
    assert by_step.tolist()[0] == pytest.approx([0, 1.1 / 3, 2.2 / 3, 3.3 / 3, -0.45, 0])
    assert count_items(data["step_ids"], data["mask"], "token") == 4
    assert count_items(data["step_ids"], data["mask"], "step") == 2
    assert step_lengths(data["step_ids"], data["mask"]).tolist() == [[0, 3, 3, 3, 1, 0]]


@pytest.mark.parametrize("options", VARIANTS)
def test_gradient_equals_finite_differences(options):
    """Weights and taper frozen: they are no path of the gradient."""
    data = make()
    log_probs = data.pop("log_probs").requires_grad_()
    step_advantage_loss(log_probs, **data, **options)[0].sum().backward()

    tapered = options.get("tapered", True)
    tapers = taper(log_probs, data["sampler_log_probs"], data["step_ids"], data["mask"])
    names = {"negative_weight", "clip", "baseline", "beta", "max_weight"}
    weights = step_weights(
        data["advantages"],
        tapers if tapered else torch.ones_like(tapers),
        form=options["weights"],
        **{k: v for k, v in options.items() if k in names},
    )
    share = data["mask"].double()
    if options.get("normalize") == "step":
        share = 1 / step_lengths(data["step_ids"], data["mask"]).double().clamp(min=1) * share

    def value(x):
        ratio = x - data["sampler_log_probs"]
        per_token = -weights * x - options.get("anchor", 0) * data["correct"][:, None] * x
        return ((per_token + options.get("kl", 0) * (ratio.exp() - 1 - ratio)) * share).sum()

    eps, start = 1e-5, log_probs.detach()
    for at in [(i, j) for i in range(4) for j in range(9)]:
        bump = torch.zeros_like(start)
        bump[at] = eps
        slope = (value(start + bump) - value(start - bump)) / (2 * eps)
        assert abs(slope - log_probs.grad[at]) < 1e-7


@pytest.mark.parametrize(
    "form, up, down", [("signed", True, True), ("positive", True, False), ("negative", False, True)]
)
def test_each_form_pushes_its_own_way(form, up, down):
    data = make()
    log_probs = data.pop("log_probs").requires_grad_()
    step_advantage_loss(log_probs, **data, weights=form)[0].sum().backward()
    good, bad = data["mask"] & (data["advantages"] > 0), data["mask"] & (data["advantages"] < 0)
    assert bool((log_probs.grad[good] < 0).all()) == up and bool((log_probs.grad[bad] > 0).all()) == down
    assert (log_probs.grad[~(good | bad)] == 0).all()


def test_exponential_weights_lower_nothing_and_clone_the_dead_zone():
    data = make()
    log_probs = data.pop("log_probs").requires_grad_()
    step_advantage_loss(log_probs, **data, weights="exponential", beta=0.5)[0].sum().backward()
    assert (log_probs.grad[data["mask"]] < 0).all()
    zero = data["mask"] & (data["advantages"] == 0)
    assert zero.any() and (log_probs.grad[zero] == -1).all()


def test_without_the_taper_a_step_that_is_gone_is_pushed_on():
    log_probs, sampler = row([-20.0]).requires_grad_(), row([-1.0])
    rest = (row([-1.0]), sampler, torch.tensor([[0]]), torch.tensor([[True]]), torch.tensor([False]))
    for tapered, slope in ((True, math.exp(-19)), (False, 1.0)):
        loss, _ = step_advantage_loss(log_probs, *rest, tapered=tapered)
        (gradient,) = torch.autograd.grad(loss.sum(), log_probs)
        assert float(gradient) == pytest.approx(slope)


def test_the_kl_may_be_taken_to_a_reference():
    data = make()
    reference = data["log_probs"] - 0.3
    loss, metrics = step_advantage_loss(**data, kl=2.0, weights="signed", reference_log_probs=reference)
    plain, _ = step_advantage_loss(**data)
    expected = 2.0 * (math.exp(0.3) - 1 - 0.3) * data["mask"]
    torch.testing.assert_close(loss - plain, expected.double())
    assert float(metrics["kl"][0] / metrics["kl"][1]) == pytest.approx(math.exp(0.3) - 1.3)
    # The taper stays with the sampler.
    assert metrics["negative/ratio"] == step_advantage_loss(**data)[1]["negative/ratio"]


@pytest.mark.parametrize("normalize", ["token", "step"])
def test_the_loss_of_a_batch_is_that_of_its_parts(normalize):
    """Sum over parts / sum of their items: no matter how a global batch is cut."""
    data = make()
    whole = step_advantage_loss(**data, normalize=normalize, anchor=0.1)[0].sum()
    parts, items = torch.zeros(()), 0
    for cut in (slice(0, 1), slice(1, 4)):
        part = {k: v[cut] for k, v in data.items()}
        parts = parts + step_advantage_loss(**part, normalize=normalize, anchor=0.1)[0].sum()
        items += int(count_items(part["step_ids"], part["mask"], normalize))
    torch.testing.assert_close(parts.double(), whole)
    assert items == count_items(data["step_ids"], data["mask"], normalize)


def test_the_least_likely_tokens_of_each_row():
    log_probs = row([-1.0, -3.0, -2.0, -9.0, -2.0])
    among = torch.tensor([[True, True, True, False, True]])
    assert unlikeliest(log_probs, among, 0.5).tolist() == [[False, True, True, False, False]]
    assert unlikeliest(log_probs, among, 0.51).tolist() == [[False, True, True, False, True]]  # rounded up
    assert unlikeliest(log_probs, among, 0.01).sum() == 1
    assert torch.equal(unlikeliest(log_probs, among, 1.0), among)
    assert not unlikeliest(log_probs, torch.zeros_like(among), 0.5).any()
    ten = torch.arange(10, dtype=torch.float64)[None]
    assert unlikeliest(ten, torch.ones(1, 10, dtype=torch.bool), 0.3).sum() == 3


def test_only_a_share_of_the_lowered_tokens_is_lowered():
    """The rest of the loss stays as it is, and so does the divisor."""
    data = make()
    whole, few = (step_advantage_loss(**data, anchor=0.2, negative_tokens=share) for share in (1.0, 0.4))
    down = data["mask"] & (data["advantages"] < 0)
    changed = whole[0] != few[0]
    assert changed.any() and not (changed & ~down).any()
    for i in range(len(down)):
        order = sorted(torch.nonzero(down[i])[:, 0].tolist(), key=lambda t: float(data["sampler_log_probs"][i, t]))
        kept = order[: math.ceil(0.4 * len(order) - 1e-6)]
        assert not changed[i, kept].any() and changed[i, [t for t in order if t not in kept]].all()
    assert float(few[1]["weight/down"][0]) > float(whole[1]["weight/down"][0])
    assert few[1]["weight/up"] == whole[1]["weight/up"]
