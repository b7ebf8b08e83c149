"""What `negrl bench label-cost` found: as a table, a CSV, a plot and a page for a sceptical reader."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from negrl.bench.label_metrics import FIELDS, Ratio, interval, metric, token_ratio
from negrl.progress import Reporter
from negrl.store import write_atomic

if TYPE_CHECKING:
    from negrl.bench.label_cost import Settings
    from negrl.recipe import Recipe

METRICS = (
    "tokens", "rollouts", "rmse", "rmse_later", "pit_f1", "spurious_f1", "bad_f1", "coverage", "coverage_middle",
    "width", "unlabelled",
)  # fmt: skip
ALL = "all"


@dataclass(frozen=True)
class Measured:
    """One labeler on one policy's traces. `sums`: [problems, label_metrics.FIELDS]."""

    name: str
    labeler: str
    budget: int
    sums: np.ndarray

    def at(self, name: str) -> float:
        return float(metric(name, self.sums.sum(axis=0)))


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
    """Seconds of one live labelling: `wall` in all, storage included; `engine`, `verify` and `store` within it."""

    labeler: str
    parameters: int
    traces: int
    tokens: int
    wall: float
    engine: float
    verify: float
    store: float


@dataclass(frozen=True)
class LabelCost:
    recipe: Recipe
    settings: Settings
    policies: list[PolicyCost]
    draws: np.ndarray
    """`label_metrics.resamples` of the held-out problems: the same for all policies and labelers."""
    overheads: list[Overhead]
    hardware: str
    versions: dict[str, str]
    command: str = ""

    def bounds(self, one: Measured, name: str) -> tuple[float, float]:
        return interval(metric(name, self.draws @ one.sums), self.settings.confidence)


def pooled(policies: list[PolicyCost]) -> PolicyCost:
    """All policies' traces together. They write on the same problems, so a problem stays one draw."""
    first = policies[0]
    measured = [
        Measured(m.name, m.labeler, m.budget, np.sum([p.measured[i].sums for p in policies], axis=0))
        for i, m in enumerate(first.measured)
    ]
    return PolicyCost(
        name=ALL, accuracy=float(np.mean([p.accuracy for p in policies])), traces=sum(p.traces for p in policies),
        wrong=sum(p.wrong for p in policies), problems=sum(p.problems for p in policies), truth={}, check={},
        measured=measured,
    )  # fmt: skip


def peers(settings: Settings) -> list[tuple[str, str]]:
    """(labeler, metric) that `adaptive` is held against."""
    fixed = [k for k in (16, max(settings.fixed)) if k in settings.fixed]
    return [*((f"fixed K={k}", "rmse") for k in dict.fromkeys(fixed)), (f"bisect K={settings.bisect}", "pit_f1")]


def ratios(found: LabelCost, kind: str = "adaptive") -> list[tuple[str, str, str, Ratio]]:
    """Tokens of the peers over those of `kind` at equal quality, for each policy and for all."""
    rows = []
    for policy in [*found.policies, pooled(found.policies)]:
        budgets = [m.sums for m in policy.find(kind)]
        for peer, name in peers(found.settings):
            one = policy.named(peer)
            if one is not None and budgets:
                ratio = token_ratio(one.sums, budgets, name, found.draws, found.settings.confidence)
                rows.append((policy.name, peer, name, ratio))
    return rows


def write(found: LabelCost, out: Path, reporter: Reporter) -> list[Path]:
    """Write `out`.md, .csv and .png; print the table and the ratios."""
    from negrl.bench.label_page import page, screen
    from negrl.bench.label_plot import draw

    rows = ratios(found)
    reporter.console.print()
    for policy in found.policies:
        reporter.console.print(screen(found, policy))
    for line in [*ratio_lines(rows), *ratio_lines(ratios(found, "blind"), "blind")]:
        reporter.say(line)
    files = {
        ".md": page(found, rows, out.name).encode(),
        ".csv": table_csv(found).encode(),
        ".png": draw(found),
    }
    for suffix, data in files.items():
        write_atomic(out.with_name(out.name + suffix), data)
    return [out.with_name(out.name + suffix) for suffix in files]


def table_csv(found: LabelCost) -> str:
    """Every policy, labeler and metric, with the bootstrap interval of each."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    heads = [h for name in METRICS for h in (name, f"{name}_low", f"{name}_high")]
    writer.writerow(["policy", "labeler", "budget", "problems", "traces", *heads])
    for policy in [*found.policies, pooled(found.policies)]:
        for one in policy.measured:
            cells = [f"{x:.6g}" for name in METRICS for x in (one.at(name), *found.bounds(one, name))]
            writer.writerow([policy.name, one.labeler, one.budget, policy.problems, policy.traces, *cells])
    return buffer.getvalue()


def ratio_lines(rows: list[tuple[str, str, str, Ratio]], kind: str = "adaptive") -> list[str]:
    """One line for each ratio, in words."""
    words = {"rmse": "RMSE of A", "pit_f1": "pit F1"}
    lines = []
    for policy, peer, name, ratio in rows:
        if ratio.value is None:
            lines.append(f"{policy}: no budget of {kind} reaches the {words[name]} of {peer}")
            continue
        if ratio.free:
            lines.append(
                f"{policy}: with no rollouts at all {kind} has the {words[name]} of {peer}, or a better one; "
                f"{peer} takes {ratio.value:.1f}x [{ratio.low:.1f}, {ratio.high:.1f}] the tokens of its smallest budget"
            )
            continue
        least = "at least " if ratio.at_least else ""
        missed = f"; in {ratio.missed:.0%} of the resamples not reached" if ratio.missed else ""
        lines.append(
            f"{policy}: {peer} takes {least}{ratio.value:.1f}x [{ratio.low:.1f}, {ratio.high:.1f}] the tokens of "
            f"{kind} at equal {words[name]}{missed}"
        )
    return lines
