"""Adapters: what is trained, what is saved, and that all else is as it is without them."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from negrl.errors import InputError
from negrl.methods import METHODS
from negrl.policy import LoraSection, PolicySection
from negrl.trainers.checkpoints import is_whole
from negrl.trainers.config import configure
from negrl.trainers.fit import Training, fit
from negrl.trainers.loading import load_network
from tests import processes
from tests.trainers.helpers import advantage_rows, build, pair_rows, sft_rows
from tests.trainers.test_fit import difference, load, weights
from tests.trainers.test_methods import outcome_rows, unary_rows
from tests.trainers.test_process_reward import value_rows
from tests.trainers.test_resume import Killed, kill_at
from tests.trainers.test_tree_training import ROWS as SHARING

HERE = Path(__file__).parent
ROWS = {
    "sft": lambda: sft_rows(16),
    "dft": lambda: sft_rows(16),
    "dpo": lambda: pair_rows(16),
    "kto": lambda: unary_rows(8, 8),
    "step_dpo": lambda: pair_rows(16),
    "step_advantage": lambda: advantage_rows(16, logprob=None),
    "nsr": lambda: advantage_rows(16),
    "topr": lambda: advantage_rows(16),
    "nft": lambda: outcome_rows(8, 8, 0.5, logprob=-2.0, down=-0.5),
}
SMALL = {"r": 4, "alpha": 12}


def train(method, rows, model, out, lora=SMALL, dtype="float32", seed=0, on_step=None, **fields):
    base = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "num_train_epochs": 1, "logging_steps": 1}
    policy = PolicySection(model=str(model), dtype=dtype, lora=None if lora is None else LoraSection(**lora))
    return fit(
        Training(METHODS[method], {**base, **fields}, policy, str(model), seed), rows, type(rows[0]), out, on_step
    )


def by_hand(model: Path, adapter: Path, scale: float) -> dict[str, torch.Tensor]:
    """The start's weights, with scale * B A added where the adapter's file has them."""
    whole, parts = {k: v.float() for k, v in weights(model).items()}, load_file(adapter / "adapter_model.safetensors")
    for name, a in parts.items():
        if "lora_A" in name:
            target = name.removeprefix("base_model.model.").replace("lora_A.", "")
            whole[target] = whole[target] + scale * parts[name.replace("lora_A", "lora_B")].float() @ a.float()
    return whole


# --- what comes out -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", list(ROWS))
def test_the_model_is_the_start_plus_the_adapter(method, tiny, tmp_path):
    result = train(method, ROWS[method](), tiny, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "fit.json", "log.jsonl", "model"]
    assert not list(tmp_path.rglob("*.bin"))
    expected = by_hand(tiny, tmp_path / "adapter", 12 / 4)
    trained = weights(result.model_path)
    assert difference(trained, expected) < 1e-6 and difference(trained, weights(tiny)) > 1e-3
    # All linear modules changed, and nothing else: the head, which is tied to the embeddings, did not.
    changed = {name for name, before in weights(tiny).items() if not torch.equal(before, trained[name])}
    assert changed == {name for name in expected if name.endswith("proj.weight")}
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(result.model_path).eos_token == "<eos>"


@pytest.mark.slow
def test_peft_reads_the_adapter(tiny, tmp_path):
    from peft import PeftModel

    result = train("sft", sft_rows(16), tiny, tmp_path, {**SMALL, "use_rslora": True, "target_modules": ["q_proj"]})
    ids = torch.tensor([sft_rows(1)[0].input_ids])
    with torch.no_grad():
        found = PeftModel.from_pretrained(load(tiny), tmp_path / "adapter")(ids).logits
        torch.testing.assert_close(found, load(result.model_path)(ids).logits, rtol=0, atol=1e-5)
    assert difference(weights(result.model_path), by_hand(tiny, tmp_path / "adapter", 12 / 4**0.5)) < 1e-6


@pytest.mark.slow
def test_the_seed_alone_makes_the_adapter(tiny, tmp_path):
    torch.manual_seed(1)
    one = train("sft", sft_rows(16), tiny, tmp_path / "a", seed=3)
    torch.manual_seed(2)
    other = train("sft", sft_rows(16), tiny, tmp_path / "b", seed=3)
    assert difference(weights(one.model_path), weights(other.model_path)) == 0
    third = train("sft", sft_rows(16), tiny, tmp_path / "c", seed=4)
    assert difference(weights(one.model_path), weights(third.model_path)) > 1e-3


@pytest.mark.slow
def test_in_bfloat16_the_frozen_weights_are_rounded_and_the_adapters_are_not(tiny, tmp_path, monkeypatch):
    from negrl.trainers import lora

    held = {}
    original = lora.hold_in_float32

    def spy(model):
        original(model)
        held.update({name: p.dtype for name, p in model.named_parameters()})

    monkeypatch.setattr(lora, "hold_in_float32", spy)
    result = train("step_advantage", ROWS["step_advantage"](), tiny, tmp_path, dtype="bfloat16", num_train_epochs=2)
    kinds = {("lora" in name, dtype) for name, dtype in held.items()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    merged = load_file(result.model_path / "model.safetensors")
    assert {v.dtype for v in merged.values()} == {torch.bfloat16}
    assert {v.dtype for v in load_file(tmp_path / "adapter" / "adapter_model.safetensors").values()} == {torch.float32}
    # Merged in float32, from the start's own float32 weights, and rounded once.
    expected = by_hand(tiny, tmp_path / "adapter", 3)
    assert all(torch.equal(value, expected[name].bfloat16()) for name, value in merged.items())


@pytest.mark.slow
def test_modules_to_save_are_trained_whole_and_merged(tiny, tmp_path):
    result = train("sft", sft_rows(16), tiny, tmp_path, {**SMALL, "modules_to_save": ["norm"]})
    before, after = weights(tiny), weights(result.model_path)
    assert not torch.equal(before["model.norm.weight"], after["model.norm.weight"])
    assert torch.equal(before["model.layers.0.input_layernorm.weight"], after["model.layers.0.input_layernorm.weight"])


@pytest.mark.slow
def test_a_whole_head_is_trained_where_it_is_not_tied(tmp_path):
    model = build(tmp_path / "untied", tied=False)
    result = train("sft", sft_rows(16), model, tmp_path / "out", {**SMALL, "modules_to_save": ["lm_head"]})
    before, after = weights(model), weights(result.model_path)
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert result.log_history[1]["loss"] < result.log_history[0]["loss"]


@pytest.mark.slow
def test_a_process_reward_model_keeps_its_trained_head(tiny, tmp_path):
    from transformers import AutoModelForTokenClassification

    rows = value_rows(32)
    result = train("process_reward", rows, tiny, tmp_path, gradient_checkpointing=True)
    model = AutoModelForTokenClassification.from_pretrained(result.model_path)
    policy = PolicySection(model=str(tiny))
    start = load_network(str(tiny), policy, {}, METHODS["process_reward"].network)[0].state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    assert {"score.weight", "model.layers.1.mlp.up_proj.weight"} <= changed
    assert changed - {"score.weight", "score.bias"} == {n for n in start if n.endswith("proj.weight")}


@pytest.mark.slow
def test_full_training_after_adapters_leaves_no_adapter(tiny, tmp_path):
    train("sft", sft_rows(8), tiny, tmp_path)
    train("sft", sft_rows(8), tiny, tmp_path, lora=None)
    assert not (tmp_path / "adapter").exists()


# --- the reference, kills, processes, trees ----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_reference_is_the_start_known_before_or_not(method, tiny, tmp_path):
    """No second model: the policy with its adapters off. Both ways the same, and the start's own value first."""
    rows, models = ROWS[method](), []
    for known in (True, False):
        result = train(
            method, rows, tiny, tmp_path / str(known), precompute_ref_log_probs=known, num_train_epochs=2, guards=None
        )
        assert result.log_history[0]["loss"] == pytest.approx(0.693147 if method == "dpo" else 0.5, abs=1e-5)
        models.append(weights(result.model_path))
    assert difference(*models) < 1e-5


