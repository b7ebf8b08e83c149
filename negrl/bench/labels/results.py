"""What `negrl bench label-cost` found, and the columns of its CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from negrl.bench.labels.metrics import FIELDS, METRICS, Ratio, token_ratio
from negrl.bench.page import Column, a_number, a_whole
from negrl.bench.stats import interval
from negrl.labelers.adaptive import AdaptiveOptions
from negrl.recipe import Recipe

ALL = "all"
NOT_UNCERTAIN = 0.02
"""Values within this of 0 or 1 are no use for a check by rollouts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is compared, and how closely it is looked at."""

    fixed: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """K of `fixed`."""
    bisect: int = 8
    """K of `bisect`, as in OmegaPRM."""
    first_zero: int = 4
    """K of `first_zero`, as in Self-Explore."""
    adaptive: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64, 128)
    """`max_rollouts` of `adaptive`, beside the recipe's own. 0: only what the sampled traces say."""
    prune: float = 1e-6
    """Relative mass below which the true values stop following a continuation."""
    check_prefixes: int = 50
    check_rollouts: int = 2000
    """Of each prefix whose true value is checked."""
    traces: int = 500
    """Fewer labeled traces of a policy than this are reported."""
    bootstrap: int = 1000
    overhead_problems: int = 24
    overhead_k: int = 8
    large_hidden: int = 256
    large_layers: int = 8
    """Of the larger model that the driver's overhead is measured with, too."""


def default_rollouts(recipe: Recipe) -> int:
    """What `adaptive` takes at most, by the recipe or by default."""
    return int(getattr(recipe.label, "max_rollouts", AdaptiveOptions().max_rollouts))


def name_of(labeler: str, budget: int) -> str:
    """ "fixed K=16", "adaptive 8", "belief"."""
    if labeler in ("adaptive", "blind"):
        return f"{labeler} {budget}"
    return labeler if labeler in ("belief", "oracle") else f"{labeler} K={budget}"


@dataclass(frozen=True)
class Measured:
    """One labeler on one policy's traces. `sums`: [problems, metrics.FIELDS]."""

    labeler: str
    budget: int
    sums: np.ndarray

    @property
    def name(self) -> str:
        return name_of(self.labeler, self.budget)

    def at(self, name: str) -> float:
        return float(METRICS[name].of(self.sums.sum(axis=0)))


@dataclass(frozen=True)
class PolicyCost:
    """One policy. `accuracy`: share of all its held-out samples that came out right. `truth` and `check`:
    what those stages said."""

    name: str
    accuracy: float
    traces: int
    wrong: int
    problems: int
    truth: dict[str, Any]
    check: dict[str, Any]
    measured: list[Measured]

    def total(self, field: str) -> float:
        """A sum of the true side, which all labelers share."""
        return float(self.measured[0].sums.sum(axis=0)[FIELDS.index(field)])

    def find(self, labeler: str) -> list[Measured]:
        return sorted((m for m in self.measured if m.labeler == labeler), key=lambda m: m.budget)

    def named(self, name: str) -> Measured | None:
        return next((m for m in self.measured if m.name == name), None)


@dataclass(frozen=True)
class Overhead:
    """Seconds of one live labeling: `wall` in all, storage included; `engine`, `verify` and `store` within it."""

    labeler: str
    parameters: int
    traces: int
    tokens: int
    wall: float
    engine: float
    verify: float
    store: float

    @property
    def outside(self) -> float:
        """Share of the wall time outside the engine."""
        return 1 - self.engine / self.wall


@dataclass(frozen=True)
class LabelCost:
    """`draws`: `stats.resamples` of the held-out problems, the same for all policies and labelers."""

    recipe: Recipe
    settings: Settings
    policies: list[PolicyCost]
    draws: np.ndarray
    overheads: list[Overhead]
    hardware: str
    versions: dict[str, str]
    command: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """A row per policy (the last one: all together) and labeler, with the bootstrap interval of each metric."""
        out = []
        for policy in [*self.policies, pooled(self.policies)]:
            for m in policy.measured:
                row: dict[str, Any] = {"policy": policy.name, "labeler": m.labeler, "budget": m.budget}
                row |= {"problems": policy.problems, "traces": policy.traces}
                for name, metric in METRICS.items():
                    low, high = interval(metric.of(self.draws @ m.sums))
                    row |= {name: m.at(name), f"{name}_low": low, f"{name}_high": high}
                out.append(row)
        return out


COLUMNS = (
    Column("policy"), Column("labeler"), *(Column(name, a_whole) for name in ("budget", "problems", "traces")),
    *(Column(name + end, a_number, "{:.6g}".format) for name in METRICS for end in ("", "_low", "_high")),
)  # fmt: skip
"""The CSV: `LabelCost.rows`."""


def pooled(policies: Sequence[PolicyCost]) -> PolicyCost:
    """All policies' traces together. They write on the same problems, so a problem stays one draw."""
    measured = [
        Measured(m.labeler, m.budget, np.sum([p.measured[i].sums for p in policies], axis=0))
        for i, m in enumerate(policies[0].measured)
    ]
    return PolicyCost(
        name=ALL, accuracy=float(np.mean([p.accuracy for p in policies])), traces=sum(p.traces for p in policies),
        wrong=sum(p.wrong for p in policies), problems=sum(p.problems for p in policies), truth={}, check={},
        measured=measured,
    )  # fmt: skip


@dataclass(frozen=True)
class Against:
    """Tokens of a peer over those of a labeler at equal quality (`metric`) on one policy's traces."""

    policy: str
    labeler: str
    peer: str
    metric: str
    ratio: Ratio


def ratios(found: LabelCost, labeler: str = "adaptive") -> list[Against]:
    """`fixed` at equal RMSE and `bisect` at equal pit F1 against `labeler`, for each policy and for all."""
    fixed = dict.fromkeys(k for k in (16, max(found.settings.fixed)) if k in found.settings.fixed)
    peers = [*((name_of("fixed", k), "rmse") for k in fixed), (name_of("bisect", found.settings.bisect), "pit_f1")]
    rows = []
    for policy in [*found.policies, pooled(found.policies)]:
        budgets = [m.sums for m in policy.find(labeler)]
        for peer, name in peers:
            one = policy.named(peer)
            if one is not None and budgets:
                ratio = token_ratio(one.sums, budgets, METRICS[name], found.draws)
                rows.append(Against(policy.name, labeler, peer, name, ratio))
    return rows
