"""The plot of `negrl bench methods`: pass@1 at T=1 and T=0 of every arm, beside wrong steps inside right answers."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from negrl.bench.efficiency_plot import WIDTH, png
from negrl.bench.methods_page import Row, blocks
from negrl.bench.points_read import START, Found
from negrl.report.data import visible
from negrl.report.style import BLUE, FAINT, GREY, INK, ORANGE, STYLE


def draw(found: Found, table: list[Row], title: str) -> bytes:
    """PNG: one line per arm, the best on top, in blocks by the number of rounds."""
    order: list[Row | int] = []  # an int heads its block
    for rounds, block in sorted(blocks(table).items(), reverse=True):
        order += [*block, rounds] if block else []
    order = order[::-1]  # from the top down
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.3 * len(order)), layout="constrained")
        shares = any(r.arm and found.numbers(r.arm, r.size, "spurious_share") for r in table)
        axes = figure.subplots(1, 2 if shares else 1, squeeze=False, width_ratios=[1.5, 1] if shares else [1])[0]
        for ax in axes:
            ax.set_ylim(len(order) - 0.4, -0.6)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x")
        _pass(axes[0], found, order)
        if shares:
            _shares(axes[1], found, order)
        names = [visible(r.arm) if isinstance(r, Row) else f"{r} round{'s' if r > 1 else ''}" for r in order]
        axes[0].set_yticks(range(len(order)), names, fontsize=9.5, color=INK)
        for label, row in zip(axes[0].get_yticklabels(), order, strict=True):
            label.set_fontweight("normal" if isinstance(row, Row) else "bold")
        _start(axes, found, table)
        handles = [
            Line2D([], [], color=BLUE, marker="o", markersize=5.5, linewidth=1, label="pass@1 at T=1"),
            Line2D([], [], color=ORANGE, marker="D", mfc="white", markersize=4.5, linewidth=0, label="pass@1 at T=0"),
            Line2D([], [], color=INK, marker="|", markersize=8, linewidth=1, label="95% interval"),
            Line2D([], [], color=INK, linestyle=(0, (5, 2.5)), linewidth=1, label="start policy"),
        ]
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=8.5)
        return png(figure)


def _pass(ax: Axes, found: Found, order: list[Row | int]) -> None:
    for y, row in enumerate(order):
        if not isinstance(row, Row):
            continue
        ax.plot(row.bounds, [y, y], color=BLUE, linewidth=1.4, marker="|", markersize=6)
        ax.plot(row.value, y, "o", color=BLUE, markersize=5.5)
        ax.annotate(f"{row.value:.3f}", (row.value, y), fontsize=8, xytext=(0, 4), textcoords="offset points",
                    ha="center", va="bottom", color=BLUE)  # fmt: skip
        greedy = found.mean(row.arm, row.size, "greedy")
        if greedy == greedy:
            ax.plot(greedy, y, "D", color=ORANGE, markerfacecolor="white", markersize=4.5, zorder=4)
            ax.annotate(f"{greedy:.3f}", (greedy, y), fontsize=8, xytext=(0, 4), textcoords="offset points",
                        ha="center", va="bottom", color=ORANGE)  # fmt: skip
    ax.margins(x=0.12)
    ax.set_title("pass@1")


def _shares(ax: Axes, found: Found, order: list[Row | int]) -> None:
    for y, row in enumerate(order):
        if not isinstance(row, Row):
            continue
        value = found.mean(row.arm, row.size, "spurious_share")
        if value == value:
            low, high = found.bounds(row.arm, row.size, "spurious_share")
            ax.barh(y, value, height=0.55, color=GREY)
            ax.plot([max(low, 0), high], [y, y], color=INK, linewidth=1, marker="|", markersize=6)
        else:
            ax.text(0, y, " not checked", va="center", color=FAINT, fontsize=8)
    ax.set_xlim(0, None)
    ax.set_yticks([])
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    ax.set_title("wrong step inside right answers")


def _start(axes: list[Axes], found: Found, table: list[Row]) -> None:
    """An upright at what the start policy had."""
    start = next((r for r in table if r.arm == START), None)
    if start is None:
        return
    for ax, value in zip(axes, (start.value, found.mean(START, start.size, "spurious_share")), strict=False):
        if value == value:
            ax.axvline(value, color=INK, linestyle=(0, (5, 2.5)), linewidth=1, zorder=1)
