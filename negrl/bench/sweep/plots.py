"""The plots of the sweeps: error against problems, as in figure 1 of Setlur et al. 2024 (arXiv:2406.14532), what the
arms cost beside what they reach, and the methods side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from negrl.bench.stats import CONFIDENCE, censored
from negrl.bench.sweep.compare import Block, Compared, Comparison, Measured, Standing
from negrl.bench.sweep.curve import LEAST
from negrl.bench.sweep.results import BASE, SFT, START, Found
from negrl.progress import thousands
from negrl.report.data import visible
from negrl.report.plots import png
from negrl.report.style import BLUE, FAINT, GREY, INK, ORANGE, STYLE

PALETTE = (ORANGE, "#009E73", "#CC79A7", "#E69F00", "#882255", "#44AA99", "#999933", "#AA4499", "#117733", "#661100")
SEVERAL = "#4B2E83"
MARKERS = "sD^vP<>phH*"
WIDTH = 8.4
_HALO = [withStroke(linewidth=2.5, foreground="white")]


def looks(arms: Sequence[str], main: str = "", several: Sequence[str] = (), control: Sequence[str] = ()) -> dict:
    """arm -> (colour, marker), the same in all plots; arms never differ by colour alone."""
    out = {SFT: (INK, "o"), START: (FAINT, "p"), BASE: (FAINT, "h"), main: (BLUE, "o")}
    out |= {arm: (SEVERAL, "XPd"[i % 3]) for i, arm in enumerate(several)}
    out |= {arm: ("#7A8591", "x") for arm in control}
    others = [a for a in arms if a not in out]
    return out | {
        a: (PALETTE[i % len(PALETTE)], MARKERS[(i + i // len(PALETTE)) % len(MARKERS)]) for i, a in enumerate(others)
    }


def draw(comparison: Comparison, title: str, measure: str = "pass_at_1") -> bytes:
    """Test error against problems, log-log: the SFT curve, the arms, and how far right of an arm the curve
    reaches the same error."""
    read, least = comparison.by[measure], 0.5 / comparison.found.problems
    words = {"pass_at_1": "pass@1 at T=1", "greedy": "pass@1 at T=0"}.get(measure, f"pass@{comparison.found.k}")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
        ax = figure.subplots()
        sizes = sorted({*comparison.curve.sizes, *(r.size for r in comparison.rows)})
        ax.set_xscale("log")
        ax.set_xlim(sizes[0] / 1.45, sizes[-1] * 1.45)
        ax.xaxis.set_major_locator(FixedLocator(sizes))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        _error_axis(ax, read, least)
        _sft(ax, read, least)
        _arms(ax, comparison, read, least)
        none = min(*read.curve.error, *(r.error for r in read.rows)) < least
        note = f"; no error at all is drawn at {least:g}" if none else ""
        ax.set_xlabel(f"problems (log; the arms of a size stand side by side{note})")
        ax.set_ylabel(f"test error, 1 - {words} (log)", color=INK)
        ax.grid(True)
        ax.set_title(title, fontsize=11)
        figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=8.5)
        return png(figure)


def _sft(ax: Axes, read: Measured, least: float) -> None:
    curve = read.curve
    grid = np.geomspace(curve.sizes[0], curve.sizes[-1], 60)
    low, high = np.quantile(read.fits.at(grid), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    ax.fill_between(grid, low, high, color="#DDE2E7", linewidth=0, alpha=0.8, zorder=1)
    ax.plot(grid, read.fit.at(grid), color=INK, linewidth=1.3, zorder=2, label=f"SFT, a N^-{read.fit.b:.2g}")
    bounds = np.array([censored(curve.drawn[:, i]) for i in range(len(curve.sizes))])
    at = np.maximum(curve.error, least)
    _whiskers(ax, np.array(curve.sizes, float), at, np.maximum(bounds, least), (INK, "o"), "SFT, best of its grid")


def _whiskers(
    ax: Axes, x: np.ndarray, y: np.ndarray, bounds: np.ndarray, look: tuple[str, str], label: str | None, line: str = ""
) -> None:
    error = np.clip([y - bounds[:, 0], bounds[:, 1] - y], 0, None)
    error = np.where(np.isnan(error), 0, error)
    colour, marker = look
    ax.errorbar(x, y, yerr=error, color=colour, marker=marker, linestyle=line, linewidth=1, markersize=5.5,
                elinewidth=1, capsize=2, label=label, zorder=4)  # fmt: skip


def _arms(ax: Axes, comparison: Comparison, read: Measured, least: float) -> None:
    ours = (comparison.main, *comparison.several)
    arms = [a for a in dict.fromkeys(r.arm for r in comparison.rows)]
    control = [r.arm for r in comparison.rows if r.control]
    styles = looks(arms, comparison.main, comparison.several, control)
    # Side by side around their size, ours rightmost, where the arrows begin.
    order = sorted(arms, key=lambda a: (a in ours, a == comparison.main))
    shift = dict(zip(order, np.geomspace(0.74, 1.3, len(order)) if len(order) > 1 else [1.12], strict=True))
    for arm in arms:
        rows = read.of(arm)
        x = np.array([r.size * shift[arm] for r in rows])
        words = f"{arm} (start of all arms)" if arm == START else f"{arm} (shuffled labels)" if arm in control else arm
        errors, bounds = np.array([r.error for r in rows]), np.array([r.bounds for r in rows])
        _whiskers(ax, x, np.maximum(errors, least), np.maximum(bounds, least), styles[arm], words)
    # Where no label may stand: the fitted curve, at places close enough for none to slip between, and all points.
    half = 0.025 * float(np.diff(np.log(ax.get_ylim()))[0])
    grid = np.geomspace(read.curve.sizes[0], read.curve.sizes[-1], 200)
    places = [*zip(grid, read.fit.at(grid), strict=True)]
    places += zip(read.curve.sizes, np.maximum(read.curve.error, least), strict=True)
    taken = [(float(np.log(n)), float(np.log(e)) - half, float(np.log(e)) + half) for n, e in places]
    for row in read.rows:
        taken.append((float(np.log(row.size * shift[row.arm])), *np.log(np.maximum(row.bounds, least))))
    for arm in ours:
        for row in read.of(arm):
            _arrow(ax, read.curve.sizes, row, row.size * shift[arm], styles[arm][0], taken)


def _arrow(
    ax: Axes, sizes: list[int], row: Compared, x: float, colour: str, taken: list[tuple[float, float, float]]
) -> None:
    """From the arm's point along its error to where SFT gets there, or past its largest size. The label takes the
    first place along it where it covers nothing of `taken`: uprights (log x, log low, log high)."""
    if "power" not in row.readings or row.readings["power"].value <= 1 or row.error <= LEAST:
        return
    reading = row.readings["power"]
    beyond = reading.value == np.inf
    end = sizes[-1] * 1.3 if beyond else max(reading.value * row.size, x * 1.2)
    ax.annotate("", xy=(end, row.error), xytext=(x * 1.06, row.error), zorder=3,
                arrowprops={"arrowstyle": "->", "color": colour, "linestyle": (0, (4, 2)) if beyond else "-",
                            "linewidth": 1.2})  # fmt: skip
    text = f"{row.size:,}: {reading}"
    width = 0.0085 * len(text) * float(np.log(sizes[-1] / sizes[0]) + 0.8)  # of bold 8.5 points, in log x
    height = 0.0375 * float(np.diff(np.log(ax.get_ylim()))[0])

    def free(at: float, up: bool) -> bool:
        bottom = np.log(row.error) + (0 if up else -height)
        return not any(at - 0.03 < t < at + width and low < bottom + height and high > bottom for t, low, high in taken)

    places = np.log(x) + 0.12 + 0.1 * np.arange(60)
    places = places[places + width < np.log(sizes[-1] * 1.4)]
    found = [(at, up) for at in places for up in (True, False) if free(at, up)]
    at, up = found[0] if found else (np.log(x) + 0.12, True)
    middle = np.log(row.error) + (height / 2 if up else -height / 2)
    taken += [(at + width * i / 9, middle - height / 2, middle + height / 2) for i in range(10)]
    ax.annotate(text, (float(np.exp(at)), row.error), xytext=(0, 1.5 if up else -1.5), textcoords="offset points",
                color=colour, fontsize=8.5, fontweight="bold", va="bottom" if up else "top", ha="left",
                path_effects=_HALO, zorder=6)  # fmt: skip


def _error_axis(ax: Axes, read: Measured, least: float) -> None:
    """Logarithmic, as wide as the points and their intervals, with four to nine round numbers: a power of ten alone
    would often be none."""
    ax.set_yscale("log")
    ends = [censored(read.curve.drawn[:, i]) for i in range(len(read.curve.sizes))] + [r.bounds for r in read.rows]
    low, high = np.log(np.clip([min(e[0] for e in ends), max(e[1] for e in ends)], least, 1.0))
    low, high = np.exp([low - 0.05 * (high - low), high + 0.05 * (high - low)])
    ax.set_ylim(low, high)
    step = next((s for s in (0.01, 0.02, 0.05, 0.1) if (high - low) / s < 9), 0.2)
    ticks = np.arange(1, int(1 / step) + 1) * step
    if high > 6 * low:
        ticks = np.outer(10.0 ** np.arange(-4, 1), [1, 2, 5]).ravel()
    ax.yaxis.set_major_locator(FixedLocator(ticks[(ticks >= low) & (ticks <= high)].tolist()))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.2g}"))
    ax.yaxis.set_minor_locator(NullLocator())


# What it costs, and what else changes: small multiples.


def draw_costs(comparison: Comparison, title: str) -> bytes | None:
    """pass@1 against tokens and seconds; wrong steps in right answers, their mass, pass@k by problems. Panels
    without numbers are left out; None when there is none."""
    found = comparison.found
    arms = list(dict.fromkeys([SFT, *(r.arm for r in comparison.rows)]))
    styles = looks(arms, comparison.main, comparison.several, [r.arm for r in comparison.rows if r.control])
    panels = [
        ("pass_at_1", "generated_tokens", "pass@1 against generated tokens", "samples and labels, a run (log)"),
        ("pass_at_1", "seconds", "pass@1 against seconds", "sampling to training, without the start policy's (log)"),
        ("pass_at_k", "size", f"pass@{found.k}", "problems (log)"),
        ("greedy", "size", "pass@1 at T=0", "problems (log)"),
        ("spurious_share", "size", "wrong step inside right answers", "problems (log)"),
        ("mass", "size", "probability of wrong steps, after / before", "problems (log)"),
    ]
    lines = {(y, x): {a: p for a in arms if len(p := _line(found, a, x, y))} for y, x, _, _ in panels}
    panels = [p for p in panels if lines[p[0], p[1]]]
    if not panels:
        return None
    with mpl.rc_context(STYLE):
        columns = min(2, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(WIDTH, 0.9 + 2.75 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (y, x, words, unit) in zip(axes, panels, strict=False):
            for arm, points in lines[y, x].items():
                _whiskers(ax, points[:, 0], points[:, 1], points[:, 2:], styles[arm], None, "-")
            ax.set_title(words)
            ax.set_xlabel(unit)
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if _decades(lines[y, x]) < 2 else (1,)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: thousands(v)))
            ax.xaxis.set_minor_formatter(NullFormatter())
            if x == "size":
                ticks = sorted({v for p in lines[y, x].values() for v in p[:, 0]})
                ax.xaxis.set_major_locator(FixedLocator(ticks[:: 1 if len(ticks) < 7 else 2]))
                ax.xaxis.set_minor_locator(NullLocator())
                ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
            if y in ("spurious_share", "mass"):
                ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
                ax.set_ylim(0, None)
            ax.grid(True)
        for ax in axes[len(panels) :]:
            ax.axis("off")
        shown = [a for a in arms if any(a in lines[p[0], p[1]] for p in panels)]
        handles = [
            Line2D([], [], color=styles[a][0], marker=styles[a][1], markersize=5.5, linewidth=1, label=a) for a in shown
        ]
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.legend(handles=handles, loc="outside lower left", ncols=5, frameon=False, fontsize=8.5)
        return png(figure)


def _decades(lines: dict[str, np.ndarray]) -> float:
    """How many powers of ten the x values span."""
    x = np.concatenate([points[:, 0] for points in lines.values()])
    return float(np.log10(x.max() / x.min()))


def _line(found: Found, arm: str, x: str, y: str) -> np.ndarray:
    """An arm's sizes as rows x, y, low, high; without those that lack a number or have no place on a log axis."""
    rows = []
    for size in (n for n in found.sizes(arm) if n > 0):
        at = float(size) if x == "size" else found.mean(arm, size, x)
        if y == "mass":
            value, bounds = found.mass_ratio(arm, size), (np.nan, np.nan)
        else:
            value, bounds = found.mean(arm, size, y), found.bounds(arm, size, y)
        if at > 0 and value == value:
            rows.append((at, value, *bounds))
    return np.array(rows, dtype=np.float64)


