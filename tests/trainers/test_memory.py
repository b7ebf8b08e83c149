"""What memory a training step may take: no method makes all of a batch's logits, and every method trains with
gradient checkpointing and in bfloat16, to the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from negrl.methods import METHODS, SharedPrefixes
from negrl.policy import LoraSection, PolicySection
from negrl.trainers import compat
from negrl.trainers.fit import Training, fit
from negrl.trainers.head import AT_LEAST
from tests.trainers.helpers import advantage_rows, build, sft_rows
from tests.trainers.test_fit import difference, weights
from tests.trainers.test_methods import unary_rows
from tests.trainers.test_process_reward import value_rows
from tests.trainers.test_step_grpo import model as five_tokens  # noqa: F401 - a fixture
from tests.trainers.test_step_grpo import recipe as online_recipe
from tests.trainers.test_step_grpo import train as train_online
from tests.trainers.test_tree_training import advantages, answers, pairs

pytestmark = pytest.mark.slow

VOCABULARY = 20_000
LIMIT = (AT_LEAST + 10) * VOCABULARY
"""Numbers: a tile of logits and a little. Every batch below has twice as many tokens to score."""
ROWS_OF = {
    "sft": lambda: sft_rows(16),
    "rft": answers,
    "preference": pairs,
    "step_preference": pairs,
    "unary": lambda: unary_rows(16, 16),
    "advantage": advantages,  # a third of them without logprobs, which the start policy scores
    "outcome": lambda: advantage_rows(16),
    "pass_rate": advantages,
    "confidence": advantages,
    "prefix": advantages,
    "process_reward": lambda: value_rows(16),
}
"""View -> rows that share prefixes, where such rows are to be expected."""
OFFLINE = {name: method for name, method in METHODS.items() if not method.online}
ROWS = {name: ROWS_OF[method.view] for name, method in OFFLINE.items()}
WITH_HEAD = [name for name, method in OFFLINE.items() if method.makes_policy]
SHARING = [name for name in WITH_HEAD if issubclass(METHODS[name].options, SharedPrefixes)]


def train(method, rows, model, out, lora=False, dtype="float32", **fields):
    base = {"learning_rate": 1e-3, "per_device_train_batch_size": 32, "max_steps": 1, "logging_steps": 1}
    policy = PolicySection(model=str(model), dtype=dtype, lora=LoraSection(r=4) if lora else None)
    return fit(Training(METHODS[method], {**base, **fields}, policy, str(model)), rows, type(rows[0]), out)


class TooLarge(Exception):
    pass


class Watch(TorchDispatchMode):
    """Fails on the first tensor with more numbers than LIMIT in memory, forward or backward."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                numbers = tensor.untyped_storage().nbytes() // tensor.element_size()
                if numbers > LIMIT:
                    raise TooLarge(f"{func} makes {tuple(tensor.shape)}, {numbers:,} numbers")
        return out


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a large vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = build(tmp_path_factory.mktemp("wide") / "model")
    config = LlamaConfig.from_pretrained(folder, vocab_size=VOCABULARY, hidden_size=8, intermediate_size=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


CASES = [(method, False) for method in WITH_HEAD] + [(method, True) for method in SHARING]


@pytest.mark.parametrize(("method", "shared"), CASES)
def test_no_method_makes_a_batch_of_logits(method, shared, wide, tmp_path, monkeypatch):
    rows = ROWS[method]()
    fields = {"share_prefixes": shared} if method in SHARING else {}
    with Watch():
        result = train(method, rows, wide, tmp_path / "tiles", **fields)
    assert result.steps == 1
    if shared and METHODS[method].view != "outcome":
        assert result.log_history[0]["tokens_per_unique"] > 1.2
    monkeypatch.setattr(compat, "SMALL_LOGITS", 1 << 50)  # one tile for everything: does the watch see it?
    with pytest.raises(TooLarge, match=str(VOCABULARY)), Watch():
        train(method, rows, wide, tmp_path / "whole", **fields)


@pytest.mark.parametrize("fields", [{"gradient_checkpointing": True}, {"dtype": "bfloat16"}, {"lora": True}])
@pytest.mark.parametrize("method", ["dpo", "step_advantage"])
def test_nor_with_what_saves_memory(method, fields, wide, tmp_path):
    with Watch():
        assert train(method, ROWS[method](), wide, tmp_path, **fields).steps == 1


def test_nor_do_the_guards(wide, tmp_path):
    guards = {"holdout": 0.34, "at_least": 1, "on_trip": "warn"}
    with Watch():
        result = train("step_advantage", advantages(), wide, tmp_path, guards=guards, anchor=0.1, kl=0.1)
    assert result.guard["held_out_problems"] == 2


def test_nor_a_reference_in_the_step(wide, tmp_path):
    with Watch():
        assert train("dpo", pairs(), wide, tmp_path, precompute_ref_log_probs=False).steps == 1


def test_the_watch_sees_plain_logits(wide):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(wide)
    ids = torch.tensor([r.input_ids[:8] for r in sft_rows(16)])
    with pytest.raises(TooLarge, match=r"\(16, 8, 20000\)|\(128, 20000\)"), Watch():
        model(input_ids=ids, labels=ids)


# --- checkpointing and bfloat16, method by method ---------------------------------------------------


def first(result) -> dict[str, float]:
    return {k: v for k, v in result.log_history[0].items() if isinstance(v, float)}


@pytest.mark.parametrize(("method", "lora"), [*((m, False) for m in ROWS), ("kto", True), ("step_advantage", True)])
def test_checkpointing_changes_nothing_and_bfloat16_little(method, lora, tiny, tmp_path, monkeypatch):
    from torch.utils import checkpoint

    ran = []
    original = checkpoint.checkpoint
    for place in (checkpoint, __import__("transformers").modeling_utils):
        monkeypatch.setattr(place, "checkpoint", lambda *a, **k: ran.append(1) or original(*a, **k))
    rows = ROWS[method]()
    plain = train(method, rows, tiny, tmp_path / "plain", lora)
    assert not ran
    again = train(method, rows, tiny, tmp_path / "again", lora, gradient_checkpointing=True)
    assert ran
    low = train(method, rows, tiny, tmp_path / "low", lora, dtype="bfloat16", gradient_checkpointing=True)
    one, two, three = first(plain), first(again), first(low)
    for key in ("loss", "grad_norm"):
        assert two[key] == pytest.approx(one[key], rel=1e-5), key
        assert three[key] == pytest.approx(one[key], rel=0.05, abs=0.01), key
    assert difference(weights_of(again, method), weights_of(plain, method)) < 1e-6
    kinds = {value.dtype for value in weights_of(low, method).values()}
    assert kinds == {torch.bfloat16}


def weights_of(result, method) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(result.model_path / "model.safetensors")


def test_online_too(five_tokens, tmp_path):  # noqa: F811
    """step_grpo: the model draws, is labelled and takes a step; with adapters."""
    results = {}
    for name, dtype, fields in (
        ("plain", "float32", {}), ("again", "float32", {"gradient_checkpointing": True}), ("low", "bfloat16", {}),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        wanted = online_recipe(five_tokens, tmp_path / name)
        wanted.policy = wanted.policy.model_copy(update={"dtype": dtype, "lora": LoraSection(r=4)})
        results[name] = train_online(five_tokens, tmp_path / name, wanted, **fields)
    one, two, three = (first(results[name]) for name in ("plain", "again", "low"))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert three["generated_tokens"] > 0 and three["grad_norm"] > 0  # it draws other responses
    assert difference(weights(results["plain"].model_path), weights(results["again"].model_path)) < 1e-6
