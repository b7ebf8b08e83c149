"""The step-advantage options: what is refused together, and that a real training does as they say."""

import dataclasses

import pytest
import torch

from negrl.errors import InputError
from negrl.methods.step_advantage import StepAdvantageOptions
from negrl.recipe import load_recipe
from tests.trainers.helpers import advantage_rows
from tests.trainers.test_fit import difference, log_probs, run, weights

pytestmark = pytest.mark.slow

RECIPE = """
name: r
problems: {source: chain}
policy: {build: {corpus: world}}
sample: {max_tokens: 8}
label: {labeler: fixed}
train: {method: step_advantage, %s}
"""


@pytest.mark.parametrize(
    "fields, expected",
    [
        ("weights: exponential, clip: 0.5", "clip: weights: exponential does not read it; leave it out"),
        ("weights: exponential, taper: false", "taper: weights: exponential does not read it"),
        ("advantage_temperature: 0.5", "advantage_temperature: weights: signed does not read it"),
        ("weights: positive, negative_weight: 0.5", "negative_weight: weights: positive does not read it"),
        ("weights: negative, negative_weight: 0", "leaves weights: negative nothing to learn from"),
        ("kl_to: start", "kl_to: start is read only with a KL term; set kl above 0"),
        ("weights: expo", "weights"),
        ("normalize: row", "normalize"),
        ("baseline: 2", "baseline"),
        ("guards: {right_drp: 0.1}", "right_drp"),
        ("guards: {holdout: 0.9}", "holdout"),
    ],
)
def test_what_does_not_go_together_is_refused_as_the_recipe_is_read(fields, expected, tmp_path):
    (tmp_path / "r.yaml").write_text(RECIPE % fields)
    with pytest.raises(InputError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_every_form_is_taken():
    for form in ("signed", "exponential", "positive", "negative"):
        StepAdvantageOptions(weights=form, anchor=0.2, kl=0.1, kl_to="start", normalize="step")


@pytest.mark.parametrize("normalize", ["token", "step"])
def test_micro_batches_equal_one_batch(normalize, tiny, tmp_path):
    rows = advantage_rows(21)  # the last global batch is short
    fields = {"num_train_epochs": 2, "normalize": normalize, "anchor": 0.1, "kl": 0.1}
    one = run("step_advantage", rows, tiny, tmp_path / "a", fields)
    split = {**fields, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    other = run("step_advantage", rows, tiny, tmp_path / "b", split)
    for a, b in zip(one.log_history[:6], other.log_history[:6], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
    assert difference(weights(one.model_path), weights(other.model_path)) < 1e-5


def test_the_first_loss_is_the_mean_over_steps(tiny, tmp_path):
    rows = advantage_rows(8)
    result = run("step_advantage", rows, tiny, tmp_path, {"normalize": "step", "weights": "positive"})
    total = steps = 0.0
    for row in rows:
        found = log_probs(tiny, row.input_ids)
        for step in range(3):
            inside = torch.tensor([s == step for s in row.step_ids[1:]])
            weight = max(row.advantages[row.step_ids.index(step)], 0.0)
            total, steps = total - weight * float(found[inside].mean()), steps + 1
    assert result.log_history[0]["loss"] == pytest.approx(total / steps, abs=1e-5)


def test_the_kl_to_the_start_policy_starts_at_zero_and_holds_it_back(tiny, tmp_path):
    rows = advantage_rows(16, logprob=-5.0)  # the sampler was another policy
    fields = {"num_train_epochs": 4, "kl_to": "start", "kl": 1e-9}
    free = run("step_advantage", rows, tiny, tmp_path / "free", fields)
    held = run("step_advantage", rows, tiny, tmp_path / "held", {**fields, "kl": 3.0})
    assert abs(free.log_history[0]["kl"]) < 1e-5
    assert held.log_history[-2]["kl"] < 0.5 * free.log_history[-2]["kl"]
    to_sampler = run("step_advantage", rows, tiny, tmp_path / "sampler", {"kl": 1e-9, "num_train_epochs": 1})
    assert to_sampler.log_history[0]["kl"] > 0.5


def test_positives_alone_ignore_what_is_negative(tiny, tmp_path):
    rows = advantage_rows(16)
    without = [dataclasses.replace(r, advantages=[max(a, 0.0) for a in r.advantages]) for r in rows]
    one = run("step_advantage", rows, tiny, tmp_path / "a", {"weights": "positive"})
    other = run("step_advantage", without, tiny, tmp_path / "b")
    assert difference(weights(one.model_path), weights(other.model_path)) == 0


@pytest.mark.parametrize("form, sign", [("positive", -1.0), ("negative", 1.0), ("exponential", None)])
def test_no_step_to_learn_from_is_said(form, sign, tiny, tmp_path):
    rows = [
        dataclasses.replace(r, advantages=[abs(a) * sign if sign else 0.0 for a in r.advantages])
        for r in advantage_rows(4)
    ]
    with pytest.raises(InputError, match="no step of any row"):
        run("step_advantage", rows, tiny, tmp_path, {"weights": form})
