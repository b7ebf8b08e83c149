"""The page, the CSV and the plot of `negrl bench label-cost`, and its table on the screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from negrl.bench.labels.metrics import METRICS, QUALITY, Metric
from negrl.bench.labels.results import (
    COLUMNS,
    NOT_UNCERTAIN,
    Against,
    LabelCost,
    PolicyCost,
    default_rollouts,
    name_of,
    pooled,
    ratios,
)
from negrl.bench.page import between, number, percent, render, to_csv, write_files
from negrl.bench.stats import CONFIDENCE
from negrl.progress import Reporter

GOALS = {"fixed K=16": 6.0, "bisect K=8": 2.0}
"""Tokens of the peer over those of adaptive at equal RMSE or pit F1, at least."""
COVERAGE = (0.85, 0.95)
OUTSIDE = 0.05
"""Share of the wall time outside the engine, at most."""
ORDER = ("fixed", "bisect", "first_zero", "belief", "oracle", "adaptive", "blind")
Row = dict[str, Any]
"""Of the CSV: `results.COLUMNS`."""


def write(found: LabelCost, out: Path, reporter: Reporter) -> list[Path]:
    """Write `out`.md, .csv and .png; print the tables."""
    from negrl.bench.labels.plot import draw

    rows = found.rows()
    against = [*ratios(found), *ratios(found, "blind")]
    text = page(found, rows, against, out.name)
    shown = [f"{name}:\n\n{table}\n" for name, table in tables(rows, [p.name for p in found.policies]).items()]
    for part in (*shown, render("label-ratios.md", against=against, METRICS=METRICS)):
        reporter.console.print(part, markup=False, highlight=False, soft_wrap=True)
    return write_files(out, {".md": text.encode(), ".csv": to_csv(COLUMNS, rows), ".png": draw(found, rows)})


def of_policy(rows: Sequence[Row], policy: str) -> list[Row]:
    """One policy's rows, in the page's order."""
    own = [row for row in rows if row["policy"] == policy]
    return sorted(own, key=lambda row: (ORDER.index(row["labeler"]), row["budget"]))


def cell(row: Row, metric: Metric) -> str:
    """A metric with its interval, where that hangs on what was drawn."""
    value, bounds = row[metric.name], (row[f"{metric.name}_low"], row[f"{metric.name}_high"])
    if row["labeler"] == "oracle" and metric.name in ("coverage", "width"):
        return "–"  # exact, but of another writer's value
    if metric.percent:
        return percent(value, bounds, 0)
    return between(value, bounds, metric.digits) if row["tokens"] else number(value, metric.digits)


def tables(rows: Sequence[Row], policies: Sequence[str]) -> dict[str, str]:
    """The table of each policy as Markdown, from the rows of the CSV."""
    metrics = [m for m in METRICS.values() if m.head]
    return {
        p: render("label-table.md", rows=of_policy(rows, p), metrics=metrics, cell=cell, name_of=name_of).strip()
        for p in policies
    }


def page(found: LabelCost, rows: Sequence[Row], against: Sequence[Against], stem: str) -> str:
    """The whole document. `rows`: of the CSV; `against`: how the peers compare."""
    every, policies = pooled(found.policies), found.policies
    rollouts = default_rollouts(found.recipe)
    return render(
        "label-cost.md", found=found, stem=stem, recipe=found.recipe, settings=found.settings, METRICS=METRICS,
        rollouts=rollouts, default=every.named(name_of("adaptive", rollouts)), peer=every.named("fixed K=16"),
        against=against, NOT_UNCERTAIN=NOT_UNCERTAIN, CONFIDENCE=CONFIDENCE, OUTSIDE=OUTSIDE,
        tables=tables(rows, [p.name for p in policies]),
        blur=sum(p.total("blur") for p in policies) / sum(p.total("steps") for p in policies),
        steps=policies[0].total("steps") / max(1.0, policies[0].total("traces")),
        missed=[(a, GOALS[a.peer]) for a in against if a.ratio.low < GOALS.get(a.peer, -math.inf)],
        coverage=[(p.name, *rest) for p in [*policies, every] for rest in _coverage(p)],
        better=[(p.name, *rest) for p in [*policies, every] for rest in _better(p)],
    )  # fmt: skip


def _coverage(policy: PolicyCost) -> list[tuple[str, float, float]]:
    """(labeler, least, most): where intervals cover A too seldom or too often, over the budgets."""
    out = []
    for kind in ("adaptive", "blind"):
        covers = [c for m in policy.find(kind) if (c := m.at("coverage")) == c]
        if covers and not (COVERAGE[0] <= min(covers) and max(covers) <= COVERAGE[1]):
            out.append((kind, min(covers), max(covers)))
    return out


def _better(policy: PolicyCost) -> list[tuple[Any, ...]]:
    """Peers that end up better than the largest budget of adaptive or blind: (the cheapest, that budget, metric)."""
    peers = [m for m in policy.measured if m.labeler not in ("adaptive", "blind", "oracle")]
    out: list[tuple[Any, ...]] = []
    for budgets in filter(None, (policy.find("adaptive"), policy.find("blind"))):
        for metric in QUALITY:
            sign = -1 if metric.lower_is_better else 1
            better = [m for m in peers if sign * m.at(metric.name) > sign * budgets[-1].at(metric.name)]
            if better:
                out.append((min(better, key=lambda m: m.at("tokens")), budgets[-1], metric))
    return out
