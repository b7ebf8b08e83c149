"""Real trainings on rows of which some are of earlier rounds."""

import dataclasses

import pytest
import torch

from negrl.errors import InputError
from negrl.recipe import load_recipe
from tests.trainers.helpers import advantage_rows
from tests.trainers.test_fit import difference, log_probs, run, weights
from tests.trainers.test_tree_training import advantages

pytestmark = pytest.mark.slow


def aged(rows, ages=(0, 1, 2)):
    return [dataclasses.replace(r, age=ages[i % len(ages)]) for i, r in enumerate(rows)]


def test_the_first_loss_is_the_tapered_one(tiny, tmp_path):
    rows = aged(advantage_rows(8, logprob=-3.0), (0, 1))
    first = run("step_advantage", rows, tiny, tmp_path, {"anchor": 0.1}).log_history[0]
    total, tokens, ratios, old = 0.0, 0, [], 0
    for row in rows:
        found = log_probs(tiny, row.input_ids)
        tokens += sum(label != -100 for label in row.labels)
        old += (row.age > 0) * sum(label != -100 for label in row.labels)
        for step in range(3):
            inside = torch.tensor([s == step for s in row.step_ids[1:]])
            advantage = row.advantages[row.step_ids.index(step)]
            sampler = torch.tensor(row.logprobs[1:])[inside].sum()
            ratio = min(1.0, float((found[inside].sum() - sampler).exp()))
            ratios += [ratio] * (row.age > 0)
            weight = advantage * (ratio if advantage < 0 or row.age else 1.0)
            weight += 0.1 * row.correct * (ratio if row.age else 1.0)
            total -= weight * float(found[inside].sum())
    assert 0.05 < sum(ratios) / len(ratios) < 0.95
    assert first["loss"] == pytest.approx(total / tokens, abs=1e-5)
    assert first["old_ratio"] == pytest.approx(sum(ratios) / len(ratios), abs=1e-5)
    assert first["old_share"] == pytest.approx(old / tokens)


def test_without_old_rows_nothing_is_different(tiny, tmp_path):
    rows = advantage_rows(12)
    one = run("step_advantage", rows, tiny, tmp_path / "a", {"num_train_epochs": 2})
    other = run("step_advantage", rows, tiny, tmp_path / "b", {"num_train_epochs": 2, "taper_old": False})
    assert difference(weights(one.model_path), weights(other.model_path)) == 0
    assert not any("old_share" in line for line in one.log_history)
    old = run("step_advantage", aged(rows), tiny, tmp_path / "c", {"num_train_epochs": 2})
    assert difference(weights(one.model_path), weights(old.model_path)) > 1e-5


@pytest.mark.parametrize("normalize", ["token", "step"])
def test_shared_prefixes_give_the_unshared_gradient(normalize, tiny, tmp_path):
    rows = aged(advantages(4, 4))
    fields = {"per_device_train_batch_size": 16, "num_train_epochs": 2, "normalize": normalize, "anchor": 0.1}
    shared = run("step_advantage", rows, tiny, tmp_path / "a", fields)
    alone = run("step_advantage", rows, tiny, tmp_path / "b", {**fields, "share_prefixes": False})
    assert shared.log_history[0]["tokens_per_unique"] > 1.2
    for a, b in zip(shared.log_history[:2], alone.log_history[:2], strict=True):
        for name in ("loss", "grad_norm", "old_ratio", "old_share"):
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-6)
    assert difference(weights(shared.model_path), weights(alone.model_path)) < 1e-5


def test_micro_batches_equal_one_batch(tiny, tmp_path):
    """Also where some micro-batches have no old row."""
    rows = [dataclasses.replace(r, age=int(i < 3)) for i, r in enumerate(advantage_rows(21))]
    fields = {"num_train_epochs": 2, "anchor": 0.1, "kl": 0.1}
    one = run("step_advantage", rows, tiny, tmp_path / "a", fields)
    split = {**fields, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    other = run("step_advantage", rows, tiny, tmp_path / "b", split)
    for a, b in zip(one.log_history[:6], other.log_history[:6], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["old_share"] == pytest.approx(b["old_share"], abs=1e-6)
    assert difference(weights(one.model_path), weights(other.model_path)) < 1e-5


RECIPE = """
name: r
problems: {source: chain}
policy: {build: {corpus: world}}
sample: {max_tokens: 8}
label: {labeler: fixed}
"""


@pytest.mark.parametrize(
    "train, expected",
    [
        ("{earlier_rounds: acumulate}", "not 'acumulate' (did you mean 'accumulate'?)"),
        ("{earlier_rounds: 0}", "expected replace, accumulate or a number above 0 (old rows per new one), not 0"),
        ("{earlier_rounds: -1.5}", "a number above 0"),
        ("{earlier_rounds: true}", "not True"),
        ("{earlier_rounds: .inf}", "not inf"),
        ("{earlier_round: accumulate}", "did you mean 'earlier_rounds'?"),
        (
            "{method: sft, rounds: 2, earlier_rounds: accumulate}",
            "sft reads the same rows in every round; leave it out",
        ),
        ("{method: step_grpo, rounds: 2, earlier_rounds: 0.5}", "step_grpo samples anew at every step; leave it out"),
    ],
)
def test_what_can_not_be_kept_is_refused_as_the_recipe_is_read(train, expected, tmp_path):
    (tmp_path / "r.yaml").write_text(f"{RECIPE}train: {train}")
    with pytest.raises(InputError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_arms_inherit_it_where_it_means_something(tmp_path):
    arms = "{sft: {method: sft}, rft: {method: rft, rounds: 3}, dpo: {method: dpo, earlier_rounds: replace}}"
    (tmp_path / "r.yaml").write_text(f"{RECIPE}rounds: 2\ntrain: {{earlier_rounds: 1}}\narms: {arms}")
    found = load_recipe(tmp_path / "r.yaml").resolved_arms
    assert {name: arm.earlier_rounds for name, arm in found.items()} == {"sft": None, "rft": 1.0, "dpo": "replace"}
    assert not found["dpo"].keeps_earlier and found["rft"].keeps_earlier
    # Dumps of sections are part of stages' keys: one that does not set it is what it always was.
    assert "earlier_rounds" not in found["sft"].model_dump() and "earlier_rounds" not in found["rft"].fields
