"""What memory a training step takes where the vocabulary is large: three ways to score tokens, with and without
gradient checkpointing, LoRA and bfloat16.

    plain    transformers' own loss: all logits (B, T, V), in float32
    TRL      its fused head: tiles of 4096 tokens x 32768 of the vocabulary
    negrl    ours: tiles of 64 tokens x the whole vocabulary (more tokens where that is below 4 MB)

A step is forward, backward and AdamW's first step (fused, as transformers does it). Each cell has a process of its
own, whose peak above what it held with the model loaded (`VmHWM - VmRSS`, the kernel's account) is the step's
memory. That is on a CPU: a GPU's allocator is another, and TRL has a kernel there.
"""

from __future__ import annotations

import csv
import io
import itertools
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads are slower on a busy machine

from negrl.errors import InputError
from negrl.store import write_atomic
from negrl.terminal import safe, safe_lines

ROWS, LENGTH = 2, 384
MODEL = {
    "vocab_size": 150_000,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
HEADS = ("plain", "TRL", "negrl")
RANK = 16
SMALL = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
"""Of the model whose step goes before: what the libraries load and keep is no part of the step that is measured."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One cell. `model_mb`: the weights. `step_mb`: what a step adds at its peak. `loss`: so that it is seen that
    the heads do the same."""

    head: str
    checkpointing: bool
    lora: bool
    dtype: str
    model_mb: float
    step_mb: float
    loss: float


def main(out: Path) -> list[Measure]:
    """Measure all cells, print the page and write it to `out`.md and the cells to `out`.csv.

    Raises:
        InputError: the system does not tell a process's peak memory.
    """
    if not Path("/proc/self/clear_refs").exists():
        raise InputError("bench train-memory: reads a process's peak memory from Linux's /proc, which is not here")
    found = []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "negrl.trainers.compat", "negrl.trainers.lora", "peft"])
    for lora, dtype, checkpointing, head in itertools.product(
        (False, True), ("float32", "bfloat16"), (False, True), HEADS
    ):
        with ProcessPoolExecutor(1, context) as pool:
            found.append(pool.submit(measure, head, checkpointing, lora, dtype, MODEL).result())
        print(safe(_line(found[-1])), file=sys.stderr, flush=True)
    page = markdown(found, MODEL)
    print(safe_lines(page), end="")
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Measure)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(m), "model_mb": f"{m.model_mb:.1f}", "step_mb": f"{m.step_mb:.1f}"} for m in found)
    write_atomic(out.with_name(out.name + ".md"), page.encode())
    write_atomic(out.with_name(out.name + ".csv"), text.getvalue().encode())
    return found


def measure(head: str, checkpointing: bool, lora: bool, dtype: str, shape: dict[str, Any]) -> Measure:
    """One cell, in this process (whose peak it resets)."""
    import gc

    import torch

    from negrl.quiet import quiet

    with quiet():
        for this in ({**shape, **SMALL}, shape):
            model = _model(head, checkpointing, lora, dtype, this)
            torch.manual_seed(0)
            ids = torch.randint(2, this["vocab_size"], (ROWS, LENGTH))
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
            gc.collect()
            before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = _loss(model, head, ids)
            loss.backward()
            optimizer.step()
            added = _status("VmHWM") - before
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return Measure(head, checkpointing, lora, dtype, size / 2**20, added / 1024, float(loss.detach()))


def _model(head: str, checkpointing: bool, lora: bool, dtype: str, shape: dict[str, Any]) -> Any:
    """A Qwen2, ready to train: float32 weights, with LoRA frozen ones in `dtype`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from negrl.trainers.compat import add_small_head

    torch.manual_seed(0)
    model: Any = Qwen2ForCausalLM(Qwen2Config(**shape))
    if head != "plain":
        add_fused_lm_head(model)
    if head == "negrl":
        add_small_head(model)
    if lora:
        from peft import LoraConfig, TaskType, get_peft_model

        model = model.to(getattr(torch, dtype))
        config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
        model = get_peft_model(model, config)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def _loss(model: Any, head: str, ids: Any) -> Any:
    """NLL per token; every token but the first is trained."""
    import torch

    from negrl.trainers.compat import score

    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    if head == "plain":
        return model(**inputs, use_cache=False).loss
    scores = score(model, inputs)
    return -scores.log_probs.sum() / scores.mask.sum()


def _status(name: str) -> int:
    """kB, from the kernel's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1])


