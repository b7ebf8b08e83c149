"""What prefix sharing saves: TRL's trainers against ours on the same rows, in one run.

    SFT    step_advantage on trees       against SFTTrainer, padded or padding-free, whichever is faster here
    DPO    step_dpo on trees, the        against DPOTrainer, with the reference's log-probs known before
           reference on trees too        ("known") or computed in the step ("in step")

A micro-batch is `ROWS` branches of `LENGTH` tokens, in problems of 2, 4, 8 or 16 branches that share 0, 50,
80 or 95% of a branch's tokens and nothing else. A step is collation, forward and backward; the optimizer's
part is the same for both and left out. The sides take turns, so that drift falls on both.

The limit is what the distinct tokens set: all tokens / distinct tokens, b / (p + b (1 - p)).
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads are slower on a busy machine

BRANCHES, SHARES = (2, 4, 8, 16), (0.0, 0.5, 0.8, 0.95)
ROWS, LENGTH, PROMPT = 16, 256, 16
TURNS = 3
SIDES = {
    "SFT": ("negrl step_advantage", "TRL SFTTrainer", "TRL SFTTrainer, padding-free"),
    "DPO, reference known": ("negrl step_dpo", "TRL DPOTrainer"),
    "DPO, reference in step": ("negrl step_dpo", "TRL DPOTrainer"),
}
"""Ours first."""
MODEL = {
    "vocab_size": 4096,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
QUICK_MODEL = {**MODEL, "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 512}


@dataclass(frozen=True, slots=True)
class Measure:
    """One side of one cell. `seconds` and `cpu`: a step's wall and processor time, one per turn. `memory`: MB
    that a step adds at its peak to what the process held before (weights and gradients); None: not measured."""

    loss: str
    side: str
    branches: int
    share: float
    seconds: list[float]
    cpu: list[float]
    memory: float | None


def main(out: Path, quick: bool = False) -> list[Measure]:
    """Measure the grid, print the tables and write them to `out`.md and `out`.csv.

    Args:
        quick: a smaller model, one corner of the grid and one turn: a minute or two, and the figures say little.
    """
    from negrl.bench.train_throughput_page import write
    from negrl.quiet import quiet

    branches, shares = ((2, 8), (0.0, 0.8)) if quick else (BRANCHES, SHARES)
    shape = QUICK_MODEL if quick else MODEL
    found: list[Measure] = []
    notes: list[str] = []
    with quiet(), tempfile.TemporaryDirectory() as folder:
        for loss, sides in SIDES.items():
            runners = {side: Runner(loss, side, shape, Path(folder)) for side in sides}
            notes += keep_best(runners, make_rows(branches[0], 0.0, shape["vocab_size"]))
            for b in branches:
                for p in shares:
                    rows = make_rows(b, p, shape["vocab_size"])
                    seconds, cpu = take_turns(runners, rows, 1 if quick else TURNS)
                    for side in runners:
                        memory = peak_memory(loss, side, shape, b, p)
                        found.append(Measure(loss, side, b, p, seconds[side], cpu[side], memory))
                    print(f"{loss}: {b} branches, {p:.0%} shared", file=sys.stderr, flush=True)
            del runners
            gc.collect()
    write(out, found, shape, quick, notes)
    return found


def make_rows(branches: int, share: float, vocabulary: int, seed: int = 0) -> list[list[list[int]]]:
    """`ROWS` branches of `LENGTH` random tokens in problems of `branches`, which share the first
    `share * LENGTH` tokens; problems share nothing."""
    rng = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(2, vocabulary) for _ in range(count)]

    same = round(share * LENGTH)
    problems = []
    for _ in range(ROWS // branches):
        start, firsts = tokens(same), rng.sample(range(2, vocabulary), branches)  # nobody shares by chance
        problems.append([[*start, first, *tokens(LENGTH - same - 1)] for first in firsts])
    firsts = rng.sample(range(2, vocabulary), len(problems))
    if same:
        for first, problem in zip(firsts, problems, strict=True):
            for branch in problem:
                branch[0] = first
    return problems


class Runner:
    """One side's trainer, and its step on a micro-batch."""

    def __init__(self, loss: str, side: str, model: dict[str, Any], folder: Path):
        self.loss, self.ours = loss, side.startswith("negrl")
        self.known = loss.endswith("known")
        self.preference = loss.startswith("DPO")
        make = _dpo if self.preference else _sft
        self.trainer = make(side, self.known, model, folder / "out")
        self.trainer.current_gradient_accumulation_steps = 1

    def rows(self, problems: Sequence[Sequence[list[int]]]) -> list[dict[str, Any]]:
        """The problems' branches as this trainer's collator reads them."""
        return _pairs(problems, self.known) if self.preference else _singles(problems, self.ours)

    def step(self, rows: list[dict[str, Any]]) -> float:
        """Collate, forward, backward; returns the loss."""
        trainer = self.trainer
        batch = trainer._prepare_inputs(trainer.data_collator(rows))
        items = trainer._get_num_items_in_batch([batch], trainer.args.device)
        loss = trainer.training_step(trainer.model, batch, items)
        trainer.model.zero_grad(set_to_none=False)  # the gradients' memory stays: it belongs to no side
        if trainer.args.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        return float(loss)


def keep_best(runners: dict[str, Runner], problems: Any) -> list[str]:
    """Of TRL's settings the one that is fastest where nothing is shared stays; says which left, and why."""
    theirs = list(runners)[1:]
    seconds, _ = take_turns({side: runners[side] for side in theirs}, problems, 1)
    best = min(theirs, key=lambda side: seconds[side])
    slower = [side for side in theirs if side != best]
    for side in slower:
        del runners[side]
    return [f"{side} took {seconds[side][0] / seconds[best][0]:.2f}x as long as {best}." for side in slower]


