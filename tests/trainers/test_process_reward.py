"""The process reward model: its loss by hand, what it learns, and what it says as labeler `prm`."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import pytest
import torch

from negrl.errors import InputError
from negrl.labelers.base import Task
from negrl.labelers.prm import PrmLabeler, scores
from negrl.methods import METHODS
from negrl.policy import PolicySection
from negrl.records import CORRECT, INCORRECT, Problem, StepValueRow
from negrl.steps.split import Span
from negrl.steps.values import exact
from negrl.trainers.fit import Training, fit
from negrl.trainers.process_reward import NO_TARGET, value_loss
from tests.trainers.helpers import tokens

BAD = 2  # once this token is there, the chance is 0.1; before, 0.9


def value_rows(count: int, seed: int = 0) -> list[StepValueRow]:
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        prompt = [t for t in tokens(rng, 8) if t != BAD][: rng.randint(2, 4)] or [5]
        ids, positions, values = list(prompt), [len(prompt) - 1], [0.9]
        for _ in range(rng.randint(2, 4)):
            step = [t for t in tokens(rng, 5) if t != BAD] or [6]
            if rng.random() < 0.3:
                step[rng.randrange(len(step))] = BAD
            ids += step
            positions.append(len(ids) - 1)
            values.append(0.1 if BAD in ids else 0.9)
        rows.append(StepValueRow(f"p{i}", f"t{i}", ids, positions, values))
    return rows


def train(rows, model, out, **fields):
    base = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "num_train_epochs": 1, "logging_steps": 1}
    policy = PolicySection(model=str(model))
    return fit(Training(METHODS["process_reward"], {**base, **fields}, policy, str(model)), rows, StepValueRow, out)


@pytest.fixture(scope="module")
def prm(tiny: Path, tmp_path_factory: pytest.TempPathFactory):
    return train(value_rows(160), tiny, tmp_path_factory.mktemp("prm"), num_train_epochs=10)


def places(row: StepValueRow) -> tuple[list[int], list[int]]:
    return row.input_ids, [p + 1 for p in row.positions]


def test_the_loss_is_cross_entropy_at_the_targets_alone():
    logits = torch.tensor([[0.3, -1.0, 2.0], [5.0, 0.5, 9.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[NO_TARGET, 0.25, 1.0], [NO_TARGET, NO_TARGET, 0.0]], dtype=torch.float64)
    loss = value_loss(logits, targets)

    def s(z):
        return 1 / (1 + math.exp(-z))

    by_hand = -(0.25 * math.log(s(-1)) + 0.75 * math.log(1 - s(-1))) - math.log(s(2)) - math.log(1 - s(9))
    assert loss.item() == pytest.approx(by_hand, abs=1e-5)
    loss.backward()
    expected = [[0, s(-1) - 0.25, s(2) - 1], [0, 0, s(9)]]
    assert torch.allclose(logits.grad, torch.tensor(expected, dtype=torch.float64), atol=1e-6)


@pytest.mark.slow
def test_it_learns_the_values_from_the_policys_backbone(prm, tiny):
    first, last = prm.log_history[0], prm.log_history[-2]
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))  # what soft targets leave
    assert first["loss"] > entropy + 0.2 and last["loss"] < entropy + 0.05
    assert last["value/error"] < 0.1 < first["value/error"] and last["value/accuracy"] > 0.97
    new = value_rows(40, seed=9)
    for row, found in zip(new, scores(str(prm.model_path), [places(r) for r in new]), strict=True):
        off = [abs(math.exp(f) - v) for f, v in zip(found, row.values, strict=True)]
        assert sum(off) / len(off) < 0.2
    names = {p.name for p in prm.model_path.iterdir()}
    assert "model.safetensors" in names and not any(n.endswith((".bin", ".pt")) for n in names)


@pytest.mark.slow
def test_the_first_loss_is_that_of_the_untrained_head(tiny, tmp_path):
    from transformers import AutoModelForTokenClassification

    rows = value_rows(8)
    result = train(rows, tiny, tmp_path, max_steps=1, learning_rate=1e-12)
    network = AutoModelForTokenClassification.from_pretrained(result.model_path).eval()
    total = count = 0.0
    for row in rows:
        with torch.no_grad():
            logits = network(torch.tensor([row.input_ids])).logits[0, :, 0]
        for p, v in zip(row.positions, row.values, strict=True):
            q = float(logits[p].sigmoid())
            total, count = total - v * math.log(q) - (1 - v) * math.log(1 - q), count + 1
    assert result.log_history[0]["loss"] == pytest.approx(total / count, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("count", [18, 21])  # the last global batch: two fillers beside 2 rows, or 1, 1, 1 and 2 rows
def test_accumulated_micro_batches_equal_one_batch(count, tiny, tmp_path):
    rows = value_rows(count)
    one = train(rows, tiny, tmp_path / "a")
    other = train(rows, tiny, tmp_path / "b", per_device_train_batch_size=2, gradient_accumulation_steps=4)
    assert one.steps == other.steps == 3
    for a, b in zip(one.log_history[:3], other.log_history[:3], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)
        assert a["value/error"] == pytest.approx(b["value/error"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, expected",
    [
        ({"positions": [], "values": []}, "have no value to train on"),
        ({"values": [1.5, 0.5, 0.5]}, "have values outside"),
        ({"values": [math.nan, 0.5, 0.5]}, "have values outside"),
        ({"positions": [0, 1, 99]}, "have positions outside their tokens"),
        ({"values": [0.5]}, "have values of another length"),
        ({"input_ids": [3, 4, 999]}, "outside the model's vocabulary"),
    ],
)
def test_bad_rows_are_refused(change, expected, tiny, tmp_path):
    good = StepValueRow("p", "t", [3, 4, 5], [0, 1, 2], [0.5, 0.5, 0.5])
    with pytest.raises(InputError, match=expected):
        train([good, dataclasses.replace(good, **change)], tiny, tmp_path)


@pytest.mark.slow
def test_scores_do_not_depend_on_the_company(prm):
    rows = value_rows(12, seed=5)
    together = scores(str(prm.model_path), [places(r) for r in rows])
    for row, found in zip(rows, together, strict=True):
        assert scores(str(prm.model_path), [places(row)])[0] == pytest.approx(found, abs=1e-5)
    # A value speaks of the prefix alone, so a longer text has the same ones at its beginning.
    longer = [([*ids, BAD], ends) for ids, ends in map(places, rows)]
    for one, other in zip(scores(str(prm.model_path), longer), together, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sequences, expected",
    [
        ([([3], [1]), ([], [])], "sequence 1: it is empty"),
        ([([3] * 65, [1])], "sequence 0: 65 tokens, the process reward model reads at most 64"),
        ([([3, 99], [1])], "sequence 0: token id outside the process reward model's vocabulary of 24"),
        ([([3, 4], [3])], "sequence 0: places must be in 1 to 2"),
    ],
)
def test_wrong_sequences_are_one_clear_line(sequences, expected, prm):
    with pytest.raises(InputError, match=expected):
        scores(str(prm.model_path), sequences)


def test_a_policy_is_no_process_reward_model(tiny, tmp_path):
    with pytest.raises(InputError, match="is LlamaForCausalLM with 2 labels; expected a token-classification model"):
        scores(str(tiny), [([3], [1])])
    with pytest.raises(InputError, match="can't be loaded"):
        scores(str(tmp_path), [([3], [1])])


# --- the labeler --------------------------------------------------------------------------------

PROBLEM = Problem("p", "test", "train", "mit", "?", "7")
STEPS = [Span(0, 2, "ab"), Span(2, 3, "c"), Span(3, 5, "de")]


def task(verdict: str, values: list[float] | None) -> Task:
    beliefs = None if values is None else [math.log(v) for v in values]
    return Task(PROBLEM, verdict, exact(0.5), STEPS, beliefs=beliefs)


def test_values_and_advantages_of_the_labeler():
    labeler = PrmLabeler(0.9)
    labeler.start([task(INCORRECT, [0.6, 0.7, 0.1, 0.3]), task(CORRECT, None)])
    assert labeler.ask() == []
    values = [v.value for v in labeler.values(0) if v]
    assert values == pytest.approx([0.7, 0.1, 0.0])  # the last is the verdict, not the model's 0.3
    found = [a for a in labeler.advantages(0) if a]
    assert [a.value for a in found] == pytest.approx([0.1, -0.6, -0.1])
    assert all(a.low == a.value == a.high for a in found)
    assert labeler.values(1) == labeler.advantages(1) == [None, None, None]


def test_best_of_is_applied_to_the_models_values():
    labeler = PrmLabeler(0.9, best_of=2)
    labeler.start([task(CORRECT, [0.5, 0.5, 0.2, 0.9])])
    assert [v.value for v in labeler.values(0) if v] == pytest.approx([0.75, 0.36, 1.0])
    assert [a.value for a in labeler.advantages(0) if a] == pytest.approx([0.0, -0.39, 0.64])
