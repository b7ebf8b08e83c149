"""What is the transformers engine's own: batches, padding, its random numbers, odd models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from negrl.engines import Request, open_engine
from negrl.engines.section import EngineSection
from negrl.errors import InputError
from negrl.recipe import PolicySection

MIXED = [
    Request([3 + (i * 7 + j) % 20 for j in range(1 + (i * 5) % 17)], n=1 + i % 3, seed=i, max_tokens=2 + (i * 3) % 25)
    for i in range(24)
]


def engine_on(folder: Path, **fields: Any) -> Any:
    section = EngineSection(**{"batch_size": 512, "device": "cpu", **fields})
    return open_engine(section, str(folder), PolicySection(model=str(folder)))


@pytest.mark.parametrize("model", ["llama", "qwen2"])
def test_batch_size_padding_and_compaction_change_nothing(models: dict[str, Path], model: str) -> None:
    """One by one no prompt is padded, no cache is spread or cut down."""
    alone = engine_on(models[model], batch_size=1).generate(MIXED)
    for batch_size in (7, 512):
        together = engine_on(models[model], batch_size=batch_size).generate(MIXED)
        for left, right in zip(alone, together, strict=True):
            assert [c.token_ids for c in left] == [c.token_ids for c in right]
            for one, other in zip(left, right, strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_long_prompts_in_pieces(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from negrl.engines.transformers import engine as decoding

    engine = engine_on(models["llama"])
    whole = engine.generate(MIXED)
    monkeypatch.setattr(decoding, "_PREFILL_TOKENS", 3 * len(MIXED))
    pieces = engine.generate(MIXED)
    assert [c.token_ids for g in pieces for c in g] == [c.token_ids for g in whole for c in g]


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_learned_positions_and_sliding_windows(models: dict[str, Path], tmp_path: Path, family: str) -> None:
    """GPT-2's position table ends at the context; Gemma 3 mixes sliding and full attention."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3TextConfig, GPT2Config

    tokenizer: Any = AutoTokenizer.from_pretrained(models["llama"])
    ids: dict[str, Any] = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    config: Any
    if family == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=48, initializer_range=0.3, **ids)
    else:
        config = Gemma3TextConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            head_dim=32, max_position_embeddings=48, sliding_window=6, initializer_range=0.2,
            layer_types=["sliding_attention", "full_attention"], **ids,
        )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    # The long prompts end long before the many that share their batch.
    requests = [*MIXED, Request([5] * 46, n=3, seed=1, max_tokens=40), Request([6], n=80, seed=2, max_tokens=6)]
    alone = engine_on(tmp_path, batch_size=1).generate(requests)
    together = engine_on(tmp_path).generate(requests)
    for request, left, right in zip(requests, alone, together, strict=True):
        assert [c.token_ids for c in left] == [c.token_ids for c in right]
        for completion in right:
            whole = request.prompt_token_ids + completion.token_ids
            with torch.no_grad():
                scores = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            start = len(request.prompt_token_ids)
            expected = [scores[i - 1, whole[i]].item() for i in range(start, len(whole))]
            assert completion.logprobs == pytest.approx(expected, abs=1e-3)


def test_uniforms_are_uniform_and_unrelated() -> None:
    import torch

    from negrl.engines.transformers.sampler import uniforms

    seeds = torch.arange(20_000)
    here, next_position, next_seed = uniforms(seeds, 0), uniforms(seeds, 1), uniforms(seeds + 1, 0)
    assert here.min() >= 0 and here.max() < 1
    counts = torch.histc(here, bins=50, min=0, max=1)
    assert ((counts - 400) ** 2 / 400).sum() < 49 + 4 * (2 * 49) ** 0.5
    for other in (next_position, next_seed):
        assert abs(torch.corrcoef(torch.stack([here, other]))[0, 1]) < 4 / 20_000**0.5
    assert len(set(here.tolist()) | set(next_position.tolist())) == 40_000


def test_draw_in_slices_and_never_a_token_without_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from negrl.engines.transformers import sampler

    logits = torch.randn(64, 50, generator=torch.Generator().manual_seed(0))
    logits[:, 0] = logits[:, -1] = float("-inf")
    rules = sampler.Rules.of([Request([1], top_p=0.9)] * 64, logits.device)
    numbers = sampler.uniforms(torch.arange(64), 0)
    numbers[0], numbers[1] = 0.0, 1 - 2.0**-48
    whole = sampler.draw(logits, rules, numbers)
    assert torch.isfinite(whole[1]).all()
    monkeypatch.setattr(sampler, "_CELLS", 500)
    for left, right in zip(whole, sampler.draw(logits, rules, numbers), strict=True):
        assert torch.equal(left, right)


def test_a_diverged_policy_is_said_not_sampled(models: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(models["llama"])
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(models["llama"]).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="not finite"):
        engine_on(tmp_path).generate([Request([5], max_tokens=4)])


def test_what_cannot_be_opened_is_one_line(models: dict[str, Path], tmp_path: Path) -> None:
    for fields, folder, message in (
        ({"device": "gpu"}, models["llama"], "engine.device: 'gpu'"),
        ({}, tmp_path, "policy.model: cannot load"),
    ):
        with pytest.raises(InputError) as error:
            engine_on(folder, **fields)
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_pickled_weights_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(models["llama"])
    model.config.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(models["llama"]).save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load"):
        engine_on(tmp_path)


def test_closed_twice_and_used_after(models: dict[str, Path]) -> None:
    engine = engine_on(models["llama"])
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="closed"):
        engine.generate([Request([5])])