# Methods side by side.


def draw_methods(found: Found, table: list[Standing], groups: list[Block], title: str) -> bytes:
    """PNG: one line per arm, the best on top, in blocks by the number of rounds."""
    order: list[Standing | Block] = []  # from the top down; a block's name heads it
    for group in groups:
        order += [group, *group.arms]
    arms = [(y, row) for y, row in enumerate(order) if isinstance(row, Standing)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.3 * len(order)), layout="constrained")
        shares = any(r.arm and found.numbers(r.arm, r.size, "spurious_share") for r in table)
        axes = figure.subplots(1, 2 if shares else 1, squeeze=False, width_ratios=[1.5, 1] if shares else [1])[0]
        for ax in axes:
            ax.set_ylim(len(order) - 0.4, -0.6)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x")
        _pass(axes[0], found, arms)
        if shares:
            _shares(axes[1], found, arms)
        names = [visible(row.arm) if isinstance(row, Standing) else row.name for row in order]
        axes[0].set_yticks(range(len(order)), names, fontsize=9.5, color=INK)
        for label, row in zip(axes[0].get_yticklabels(), order, strict=True):
            label.set_fontweight("normal" if isinstance(row, Standing) else "bold")
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


def _pass(ax: Axes, found: Found, arms: list[tuple[int, Standing]]) -> None:
    for y, row in arms:
        ax.plot(row.bounds, [y, y], color=BLUE, linewidth=1.4, marker="|", markersize=6)
        ax.plot(row.value, y, "o", color=BLUE, markersize=5.5)
        greedy = found.mean(row.arm, row.size, "greedy")
        ax.plot(greedy, y, "D", color=ORANGE, markerfacecolor="white", markersize=4.5, zorder=4)
        for value, colour in ((row.value, BLUE), (greedy, ORANGE)):
            if value == value:
                ax.annotate(f"{value:.3f}", (value, y), fontsize=8, xytext=(0, 4), textcoords="offset points",
                            ha="center", va="bottom", color=colour)  # fmt: skip
    ax.margins(x=0.12)
    ax.set_title("pass@1")


