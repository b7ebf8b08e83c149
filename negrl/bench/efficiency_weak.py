"""What the figures of the sample-efficiency bench say against its own multiplier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from negrl.bench.efficiency_measures import caveats
from negrl.bench.efficiency_stats import KINDS
from negrl.bench.points_compare import GOAL, Comparison
from negrl.bench.points_read import BASE, Found, GridRow
from negrl.bench.points_words import incidents, listed, world


def weak(c: Comparison) -> list[str]:
    """What the figures say against the multiplier."""
    found, sft = c.found, c.by["pass_at_1"]
    b = float(sft.fit.b)
    lines = []
    best = c.headline()
    if b < 1e-3:
        lines.append("The SFT curve does not fall: any gain at all reads as more than can be measured.")
    else:
        cut = 1 - GOAL**-b
        lines.append(
            f"The multiplier hangs on how fast the SFT curve falls: at N^-{b:.3f} an error {cut:.1%} smaller "
            f"reads as {GOAL:g}x, one {1 - 2**-b:.1%} smaller as 2x."
        )
    if best is not None:
        low, high = best.bounds
        lines.append(f"The error of `{c.main}` on {best.size:,} problems is {best.error:.3f} [{low:.3f}, {high:.3f}].")
        for r in [x for a in (c.main, *c.several) for x in c.of(a) if x.readings]:
            ends = {k: r.readings[k].at_least for k in KINDS}
            if len({e >= GOAL for e in ends.values()}) > 1:
                words = ", ".join(f"{k} {r.readings[k].word(r.readings[k].low)}" for k in KINDS)
                lines.append(
                    f"`{r.arm}` on {r.size:,}: whether the goal is reached hangs on how the curve is read ({words})."
                )
            if r.readings["power"].value == np.inf and r.against[c.curve.sizes[-1]][0] <= 0:
                lines.append(
                    f"`{r.arm}` on {r.size:,} lies below the fitted curve, but not below SFT's largest size itself."
                )
            censored = r.readings["power"].above
            if 0.005 < censored < 0.995:
                lines.append(f"`{r.arm}` on {r.size:,}: {censored:.0%} of the draws lie beyond SFT's largest size.")
    step = np.diff(c.curve.error)
    if (rises := int((step > 0).sum())) > 0:
        lines.append(
            f"SFT's measured error rises at {rises} of {len(step)} steps from size to size; the fit smooths that."
        )
    misfit = float(np.max(np.abs(c.curve.error - sft.fit.at(np.array(c.curve.sizes, float))) / c.curve.deviation))
    lines.append(f"The largest distance of a size from the power law is {misfit:.1f} of its standard deviations.")
    lines += caveats(c)
    for when, chosen in (
        ("At T=1", [g for g in found.grid if g.chosen]),
        (f"For pass@{found.k}", [g for g in found.grid if g.chosen_k]),
        ("At T=0", [g for g in found.grid if g.chosen_greedy]),
    ):
        lines += _edges(found, when, chosen) if chosen else []
    if len(c.curve.sizes) < 6:
        lines.append(f"The SFT curve has only {len(c.curve.sizes)} sizes.")
    if len(c.curve.seeds) < 5:
        many = f"{len(c.curve.seeds)} seed{'s' if len(c.curve.seeds) != 1 else ''}"
        lines.append(f"Only {many}" + (": how much seeds differ is not known." if len(c.curve.seeds) == 1 else "."))
    lines += incidents(found)
    if bases := found.numbers(BASE, 0, "pass_at_1"):
        lines.append(f"Seeds differ from the base model on: its pass@1 is {listed([f'{x:.3f}' for x in bases])}.")
    return [*lines, f"One world ({world(found)}) and one small model; the multiplier counts problems, not tokens."]


def _edges(found: Found, when: str, chosen: Sequence[GridRow]) -> list[str]:
    """How often a better setting may lie beyond those tried."""
    lines = []
    for setting, words in (("learning_rate", "learning rate"), ("epochs", "number of epochs")):
        ends = [(getattr(g, setting), tried(found, g, setting)) for g in chosen]
        lowest, highest = (sum(value == end(values) for value, values in ends) for end in (min, max))
        text = f"{when} SFT's best {words} is the lowest tried at its size in {lowest} of {len(chosen)} cases"
        text += f" and the highest in {highest}"
        if single := sorted({g.size for g, (_, values) in zip(chosen, ends, strict=True) if len(values) == 1}):
            text += f"; on {listed(single)} problems only one was tried"
        lines.append(text + ".")
    return lines


def tried(found: Found, row: GridRow, setting: str) -> set[float]:
    """What SFT tried of a setting at the row's size."""
    return {getattr(g, setting) for g in found.grid if g.size == row.size}


def at_edge(found: Found, row: GridRow, setting: str) -> bool:
    """Whether a better value may lie beyond those tried at this size; one or two have no inside."""
    return getattr(row, setting) in (min(tried(found, row, setting)), max(tried(found, row, setting)))