Times = dict[str, list[float]]


def take_turns(runners: dict[str, Runner], problems: Any, turns: int) -> tuple[Times, Times]:
    """Wall and processor seconds of every side's steps; one more turn goes before them, to warm up."""
    rows = {side: runner.rows(problems) for side, runner in runners.items()}
    wall: Times = {side: [] for side in runners}
    cpu: Times = {side: [] for side in runners}
    for turn in range(turns + 1):
        for side in list(runners)[:: 1 if turn % 2 else -1]:
            start, busy = time.perf_counter(), time.process_time()
            runners[side].step(rows[side])
            if turn:
                wall[side].append(time.perf_counter() - start)
                cpu[side].append(time.process_time() - busy)
    return wall, cpu


def peak_memory(loss: str, side: str, model: dict[str, Any], branches: int, share: float) -> float | None:
    """MB that one step adds at its peak, in a process of its own: on the GPU where there is one, else of the
    process; None where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "negrl.trainers.step_advantage", "negrl.trainers.preference"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_peak, loss, side, model, branches, share).result()


def _peak(loss: str, side: str, model: dict[str, Any], branches: int, share: float) -> float:
    import torch

    from negrl.quiet import quiet

    with quiet(), tempfile.TemporaryDirectory() as folder:
        runner = Runner(loss, side, model, Path(folder))
        rows = runner.rows(make_rows(branches, share, model["vocab_size"]))
        for parameter in runner.trainer.model.parameters():
            parameter.grad = parameter.new_zeros(parameter.shape)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            runner.step(rows)
            return (torch.cuda.max_memory_allocated() - held) / 2**20
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _status("VmRSS")
        runner.step(rows)
        return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """kB, from the kernel's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1])


def _singles(problems: Sequence[Sequence[list[int]]], ours: bool) -> list[dict[str, Any]]:
    import numpy as np

    rows = []
    for problem in problems:
        for i, ids in enumerate(problem):
            labels = [-100] * PROMPT + ids[PROMPT:]
            row: dict[str, Any] = {"input_ids": ids, "labels": labels}
            if ours:
                place = np.arange(len(ids)) - PROMPT
                row = {name: np.array(value) for name, value in row.items()}
                row["step_ids"] = np.where(place >= 0, place // 20, -1)
                row["advantages"] = np.where(place >= 0, np.where(row["step_ids"] % 3 == i % 3, -0.5, 0.5), 0.0)
                row["logprobs"] = np.where(place >= 0, -8.0, 0.0)
                row["correct"] = i % 2 == 0
            rows.append(row)
    return rows


def _pairs(problems: Sequence[Sequence[list[int]]], known: bool) -> list[dict[str, Any]]:
    """Neighbours are a pair. Its shared prefix is the prompt; where nothing is shared, one token is."""
    rows = []
    for problem in problems:
        for chosen, rejected in zip(problem[::2], problem[1::2], strict=True):
            same = next(i for i, (c, r) in enumerate(zip(chosen, rejected, strict=True)) if c != r)
            cut = max(same, 1)
            row: dict[str, Any] = {
                "prompt_ids": chosen[:cut],
                "chosen_ids": chosen[cut:],
                "rejected_ids": rejected[cut:],
            }
            if known:
                row |= {"ref_chosen_logps": -500.0, "ref_rejected_logps": -500.0}
            rows.append(row)
    return rows


def _sft(side: str, known: bool, model: dict[str, Any], folder: Path) -> Any:
    import datasets
    from trl import SFTConfig, SFTTrainer

    from negrl.methods.step_advantage import StepAdvantageOptions
    from negrl.trainers.step_advantage import StepAdvantageTrainer

    options: dict[str, Any] = {"padding_free": side.endswith("padding-free")}
    config = SFTConfig(**_settings(folder), **options, dataset_kwargs={"skip_prepare_dataset": True})
    one = _singles([[list(range(2, 2 + 2 * PROMPT))]], ours=side.startswith("negrl"))
    common = {"args": config, "processing_class": _tokenizer(), "train_dataset": datasets.Dataset.from_list(one)}
    if side.startswith("negrl"):
        return StepAdvantageTrainer(model=_model(model), options=StepAdvantageOptions(), **common)
    return SFTTrainer(model=_model(model), **common)


def _dpo(side: str, known: bool, model: dict[str, Any], folder: Path) -> Any:
    import datasets
    from trl import DPOConfig, DPOTrainer

    from negrl.methods.step_dpo import StepDpoOptions
    from negrl.trainers.preference import TokenDpoTrainer

    class Tokenized(DPOTrainer):
        """Reads token ids, as ours does."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    config = DPOConfig(**_settings(folder), precompute_ref_log_probs=known)
    one = [{"prompt_ids": [2, 3], "chosen_ids": [4, 5], "rejected_ids": [5, 6]}]
    common = {"args": config, "processing_class": _tokenizer(), "train_dataset": datasets.Dataset.from_list(one)}
    if not known:
        common["ref_model"] = _model(model)
    if side.startswith("negrl"):
        return TokenDpoTrainer(model=_model(model), options=StepDpoOptions(), **common)
    return Tokenized(model=_model(model), **common)


def _settings(folder: Path) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "report_to": "none",
        "use_cpu": not cuda,
        "bf16": cuda,
        "gradient_checkpointing": False,
        "max_length": None,
        "per_device_train_batch_size": ROWS,
    }


def _model(shape: dict[str, Any]) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**shape))


def _tokenizer() -> Any:
    """The trainers want one; no text is read."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
