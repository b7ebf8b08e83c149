"""The plot of `negrl bench label-cost`: tokens against error, one column per policy, one row per measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from negrl.bench.labels.metrics import QUALITY
from negrl.bench.labels.results import LabelCost
from negrl.bench.stats import CONFIDENCE
from negrl.report.plots import png
from negrl.report.style import BLUE, GREY, INK, ORANGE, STYLE

GREEN, PURPLE = "#009E73", "#CC79A7"
LOOKS: dict[str, tuple[str, str, Any, str]] = {  # labeler: colour, marker, line, words
    "adaptive": (BLUE, "o", "-", "adaptive, by budget (dotted: no rollouts)"),
    "blind": (PURPLE, "v", "-", "blind: adaptive without p"),
    "fixed": (GREY, "s", "-", "fixed, K = 1 to 64"),
    "bisect": (ORANGE, "D", "", "bisect"),
    "first_zero": (GREEN, "^", "", "first_zero"),
    "belief": (INK, "", (0, (5, 2.5)), "belief (no rollouts)"),
}


def draw(found: LabelCost, rows: Sequence[dict[str, Any]]) -> bytes:
    """The plot as PNG. `rows`: of the CSV."""
    with mpl.rc_context(STYLE):
        columns = len(found.policies)
        figure = Figure(figsize=(1.2 + 2.9 * columns, 7.2), layout="constrained")
        axes = figure.subplots(len(QUALITY), columns, squeeze=False, sharex=True, sharey="row")
        for column, policy in enumerate(found.policies):
            for row, metric in enumerate(QUALITY):
                ax = axes[row][column]
                for labeler in reversed(LOOKS):  # the one that matters lies on top
                    own = [r for r in rows if (r["policy"], r["labeler"]) == (policy.name, labeler)]
                    _curve(ax, LOOKS[labeler], sorted(own, key=lambda r: r["budget"]), metric.name)
                if row == 0:
                    ax.set_title(f"{policy.name}  ({policy.accuracy:.0%} right, {policy.traces:,} traces)")
                if column == 0:
                    better = "lower" if metric.lower_is_better else "higher"
                    ax.set_ylabel(f"{metric.head}\n({better} is better)", color=INK)
                if row == len(QUALITY) - 1:
                    ax.set_xlabel("generated tokens a trace")
                ax.set_xscale("log")
                ax.xaxis.set_major_locator(LogLocator(10, subs=(1, 3)))
                ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
                ax.xaxis.set_minor_formatter(NullFormatter())
                if metric.lower_is_better:
                    ax.set_yscale("log")
                    ax.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
                    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
                    ax.yaxis.set_minor_formatter(NullFormatter())
                else:
                    ax.set_ylim(0, 1.02)
                ax.grid(True)
        kinds = {m.labeler for p in found.policies for m in p.measured}
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=5, label=label)
            for kind, (colour, marker, line, label) in LOOKS.items()
            if kind in kinds
        ]
        whisker = Line2D([], [], color=INK, linewidth=1, linestyle="", marker="|", markersize=8)
        whisker.set_label(f"{CONFIDENCE:.0%} interval, bootstrap over problems")
        figure.legend(handles=[*handles, whisker], loc="outside lower left", ncols=4, frameon=False, fontsize=8.5)
        return png(figure)


def _curve(ax: Axes, look: tuple[str, str, Any, str], points: list[dict[str, Any]], name: str) -> None:
    colour, marker, line, _ = look
    points = [p for p in points if not np.isnan(p[name])]
    for free in (p for p in points if p["tokens"] <= 0):  # a log axis has no place for it
        ax.axhline(free[name], color=colour, linestyle=line if line != "-" else (0, (1, 2)), linewidth=1)
    points = [p for p in points if p["tokens"] > 0]
    if not points:
        return
    x, y = [p["tokens"] for p in points], np.array([p[name] for p in points])
    error = np.clip([[p[name] - p[f"{name}_low"], p[f"{name}_high"] - p[name]] for p in points], 0, None).T
    ax.errorbar(x, y, yerr=error, color=colour, marker=marker, linestyle=line, linewidth=1.4, markersize=4.5,
                elinewidth=0.9, capsize=2)  # fmt: skip
