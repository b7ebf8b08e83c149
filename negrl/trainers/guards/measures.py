"""How likely the probes are under the policy, and how it continues a few held-out prompts. Numbers only, no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from negrl.trainers.batches import pad
from negrl.trainers.compat import score
from negrl.trainers.guards.probes import Probe
from negrl.trainers.losses import k3, step_sums
from negrl.trainers.sft import TokenCollator

NGRAM = 4
SIGNED = 8
GRADIENT_NUMBERS = 200_000_000
"""Gradients are compared on all trained parameters of models up to this size, and on the last layers of larger ones."""


class ProbeSet:
    """The probes as padded tensors, (B, S) each, with a `prefix_tree` where `collate` makes one. `start` (one
    (B, S-1) per batch) has the log-probs of the start policy, once `measure` has been asked to mark them.

    Args:
        collate: the collator of one of our trainers; makes input_ids, attention_mask and labels.
        size: probes per batch.
    """

    def __init__(self, probes: Sequence[Probe], collate: TokenCollator, size: int):
        probes = sorted(probes, key=lambda p: p.problem_id)  # the probes of one problem share prefixes
        self.tokens = sum(len(p.input_ids) for p in probes)
        self.batches = [_batch(probes[i : i + size], collate) for i in range(0, len(probes), size)]
        self.start: list[Tensor] | None = None
        marked = [p for p in probes if {"good", "bad"} & p.kinds]
        marked = _alternating(marked)[:SIGNED]
        self.signed = [_batch(marked[i : i + size], collate) for i in range(0, len(marked), size)]


def _batch(probes: Sequence[Probe], collate: TokenCollator) -> dict[str, Any]:
    used = [np.arange(len(p.input_ids)) >= max(1, p.prompt) for p in probes]
    ids = [np.asarray(p.input_ids, dtype=np.int64) for p in probes]
    labels = [np.where(u, i, -100) for u, i in zip(used, ids, strict=True)]
    batch = collate([{"input_ids": i, "labels": label} for i, label in zip(ids, labels, strict=True)])
    width = batch["input_ids"].shape[1]
    batch |= {
        "steps": pad([p.steps for p in probes], -1, np.int64, width),
        "sampled": torch.tensor([p.sampler is not None for p in probes]),
        "sampler": pad([p.sampler or [0.0] * len(p.input_ids) for p in probes], 0, np.float32, width),
    }
    kinds = ("right", "good", "bad", "prefix")
    return batch | {kind: pad([getattr(p, kind) for p in probes], 0, np.bool_, width) for kind in kinds}


def _alternating(probes: Sequence[Probe]) -> list[Probe]:
    """A bad one, a good one, a bad one, ...: so that even a few have both kinds."""
    bad = [p for p in probes if "bad" in p.kinds]
    good = [p for p in probes if "bad" not in p.kinds]
    size = min(len(bad), len(good))
    return [p for pair in zip(bad, good, strict=False) for p in pair] + bad[size:] + good[size:]


@torch.no_grad()
def measure(model: Any, probes: ProbeSet, mark_start: bool = False) -> dict[str, float]:
    """Score every probe once. `mark_start`: keep these log-probs as those of the start policy.

    Returns (quantities without any token or step are left out):
        right/logp, bad/logp, prefix/logp: mean log p per token.
        good/mass, bad/mass: mean over steps of exp(mean log p of the step's tokens): how readily it is written.
        right/entropy: mean entropy of the next token on right traces, nats.
        kl/start, kl/sampler: mean over all probe tokens of k3 to the start policy and to the sampler.
        ratio/q10, ratio/q50, ratio/q90: quantiles over bad steps of pi(step) / mu(step).
    """
    sums: dict[str, list[float]] = {}
    ratios: list[Tensor] = []
    seen: list[Tensor] = []

    def add(name: str, values: Tensor, where: Tensor) -> None:
        total, count = float(torch.where(where, values, 0.0).sum()), int(where.sum())
        old = sums.get(name, [0.0, 0.0])
        sums[name] = [old[0] + total, old[1] + count]

    for index, batch in enumerate(_on(model, b) for b in probes.batches):
        scores = score(model, batch)
        log_probs, mask = scores.log_probs.float(), scores.mask
        steps = batch["steps"][:, 1:]
        for kind in ("right", "bad", "prefix"):
            add(f"{kind}/logp", log_probs, mask & batch[kind][:, 1:])
        if scores.entropy is not None:
            add("right/entropy", scores.entropy.float(), mask & batch["right"][:, 1:])
        for kind in ("good", "bad"):
            inside = mask & batch[kind][:, 1:]
            lengths = step_sums(inside.float(), steps, inside)
            add(f"{kind}/mass", (step_sums(log_probs, steps, inside) / lengths.clamp(min=1)).exp(), lengths > 0)
        sampler, sampled = batch["sampler"][:, 1:], batch["sampled"][:, None]
        add("kl/sampler", k3(log_probs, sampler), mask & sampled)
        inside = mask & batch["bad"][:, 1:] & sampled
        log_ratio = step_sums(log_probs - sampler, steps, inside)
        ratios.append(log_ratio[step_sums(inside.float(), steps, inside) > 0].exp().cpu())
        if mark_start:
            seen.append(log_probs.cpu())
        elif probes.start is not None:
            add("kl/start", k3(log_probs, probes.start[index].to(log_probs.device)), mask)
    if mark_start:
        probes.start = seen
    found = {name: total / count for name, (total, count) in sums.items() if count}
    if ratios and len(every := torch.cat(ratios)):
        for name, q in (("q10", 0.1), ("q50", 0.5), ("q90", 0.9)):
            found[f"ratio/{name}"] = float(torch.quantile(every, q))
    return found


def gradients(model: Any, probes: ProbeSet) -> dict[str, float]:
    """How much raising good steps and lowering bad ones pull on the same weights, measured on up to SIGNED probes.

    Returns:
        grad/positive, grad/negative: norms of the gradients of the mean log p of the good and of the bad steps'
        tokens; grad/cosine: their cosine. Near 1, their tokens do not tell the steps apart: lowering the bad ones also
        lowers the good ones. Empty unless there are both kinds.
    """
    parameters = _last_parameters(model)
    found: list[list[Tensor | None]] = []
    for kind in ("good", "bad"):  # two passes, because the fused head cannot be differentiated twice
        count = sum(int(batch[kind][:, 1:].sum()) for batch in probes.signed)
        if not count:
            return {}
        total: list[Tensor | None] = [None] * len(parameters)
        for batch in (_on(model, b) for b in probes.signed):
            with torch.enable_grad():
                scores = score(model, batch)
                part = torch.where(scores.mask & batch[kind][:, 1:], scores.log_probs.float(), 0.0).sum() / count
            # autograd.grad leaves .grad alone and triggers no hook of DDP.
            parts = torch.autograd.grad(part, parameters, allow_unused=True)
            total = [p if t is None else t if p is None else t + p for t, p in zip(total, parts, strict=True)]
        found.append(total)
    pairs = [(g.float(), b.float()) for g, b in zip(*found, strict=True) if g is not None and b is not None]
    good = float(sum((g * g).sum() for g, _ in pairs)) ** 0.5
    bad = float(sum((b * b).sum() for _, b in pairs)) ** 0.5
    dot = float(sum((g * b).sum() for g, b in pairs))
    return {"grad/positive": good, "grad/negative": bad, "grad/cosine": dot / max(good * bad, 1e-30)}


def _last_parameters(model: Any) -> list[Tensor]:
    trained = [p for p in model.parameters() if p.requires_grad]
    if sum(p.numel() for p in trained) <= GRADIENT_NUMBERS:
        return trained
    vocabulary = model.config.get_text_config().vocab_size
    kept: list[Tensor] = []
    room = GRADIENT_NUMBERS
    for parameter in reversed([p for p in trained if p.shape[0] != vocabulary]):
        room -= parameter.numel()
        if room < 0 and kept:
            break
        kept.append(parameter)
    return kept


def continue_prompts(
    model: Any, prompts: Sequence[list[int]], max_new_tokens: int, eos: Sequence[int], pad_id: int, seed: int
) -> list[list[int]]:  # fmt: skip
    """One sample at temperature 1 of each prompt, the stop token included. The caller's random state is
    left unchanged, and the same seed gives the same random numbers at every look."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=True, temperature=1.0,
            top_k=0, top_p=1.0, eos_token_id=list(eos), pad_token_id=pad_id, use_cache=True,
        )  # fmt: skip
    samples = []
    for row in out[:, width:].tolist():
        end = next((i + 1 for i, token in enumerate(row) if token in eos), len(row))
        samples.append(row[:end])
    return samples


def describe(samples: Sequence[list[int]], eos: Sequence[int]) -> dict[str, float]:
    """sample/length: mean number of tokens. sample/truncated: share without a stop token at the end. sample/repetition:
    share of 4-grams that occurred earlier in the same sample."""
    repeated = grams = 0
    for sample in samples:
        every = [tuple(sample[i : i + NGRAM]) for i in range(len(sample) - NGRAM + 1)]
        grams += len(every)
        repeated += len(every) - len(set(every))
    return {
        "sample/length": sum(map(len, samples)) / len(samples),
        "sample/truncated": sum(not s or s[-1] not in eos for s in samples) / len(samples),
        "sample/repetition": repeated / grams if grams else 0.0,
    }


def _on(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(model.device) for name, value in batch.items()}
