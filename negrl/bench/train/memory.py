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

import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from negrl.bench.page import Column, a_flag, a_number, render, to_csv, write_files
from negrl.bench.train.parts import apart, memory_is_told, peak, qwen, setting
from negrl.errors import InputError
from negrl.quiet import quiet

ROWS, LENGTH = 2, 384
MODEL = {
    "vocab_size": 150_000, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 12,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "tie_word_embeddings": True,
}  # fmt: skip
HEADS = ("plain", "TRL", "negrl")
RANK = 16
SMALL = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
"""Of the model whose step goes before: what the libraries load and keep is no part of the step that is measured."""
COLUMNS = (
    Column("head"), Column("checkpointing", a_flag), Column("lora", a_flag), Column("dtype"),
    Column("model_mb", a_number, "{:.1f}".format), Column("step_mb", a_number, "{:.1f}".format),
    Column("loss", a_number),
)  # fmt: skip
"""Of the CSV: a `Measure`."""


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
    if not memory_is_told():
        raise InputError("bench train-memory: reads a process's peak memory from Linux's /proc, which is not here")
    found = []
    for lora, dtype, checkpointing, head in itertools.product(
        (False, True), ("float32", "bfloat16"), (False, True), HEADS
    ):
        preload = (__name__, "negrl.trainers.compat", "negrl.trainers.lora", "peft")
        found.append(apart(preload, measure, head, checkpointing, lora, dtype, MODEL))
        print(" ".join(f"{k}={v}" for k, v in asdict(found[-1]).items()), file=sys.stderr, flush=True)
    text = page(found, MODEL)
    print(text, end="")
    write_files(out, {".md": text.encode(), ".csv": to_csv(COLUMNS, map(asdict, found))})
    return found


def measure(head: str, checkpointing: bool, lora: bool, dtype: str, shape: dict[str, Any]) -> Measure:
    """One cell, in this process (whose peak it resets)."""
    import gc

    import torch

    with quiet():
        for this in ({**shape, **SMALL}, shape):
            model = _model(head, checkpointing, lora, dtype, this)
            torch.manual_seed(0)
            ids = torch.randint(2, this["vocab_size"], (ROWS, LENGTH))
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
            gc.collect()
            with peak() as added:
                with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                    loss = _loss(model, head, ids)
                loss.backward()
                optimizer.step()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return Measure(head, checkpointing, lora, dtype, size / 2**20, added[0], float(loss.detach()))


def _model(head: str, checkpointing: bool, lora: bool, dtype: str, shape: dict[str, Any]) -> Any:
    """A Qwen2, ready to train: float32 weights, with LoRA frozen ones in `dtype`."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from negrl.trainers.compat import add_small_head

    model = qwen(shape)
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


def page(found: Sequence[Measure], shape: dict[str, Any]) -> str:
    """What was measured, how, and the ratios."""
    cells = by_cell(found)
    most, least = max(m.step_mb for m in found), min(by["negrl"].step_mb for by in cells.values())
    return render(
        "train-memory.md", setting=setting(), ROWS=ROWS, LENGTH=LENGTH, RANK=RANK, shape=shape, most=most, least=least,
        logits=ROWS * LENGTH * shape["vocab_size"] * 4 / 2**20, table=table(found), cells=cells,
        # The same loss, or the memory compares two different things.
        apart=max(abs(m.loss / by["plain"].loss - 1) for by in cells.values() for m in by.values()),
    )  # fmt: skip


def by_cell(found: Iterable[Measure]) -> dict[tuple[bool, str, bool], dict[str, Measure]]:
    """(lora, dtype, checkpointing) -> head -> its measure."""
    out: dict[tuple[bool, str, bool], dict[str, Measure]] = {}
    for m in found:
        out.setdefault((m.lora, m.dtype, m.checkpointing), {})[m.head] = m
    return out


def table(found: Iterable[Measure]) -> str:
    return render("train-memory-table.md", cells=by_cell(found)).strip()
