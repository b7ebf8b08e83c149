"""guards.png: what training did to held-out text, one row per arm.

Reads the `guard/...` lines of the trainers' logs; columns that no arm measured are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from negrl.report.data import RunReport
from negrl.report.style import BLUE, FAINT, GREY, INK, ORANGE, label

SOLID: Any = "-"
LINES: dict[str, tuple[str, Any]] = {
    "guard/right/logp": (BLUE, SOLID),
    "guard/bad/logp": (ORANGE, (0, (4, 1.5))),
    "guard/prefix/logp": (GREY, (0, (1, 1.5))),
    "guard/good/mass": (BLUE, SOLID),
    "guard/bad/mass": (ORANGE, (0, (4, 1.5))),
    "guard/right/entropy": (BLUE, SOLID),
    "guard/kl/start": (BLUE, SOLID),
}
COLUMNS = (
    ("log p  (dashed: bad,\ndotted: prefix)", ("guard/right/logp", "guard/bad/logp", "guard/prefix/logp")),
    ("chance of a step\n(dashed: bad)", ("guard/good/mass", "guard/bad/mass")),
    ("entropy", ("guard/right/entropy",)),
    ("KL to the start", ("guard/kl/start",)),
)


def guard_points(history: Iterable[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """(step, value) points of every finite `guard/...` number. Steps that start over in a new round continue from the
    last one."""
    found: dict[str, list[tuple[float, float]]] = {}
    offset = last = 0.0
    for entry in history:
        step = float(entry.get("step", last - offset))
        if offset + step < last:
            offset = last
        last = offset + step
        for key, value in entry.items():
            if key.startswith("guard/") and isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(key, []).append((last, float(value)))
    return found


def guards_figure(report: RunReport) -> Figure | None:
    """The plot, or None if no arm was guarded."""
    arms = [(a, points) for a in report.arms if (points := guard_points(a.log_history))]
    if not arms:
        return None
    columns = [(title, keys) for title, keys in COLUMNS if any(key in points for _, points in arms for key in keys)]
    if not columns:
        return None
    size = (1.6 + 2.4 * len(columns), 0.7 + 1.35 * len(arms))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(arms), len(columns), squeeze=False)
    for row, (arm, points) in enumerate(arms):
        for column, (title, keys) in enumerate(columns):
            ax = axes[row][column]
            if row == 0:
                ax.set_title(title, fontsize=9.5)
            if column == 0:
                ax.set_ylabel(label(arm.name, 18), fontsize=10, color=INK, rotation=0, ha="right", va="center")
            if not any(key in points for key in keys):
                ax.axis("off") if column else ax.set(xticks=[], yticks=[])
                ax.text(0.5, 0.5, "not measured", ha="center", va="center", color=FAINT, transform=ax.transAxes)
                continue
            for key in keys:
                if key in points:
                    x, y = np.array(points[key]).T
                    colour, dash = LINES[key]
                    ax.plot(x, y, color=colour, linestyle=dash, linewidth=1.3, marker="." if len(x) < 3 else None)
            for step, value in points.get("guard/tripped", []):
                if value:
                    ax.axvline(step, color=INK, linewidth=1.0, linestyle="-")
            ax.grid(True)
            ax.margins(x=0.02)
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            ax.yaxis.set_major_locator(MaxNLocator(4))
            if row == len(arms) - 1:
                ax.set_xlabel("optimizer step")
    figure.align_ylabels(axes[:, 0])
    return figure