FIELDS = {"num_train_epochs": 3, "save_steps": 4, "save_total_limit": 2, "lr_scheduler_type": "cosine"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "step_advantage"])
def test_a_killed_training_goes_on_from_its_adapter(method, tiny, tmp_path):
    rows = {"dpo": pair_rows, "step_advantage": lambda n: advantage_rows(n, logprob=None)}[method](36)
    lora = {**SMALL, "dropout": 0.2 if method == "step_advantage" else 0.0}
    whole = train(method, rows, tiny, tmp_path / "whole", lora, **FIELDS)
    with pytest.raises(Killed):
        train(method, rows, tiny, tmp_path / "out", lora, on_step=kill_at(11), **FIELDS)
    checkpoint = tmp_path / "out" / "checkpoints" / "checkpoint-8"
    assert is_whole(checkpoint) and (checkpoint / "adapter_model.safetensors").exists()
    assert not (checkpoint / "model.safetensors").exists()
    steps = []
    resumed = train(method, rows, tiny, tmp_path / "out", lora, on_step=lambda s, *_: steps.append(s), **FIELDS)
    assert steps == list(range(9, 16))
    assert difference(weights(whole.model_path), weights(resumed.model_path)) < 1e-6


@pytest.mark.slow
def test_half_an_adapter_is_no_checkpoint(tiny, tmp_path):
    with pytest.raises(Killed):
        train("sft", sft_rows(36), tiny, tmp_path, on_step=kill_at(5), **FIELDS)
    weights_file = tmp_path / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors"
    assert is_whole(weights_file.parent)
    weights_file.write_bytes(weights_file.read_bytes()[:-10])
    assert not is_whole(weights_file.parent)


