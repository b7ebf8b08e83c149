"""Whole trainings with and without prefix sharing, and the plan of batches that makes it worth it."""

import dataclasses
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from negrl.records import AdvantageRow, PreferenceRow, SftRow, to_arrow
from negrl.trainers import compat
from negrl.trainers.batches import GlobalBatches
from negrl.trainers.rows import training_columns
from tests import processes
from tests.trainers import test_fit
from tests.trainers.helpers import tokens
from tests.trainers.test_batches import steps_of
from tests.trainers.test_fit import difference, run, weights


def pairs(problems=6, each=4, seed=0):
    """Step pairs: those of a problem share its prompt and some of the steps after it."""
    rng = random.Random(seed)
    out = []
    for p in range(problems):
        prompt = tokens(rng, 10)
        trace = tokens(rng, 12)
        for i in range(each):
            start = prompt + trace[: rng.choice([0, 4, 8])]
            sides = [tokens(rng, rng.randint(2, 6)) for _ in range(2)]
            out.append(PreferenceRow(f"p{p}", f"c{p}.{i}", f"r{p}.{i}", start, *sides))
    return out


def advantages(problems=6, each=4, seed=0):
    """Traces that leave one another after some steps; a third of them without logprobs."""
    rng = random.Random(seed)
    out = []
    for p in range(problems):
        prompt, trunk = tokens(rng, 8), [tokens(rng, 5) for _ in range(4)]
        for i in range(each):
            kept = rng.randrange(4)
            steps = [*trunk[:kept], *(tokens(rng, rng.randint(2, 6)) for _ in range(4 - kept))]
            response = [t for step in steps for t in step]
            ids = [-1] * len(prompt) + [k for k, step in enumerate(steps) for _ in step]
            worth = [0.0, *(rng.choice([-0.6, 0.0, 0.8]) for _ in steps)]
            out.append(
                AdvantageRow(
                    problem_id=f"p{p}",
                    trace_id=f"t{p}.{i}",
                    input_ids=prompt + response,
                    labels=[-100] * len(prompt) + response,
                    advantages=[worth[k + 1] if k >= 0 else 0.0 for k in ids],
                    logprobs=[] if i % 3 == 2 else [0.0] * len(prompt) + [-2.0] * len(response),
                    step_ids=ids,
                    correct=i % 2 == 0,
                )
            )
    return out


def answers(problems=6, each=4):
    return [SftRow(r.problem_id, r.trace_id, r.input_ids, r.labels) for r in advantages(problems, each)]


ROWS = {"rft": answers, "dpo": pairs, "step_dpo": pairs, "step_advantage": advantages}
test_fit.KINDS.setdefault("rft", (None, SftRow))  # `run` looks the row type up there
COMPARED = {"loss", "grad_norm", "entropy", "kl", "positive/logp", "negative/ratio", "logps/chosen", "rewards/margins"}
LIVELY = {"guards": None, "learning_rate": 1e-3, "num_train_epochs": 4}


def logs(result):
    return [line for line in result.log_history if "loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rft", "dpo", "step_dpo", "step_advantage"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_trained_model_is_the_same_with_and_without(method, checkpointing, tiny, tmp_path, monkeypatch):
    ran = []
    inputs = compat.model_inputs
    monkeypatch.setattr(compat, "model_inputs", lambda tree: ran.append(tree) or inputs(tree))
    rows = ROWS[method]()
    fields = {**LIVELY, "train_sampling_strategy": "sequential", "gradient_checkpointing": checkpointing}
    if method == "step_advantage":
        fields |= {"anchor": 0.05, "kl": 0.1}
    on = run(method, rows, tiny, tmp_path / "on", fields)
    assert len(ran) >= 12
    off = run(method, rows, tiny, tmp_path / "off", {**fields, "share_prefixes": False})
    assert difference(weights(on.model_path), weights(off.model_path)) < 2e-5
    assert difference(weights(on.model_path), weights(tiny)) > 1e-3
    assert len(logs(on)) == len(logs(off)) == 12
    for one, other in zip(logs(on), logs(off), strict=True):
        for key in COMPARED & one.keys() & other.keys():
            assert one[key] == pytest.approx(other[key], rel=1e-3, abs=1e-5), key
        assert one["tokens_per_unique"] > 1.3 and "tokens_per_unique" not in other


@pytest.mark.slow
def test_the_reference_computed_in_the_step_is_on_the_tree_too(tiny, tmp_path):
    fields = {**LIVELY, "train_sampling_strategy": "sequential", "precompute_ref_log_probs": False}
    on = run("dpo", pairs(), tiny, tmp_path / "on", fields)
    off = run("dpo", pairs(), tiny, tmp_path / "off", {**fields, "share_prefixes": False})
    assert difference(weights(on.model_path), weights(off.model_path)) < 2e-5
    assert logs(on)[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "step_advantage"])
