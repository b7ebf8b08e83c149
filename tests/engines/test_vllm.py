"""What is vLLM's own: options, prefix sharing, interruption, and the process that it leaves behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from negrl.engines import Request, open_engine
from negrl.engines.section import EngineSection
from negrl.errors import InputError
from negrl.recipe import PolicySection

pytestmark = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed")


def engine_on(folder: Path, kind: str = "vllm", **fields: Any) -> Any:
    return open_engine(EngineSection(kind=kind, **fields), str(folder), PolicySection(model=str(folder)))


@pytest.mark.slow
def test_options_are_checked_by_name(models: dict[str, Path]) -> None:
    before = dict(os.environ)
    for fields, message in (
        ({"options": {"max_num_seq": 4}}, "unknown option 'max_num_seq' of vllm.LLM (did you mean 'max_num_seqs'?)"),
        ({"options": {"dtype": "float16"}}, "engine.options.dtype: set policy.dtype instead"),
        (
            {"options": {"load_format": "auto"}},
            "engine.options.load_format: set nothing: negrl loads weights from",
        ),
        ({"device": "cuda:7"}, "engine.device: 'cuda:7'"),
    ):
        with pytest.raises(InputError) as error:
            engine_on(models["llama"], **fields)
        assert message in str(error.value) and "\n" not in str(error.value)
    assert dict(os.environ) == before


@pytest.mark.slow
def test_what_vllm_cannot_run_is_one_line(models: dict[str, Path], tmp_path: Path) -> None:
    """A head_dim of 16: its CPU kernels refuse at the first token, not while loading."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    small = LlamaConfig.from_pretrained(models["llama"], hidden_size=32, head_dim=16)
    LlamaForCausalLM(small).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(models["llama"]).save_pretrained(tmp_path)
    before = dict(os.environ)
    cases = [({"max_model_len": "abc"}, "unable to parse string as an integer")]
    if not torch.cuda.is_available():
        cases.append(({}, "Unsupported CPU attention configuration: head_dim=16"))
    for options, words in cases:
        with pytest.raises(InputError) as error:
            engine_on(tmp_path, options=options)
        message = str(error.value)
        assert message.startswith(f"engine.kind: vllm can't load '{tmp_path}': ") and words in message
        assert message.endswith("; use engine.kind: transformers") and "\n" not in message
        assert dict(os.environ) == before and not torch.distributed.is_initialized()


@pytest.mark.slow
def test_weights_come_from_safetensors_alone(models: dict[str, Path], tmp_path: Path) -> None:
    """By itself vLLM would load a .bin, which is a pickle: of a hub id nobody has looked at the files."""
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(models["llama"], tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"^engine.kind: vllm can't load '.*': .*; use engine.kind: transformers$"):
        engine_on(folder)


@pytest.mark.slow
def test_prefix_cache_interruption_and_the_process_afterwards(models: dict[str, Path]) -> None:
    import torch

    before, threads, set_threads = dict(os.environ), torch.get_num_threads(), torch.set_num_threads
    engine = engine_on(models["llama"], options={"disable_log_stats": False, "max_num_seqs": 8})
    prompt = [3 + i % 20 for i in range(40)]
    greedy = Request(prompt, max_tokens=10, temperature=0.0)
    many = Request(prompt, n=16, max_tokens=10, seed=1)
    try:
        first = engine.generate([greedy, many])
        hits = {m.name: m.value for m in engine._llm.get_metrics() if m.name.startswith("vllm:prefix_cache")}
        assert hits["vllm:prefix_cache_hits"] >= 32 * 8  # block size 32; the first 8 run side by side

        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.generate([many], on_tokens=interrupt)
        # Nothing of the interrupted call turns up, and the sample streams start afresh.
        assert engine.generate([greedy, many]) == first

        with pytest.raises(InputError, match="request 1: temperature is 3"):
            engine.generate([greedy, Request([5], temperature=3.0)])
    finally:
        engine.close()
    engine.close()
    with pytest.raises(InputError, match="closed"):
        engine.generate([greedy])
    assert dict(os.environ) == before
    assert torch.set_num_threads is set_threads and torch.get_num_threads() == threads
    assert not torch.distributed.is_initialized()
    # The other engine works in the process that vLLM has left, and agrees with it.
    other = engine_on(models["llama"], kind="transformers", device="cpu")
    assert other.generate([greedy])[0][0].token_ids == first[0][0].token_ids
