"""Drawing one token per row of a batch, each row with its own random stream.

The uniform number of (seed, position) comes from a counter-based hash, not from a generator with a
state: a row draws the same tokens wherever in a batch it sits and whoever sits beside it. Tokens
come from the inverse of the cumulative distribution in float64, so that even a rare token of a large
vocabulary gets its exact share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from negrl.engines.base import Request

_CELLS = 1 << 24
"""Logits in float64 at once: 128 MiB a copy."""


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA, _M1, _M2 = (_signed(v) for v in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift to the right: torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """The finalizer of splitmix64 (Steele et al. 2014); int64 multiplication wraps."""
    x = (x ^ _shift(x, 30)) * _M1
    x = (x ^ _shift(x, 27)) * _M2
    return x ^ _shift(x, 31)


def uniforms(seeds: torch.Tensor, position: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), float64 [rows], that depend only on each row's seed (int64 [rows])
    and on `position`. The seed is hashed first, so that seeds which differ by little share nothing."""
    state = _mix(_mix(seeds + _GAMMA) + _signed((position + 1) * 0x9E3779B97F4A7C15 % (1 << 64)))
    return _shift(state, 16).double() * 2.0**-48


@dataclass(frozen=True)
class Rules:
    """How each row draws. `temperature` and `top_p` are float32 [rows], `top_k` int64 [rows] (0: off);
    greedy rows (temperature 0) are in `greedy`, bool [rows]. The flags say what no row needs."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    top_k: torch.Tensor
    greedy: torch.Tensor
    any_scaled: bool
    any_filtered: bool
    any_greedy: bool

    @classmethod
    def of(cls, requests: Sequence[Request], device: torch.device) -> Rules:
        greedy = [r.temperature == 0 for r in requests]
        temperature = [r.temperature or 1.0 for r in requests]
        # A greedy row has no use for a filter: its logprob is that of the plain softmax.
        top_p = [1.0 if r.temperature == 0 else r.top_p for r in requests]
        top_k = [0 if r.temperature == 0 else r.top_k for r in requests]
        return cls(
            torch.tensor(temperature, dtype=torch.float32, device=device),
            torch.tensor(top_p, dtype=torch.float32, device=device),
            torch.tensor(top_k, dtype=torch.int64, device=device),
            torch.tensor(greedy, dtype=torch.bool, device=device),
            any_scaled=any(t != 1.0 for t in temperature),
            any_filtered=any(p < 1 for p in top_p) or any(k > 0 for k in top_k),
            any_greedy=any(greedy),
        )

    def select(self, rows: torch.Tensor | slice) -> Rules:
        return Rules(
            self.temperature[rows], self.top_p[rows], self.top_k[rows], self.greedy[rows],
            self.any_scaled, self.any_filtered, self.any_greedy,
        )  # fmt: skip


def draw(logits: torch.Tensor, rules: Rules, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row and its log probability under the distribution it was drawn from.

    Greedy rows take the argmax; their logprob is that of the plain softmax (temperature 1).

    Args:
        logits: [rows, vocab], any float type.
        uniform: float64 [rows] in [0, 1).

    Returns:
        Token ids, int64 [rows], and natural-log probabilities, float32 [rows].
    """
    rows, vocab = logits.shape
    size = max(1, _CELLS // vocab)
    if rows > size:
        cuts = [slice(at, at + size) for at in range(0, rows, size)]
        parts = [draw(logits[cut], rules.select(cut), uniform[cut]) for cut in cuts]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    logits = logits.float()
    if rules.any_scaled:
        logits = logits / rules.temperature[:, None]
    if rules.any_filtered:
        logits = _filter(logits, rules)
    logprobs = torch.log_softmax(logits, dim=-1)
    heap = logprobs.double().exp_().cumsum(dim=-1)
    # The first token whose cumulative mass is above the number: never one without mass.
    tokens = torch.searchsorted(heap, (uniform * heap[:, -1])[:, None], right=True).clamp_(max=vocab - 1)
    if rules.any_greedy:
        tokens = torch.where(rules.greedy[:, None], logits.argmax(dim=-1, keepdim=True), tokens)
    return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]


def _filter(logits: torch.Tensor, rules: Rules) -> torch.Tensor:
    """Logits with -inf outside each row's top_k tokens and, of those, outside the smallest set that
    holds top_p of the mass (the token that crosses top_p stays in)."""
    ordered, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[1], device=logits.device)[None]
    top_k = torch.where(rules.top_k > 0, rules.top_k, logits.shape[1])[:, None]
    ordered = ordered.masked_fill(rank >= top_k, float("-inf"))
    mass = torch.softmax(ordered.double(), dim=-1)
    before = mass.cumsum(dim=-1) - mass
    # top_p 1 means off; rounding in the sum must not drop the tail.
    drop = (rank >= top_k) | ((before >= rules.top_p[:, None]) & (rules.top_p < 1)[:, None])
    drop[:, 0] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter_(1, order, drop), float("-inf"))