def test_the_cut_into_micro_batches_changes_nothing(method, tiny, tmp_path):
    """1 x 16 = 2 x 8 = 8 x 2, with trees (16 rows share more than 2) and without."""
    models = []
    for rows, accumulation, shared in ((16, 1, True), (8, 2, True), (2, 8, True), (8, 2, False)):
        fields = {
            **LIVELY,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": accumulation,
            "share_prefixes": shared,
            "train_sampling_strategy": "random" if shared else "sequential",
        }
        result = run(method, ROWS[method](), tiny, tmp_path / f"{rows}-{shared}", fields)
        models.append((shared, weights(result.model_path)))
    whole = models[0][1]
    for shared, model in models[1:]:
        if shared:
            assert difference(model, whole) < 2e-5
        else:  # another order of rows
            assert difference(model, whole) > 1e-4


@pytest.mark.slow
def test_two_processes_with_trees_train_what_one_does(tiny, tmp_path):
    done = processes.run(__file__, tiny, tmp_path / "two", 2, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    train(str(tiny), tmp_path / "one", 8)
    for name in ("step_dpo", "step_advantage"):
        found = [weights(tmp_path / n / name / "model") for n in ("one", "two")]
        assert difference(*found) < 1e-5 and difference(found[0], weights(tiny)) > 1e-3
        lines = [json.loads(x) for x in (tmp_path / "two" / name / "log.jsonl").read_text().splitlines()]
        assert any(line.get("tokens_per_unique", 0) > 1.2 for line in lines)


def train(model, out, rows_per_process):
    for name in ("step_dpo", "step_advantage"):
        run(name, ROWS[name](), model, out / name, {**LIVELY, "per_device_train_batch_size": rows_per_process})


@pytest.mark.slow
def test_a_model_that_can_not_share_trains_without_and_says_so(tmp_path, tiny, caplog):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    shape = {"vocab_size": 24, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    config = AutoConfig.for_model("mistral", **shape, **heads, sliding_window=8)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mistral")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "mistral")
    result = run("step_dpo", pairs(), tmp_path / "mistral", tmp_path / "out", LIVELY)
    assert "tokens_per_unique" not in logs(result)[0]
    said = [r.getMessage() for r in caplog.records if "prefixes are not shared" in r.getMessage()]
    assert said == ["prefixes are not shared in MistralForCausalLM: it attends in a sliding window of 8"]


def plan(groups, **options):
    return GlobalBatches(np.ones(len(groups)), options.pop("rows", 8), 1, seed=3, groups=np.array(groups), **options)


def test_rows_of_a_problem_stay_together_in_every_epoch():
    groups = [i // 4 for i in range(40)]
    for epoch in range(3):
        order = [i for b in plan(groups).global_batches(epoch) for i in b]
        assert sorted(order) == list(range(40))
        assert [order[i : i + 4] for i in range(0, 40, 4)] == [
            list(range(4 * groups[i], 4 * groups[i] + 4)) for i in order[::4]
        ]
    assert plan(groups).global_batches(0) != plan(groups).global_batches(1)


def test_groups_of_one_row_are_no_groups():
    alone = list(range(37))
    without = GlobalBatches(np.ones(37), 8, 1, seed=3)
    assert plan(alone).global_batches(2) == without.global_batches(2)
    by_length = plan([0] * 37, order="group_by_length")
    assert by_length.global_batches(0) == GlobalBatches(
        np.ones(37), 8, 1, seed=3, order="group_by_length"
    ).global_batches(0)


@pytest.mark.slow
def test_problems_are_numbered_as_they_come():
    rows = [dataclasses.replace(r, problem_id=p) for r, p in zip(pairs(1, 4), "baba", strict=True)]
    table = training_columns(to_arrow(PreferenceRow, rows), PreferenceRow)
    assert table.column("problem").to_pylist() == [0, 1, 0, 1]


def test_any_layout_has_the_same_grouped_batches(monkeypatch):
    from tests.trainers import test_batches

    real = test_batches.GlobalBatches
    monkeypatch.setattr(test_batches, "GlobalBatches", lambda *a, **k: real(*a, **k, groups=np.arange(37) // 3))
    for layout in [(4, 2, 1), (2, 2, 2), (1, 8, 1)]:
        assert steps_of(layout) == steps_of((8, 1, 1))


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]), 8 // int(sys.argv[3]))