def _shares(ax: Axes, found: Found, arms: list[tuple[int, Standing]]) -> None:
    for y, row in arms:
        value, (low, high) = found.with_bounds(row.arm, row.size, "spurious_share")
        if value == value:
            ax.barh(y, value, height=0.55, color=GREY)
            ax.plot([low, high], [y, y], color=INK, linewidth=1, marker="|", markersize=6)
        else:
            ax.text(0, y, " not checked", va="center", color=FAINT, fontsize=8)
    ax.set_xlim(0, None)
    ax.set_yticks([])
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    ax.set_title("wrong step inside right answers")


def _start(axes: list[Axes], found: Found, table: list[Standing]) -> None:
    """An upright at what the start policy had."""
    start = next((r for r in table if r.arm == START), None)
    if start is None:
        return
    for ax, value in zip(axes, (start.value, found.mean(START, start.size, "spurious_share")), strict=False):
        if value == value:
            ax.axvline(value, color=INK, linestyle=(0, (5, 2.5)), linewidth=1, zorder=1)


# The map.


def draw_map(rows: Sequence[Mapping[str, Any]], bands: Iterable[str]) -> bytes:
    """PNG: a panel per band; samples a problem across, worlds by length down; the difference in color and in figures.
    A figure whose interval excludes 0 is bold."""
    shown = [band for band in bands if any(row["band"] == band for row in rows)]
    down = sorted({(row["steps"], row["world"], row["size"], row["rounds"]) for row in rows})
    across = sorted({row["samples"] for row in rows})
    many = {name: len({at[i] for at in down}) > 1 for i, name in ((1, "world"), (2, "size"), (3, "rounds"))}
    names = []
    for steps, world, size, rounds in down:
        parts = [world if many["world"] else "", f"{steps:g} steps", f"{size:,} problems" if many["size"] else ""]
        names.append(", ".join(filter(None, [*parts, f"{rounds} rounds" if many["rounds"] else ""])))
    most = max(0.02, max(abs(row["gap"]) for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.42 * len(down) * -(-len(shown) // 2)), layout="constrained")
        axes = figure.subplots(-(-len(shown) // 2), min(2, len(shown)), squeeze=False).ravel()
        colors = mpl.colors.LinearSegmentedColormap.from_list("map", [ORANGE, "white", BLUE])
        for ax, band in zip(axes, shown, strict=False):
            grid = np.full((len(down), len(across)), np.nan)
            for row in (row for row in rows if row["band"] == band):
                y, x = (
                    down.index((row["steps"], row["world"], row["size"], row["rounds"])),
                    across.index(row["samples"]),
                )
                grid[y, x] = row["gap"]
                sure = row["low"] > 0 or row["high"] < 0
                ax.text(x, y, f"{row['gap']:+.3f}", ha="center", va="center", fontsize=8.5, color=INK,
                        fontweight="bold" if sure else "normal")  # fmt: skip
            ax.imshow(grid, cmap=colors, vmin=-most, vmax=most, aspect="auto", alpha=0.75)
            ax.set_xticks(range(len(across)), [f"{n}" for n in across])
            ax.set_yticks(range(len(down)), [visible(name) for name in names])
            ax.tick_params(length=0)
            ax.set_title(f"{band} held-out problems")
        for ax in axes[len(shown) :]:
            ax.remove()
        figure.supxlabel("samples a problem (bold: the 95% interval excludes 0)", fontsize=9, color=FAINT)
        figure.suptitle("pass@1 at T=1: step_advantage minus topr, equal samples", x=0.01, ha="left", fontsize=11)
        return png(figure)