@pytest.mark.slow
def test_other_adapters_are_another_training(tiny, tmp_path):
    steps = []

    def run(lora):
        steps.clear()
        train("sft", sft_rows(16), tiny, tmp_path, lora, on_step=lambda s, *_: steps.append(s))
        return list(steps)

    assert run(SMALL) == [1, 2] and run(SMALL) == []
    assert run({**SMALL, "r": 8}) == [1, 2] and run(None) == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["dpo", "step_advantage"])
def test_on_token_trees_the_same_adapter_is_learnt(method, checkpointing, tiny, tmp_path):
    rows = SHARING[method]()
    fields = {
        "num_train_epochs": 3, "learning_rate": 1e-3, "guards": None, "train_sampling_strategy": "sequential",
        "gradient_checkpointing": checkpointing,
    }  # fmt: skip
    on = train(method, rows, tiny, tmp_path / "on", **fields)
    off = train(method, rows, tiny, tmp_path / "off", share_prefixes=False, **fields)
    assert on.log_history[0]["tokens_per_unique"] > 1.3
    assert difference(weights(on.model_path), weights(off.model_path)) < 2e-5
    assert difference(weights(on.model_path), weights(tiny)) > 1e-3


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tiny, tmp_path):
    done = processes.run(__file__, tiny, tmp_path / "two", 4, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    both(tiny, tmp_path / "one", 8)
    for name in ("dpo", "step_advantage"):
        found = [weights(tmp_path / n / name / "model") for n in ("one", "two")]
        assert difference(*found) < 1e-5 and difference(found[0], weights(tiny)) > 1e-3


def both(model, out, rows_per_process):
    for name in ("dpo", "step_advantage"):
        train(
            name, ROWS[name](), model, out / name, num_train_epochs=2, learning_rate=1e-3,
            per_device_train_batch_size=rows_per_process,
        )  # fmt: skip


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lora", "expected"),
    [
        ({"target_modules": ["q_proj", "v_prj"]}, r"target_modules: the model has no module 'v_prj' \(did you mean"),
        ({"target_modules": "q_proj"}, "target_modules: no module's whole name matches 'q_proj', as in 'model.layers"),
        ({"target_modules": ["lm_head"]}, "target_modules: 'lm_head' can't have an adapter"),
        ({"target_modules": ".*embed_tokens"}, "target_modules: 'model.embed_tokens' can't have an adapter"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: 'lm_head' can't have"),
        ({"modules_to_save": ["nrom"]}, r"modules_to_save: the model has no module 'nrom' \(did you mean 'norm'"),
    ],
)
def test_modules_that_are_not_there_are_named(lora, expected, tiny, tmp_path):
    with pytest.raises(InputError, match=rf"policy\.lora\.{expected}"):
        train("sft", sft_rows(8), tiny, tmp_path, lora)


def test_wrong_settings_are_found_in_the_recipe(tmp_path):
    from negrl.recipe import load_recipe

    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\nproblems: {source: chain}\npolicy: {build: {}}\n")
    for override, expected in {
        "policy.lora.rank=8": "rank",
        "policy.lora.r=0": "policy.lora.r",
        "policy.lora.target_modules='('": "is not a valid pattern",
        "policy.load_in_4bit=true": "load_in_4bit: weights of 4 bits can't be trained: set policy.lora",
    }.items():
        with pytest.raises(InputError, match=expected):
            load_recipe(path, [override])
    policy = load_recipe(path, ["policy.lora.r=8"]).policy
    assert policy.lora == LoraSection(r=8) and policy.without_adapters().lora is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing on a machine without a GPU")
def test_four_bits_want_bitsandbytes_and_a_gpu(tiny, tmp_path, monkeypatch):
    policy = PolicySection(model=str(tiny), lora=LoraSection(), load_in_4bit=True)

    def configured():
        return configure(METHODS["sft"], {}, policy, 0, tmp_path)

    find = sys.modules["importlib.util"].find_spec
    for there, expected in ((None, "pip install bitsandbytes"), (find("json"), "needs an NVIDIA GPU")):
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda n, *a, t=there: t if n == "bitsandbytes" else find(n, *a)
        )
        with pytest.raises(InputError, match=rf"policy\.load_in_4bit: .*{expected}"):
            configured()