def _line(m: Measure) -> str:
    kind = f"{'LoRA' if m.lora else 'full'}, {m.dtype}{', checkpointing' if m.checkpointing else ''}"
    return f"{kind}, {m.head}: {m.step_mb:,.0f} MB (loss {m.loss:.5f})"


def markdown(found: Sequence[Measure], shape: dict[str, Any]) -> str:
    """What was measured, how, and the ratios."""
    import torch
    import transformers
    import trl

    logits = ROWS * LENGTH * shape["vocab_size"] * 4 / 2**20
    lines = [
        "# Memory of a training step at a large vocabulary",
        "",
        f"`negrl bench train-memory` on CPU, {os.cpu_count()} cores, OMP_NUM_THREADS="
        f"{os.environ.get('OMP_NUM_THREADS')}; torch {torch.__version__}, transformers {transformers.__version__}, "
        f"TRL {trl.__version__}.",
        "",
        f"{ROWS} rows of {LENGTH} tokens, vocabulary {shape['vocab_size']:,}; a Qwen2 of {shape['num_hidden_layers']} "
        f"layers x {shape['hidden_size']}, tied; LoRA of rank {RANK} on all linear modules but the head. All the "
        f"batch's logits in float32 are {logits:,.0f} MB. A step is forward, backward and AdamW's first step, and its "
        "memory what it adds at its peak to the loaded model: activations, logits, gradients and the optimizer's two "
        "moments. Each cell has a process of its own. bfloat16 is autocast over float32 weights; with LoRA the frozen "
        "weights are bfloat16 themselves.",
        "",
        "| trained | dtype | checkpointing | weights, MB | plain, MB | TRL's head, MB | ours, MB | plain / ours "
        "| TRL / ours |",
        "|---|---|---|" + "---:|" * 6,
    ]
    cells: dict[tuple[bool, str, bool], dict[str, Measure]] = {}
    for m in found:
        cells.setdefault((m.lora, m.dtype, m.checkpointing), {})[m.head] = m
    for (lora, dtype, checkpointing), by in cells.items():
        plain, trl_head, ours = (by[head].step_mb for head in HEADS)
        lines.append(
            f"| {'LoRA' if lora else 'all'} | {dtype} | {'on' if checkpointing else 'off'} "
            f"| {by['negrl'].model_mb:,.0f} | {plain:,.0f} | {trl_head:,.0f} | {ours:,.0f} "
            f"| {plain / ours:.1f}x | {trl_head / ours:.1f}x |"
        )
    steps = {key: by["negrl"].step_mb for key, by in cells.items()}
    most, least = max(m.step_mb for m in found), min(steps.values())
    # The same loss, or the memory compares two different things.
    apart = max(abs(m.loss / by["plain"].loss - 1) for by in cells.values() for m in by.values())
    changes = [
        f"{steps[lora, 'float32', False]:,.0f} to {steps[lora, 'float32', True]:,.0f} MB {who}"
        for lora, who in ((False, "where all weights are trained"), (True, "with LoRA"))
    ]
    lines += [
        "",
        f"The losses of a row's three heads differ by {apart:.0e} of themselves at most. From the largest cell to the "
        f"smallest: {most:,.0f} to {least:,.0f} MB, {most / least:.1f}x. What checkpointing does with our head, in "
        f"float32: {', '.join(changes)}. Where all weights are trained, gradients and moments (three times "
        "the weights) are a floor that neither the head nor checkpointing lowers; LoRA takes it away, for the head's "
        "weight too, which here is most of the model.",
    ]
    return "\n".join(lines) + "\n"