@pytest.mark.slow
def test_a_following_reference_is_refused(tiny, tmp_path):
    with pytest.raises(InputError, match=r"train\.sync_ref_model: not with policy\.lora"):
        train("dpo", pair_rows(8), tiny, tmp_path, sync_ref_model=True, precompute_ref_log_probs=False)


# --- the pipeline -------------------------------------------------------------------------------


def test_trainings_have_other_keys_and_samplings_the_same(tmp_path):
    from negrl.pipeline.learn import training_inputs
    from negrl.pipeline.traces import drawing
    from negrl.recipe import load_recipe

    tiny_recipe = HERE.parent / "pipeline" / "tiny.yaml"

    def inputs(*overrides):
        recipe = load_recipe(tiny_recipe, [f"output_dir={tmp_path}", *overrides])
        frame = types.SimpleNamespace(recipe=recipe)
        key = types.SimpleNamespace(key="k")
        return training_inputs(frame, key, key, recipe.resolved_arms["dpo"]), drawing(frame)

    full, one, other = inputs(), inputs("policy.lora.r=8"), inputs("policy.lora.r=4")
    assert "lora" not in full[0] and full[0] != one[0] != other[0]
    assert full[1] == one[1] == other[1]


@pytest.mark.slow
def test_a_recipe_trains_adapters_in_the_start_and_the_arms_only(tmp_path):
    """From a model that is built here, through sampling and labels, to an evaluation of the merged model."""
    import io

    from rich.console import Console

    from negrl.pipeline import run
    from negrl.progress import Reporter
    from negrl.recipe import load_recipe

    overrides = [
        f"output_dir={tmp_path}", "policy.lora.r=4", "policy.build.documents=1600", "problems.train=8",
        "problems.evaluate=8", "train.learning_rate=1e-3",
        *(f"arms.{name}=null" for name in ("rft", "dpo", "step_dpo", "step_advantage")),
    ]  # fmt: skip
    recipe = load_recipe(HERE.parent / "pipeline" / "tiny.yaml", overrides)
    run(recipe, Reporter(Console(file=io.StringIO())))
    adapters = sorted(p.parent.parent.name.split("-")[0] for p in tmp_path.rglob("adapter/adapter_config.json"))
    models = sorted(p.parent.parent.name.split("-")[0] for p in tmp_path.rglob("model/config.json"))
    assert adapters == ["start", "train"] and models == ["base", "start", "train"]
    results = json.loads(next(tmp_path.rglob("results.json")).read_text())
    assert 0 <= results["arms"]["sft"]["pass_at_1"] <= 1


if __name__ == "__main__":
    both(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
