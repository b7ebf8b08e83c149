"""Words on what becomes of the finding when all answer greedily, or have several tries: the first thing that a
reader of a gain at T=1 asks."""

from __future__ import annotations

import numpy as np

from negrl.bench.efficiency_stats import CONFIDENCE
from negrl.bench.points_compare import GOAL, Compared, Comparison
from negrl.bench.points_read import SFT
from negrl.bench.points_words import between, listed

SHARP = 0.5
"""SFT lacks mostly sharpness when its greedy error is below this share of its error at T=1."""
FEW = 0.01
"""Below this error at its largest size SFT leaves little to be told apart."""


def word(c: Comparison, measure: str) -> str:
    """ "T=1", "pass@4", "T=0"."""
    return {"pass_at_1": "T=1", "pass_at_k": f"pass@{c.found.k}", "greedy": "T=0"}[measure]


def at_zero(c: Comparison) -> list[str]:
    """Whether the finding holds at T=0, a line for the main arm and for each of its kind."""
    lines = []
    for arm in (c.main, *c.several):
        pairs = [(r, c.by["greedy"].at(r)) for r in c.of(arm) if r.readings]
        if not pairs:
            continue
        stories = {_story(*pair) for pair in pairs}
        begin = "At T=0, where all answer greedily, it is not shown"
        if stories == {"holds"}:
            begin = "At T=0, where all answer greedily, it holds"
        elif "smaller" in stories:
            begin = "Greedy decoding (T=0) tells another story"
        readings = "; ".join(f"{r.size:,} problems: {zero.readings['power']}" for r, zero in pairs)
        found = {zero.size: zero.readings["power"] for _, zero in pairs}
        groups = (
            ("clearly above 1", [n for n, r in found.items() if r.side > 0]),
            ("clearly below 1", [n for n, r in found.items() if r.side < 0]),
            ("neither clearly above nor below 1", [n for n, r in found.items() if r.side == 0]),
        )
        tail = ", ".join(f"{what} on {listed(sizes)}" for what, sizes in groups if sizes)
        goal = [n for n, r in found.items() if r.at_least >= GOAL]
        tail += f"; the interval begins at {GOAL:g} or more on {listed(goal) or 'none'}"
        lines.append(f"- **{begin}: multiplier of `{arm}` on {readings}** ({tail}).")
    return lines


def _story(one: Compared, zero: Compared) -> str:
    """Is the multiplier at T=0 (`zero`) what it is at T=1 (`one`)?"""
    at_one, at_zero = one.readings["power"], zero.readings["power"]
    if at_zero.high < at_one.low:
        return "smaller"
    reached = at_zero.at_least >= GOAL or (at_one.at_least < GOAL and at_zero.side > 0)
    return "holds" if reached else "open"


def section(c: Comparison, image: str) -> list[str]:
    """The multipliers by measure side by side, the T=0 figure, and why they differ."""
    chosen = any(g.chosen_greedy for g in c.found.grid)
    sft = (
        "In each column SFT has the best settings of its grid by that very measure, on the validation problems."
        if chosen
        else "SFT's settings were chosen by pass@1 at T=1 for all columns."
    )
    names = [word(c, m) for m in c.by]
    return [
        f"## The multiplier at {listed(names)}",
        "\n".join(_table(c)),
        f"All read off power laws, as below, {CONFIDENCE:.0%} intervals in brackets. *No fit*: straight lines between "
        f"the measured sizes; where it differs from the power law, trust neither. {sft} The arms have the same one "
        f"setting each as at T=1.",
        why(c),
        f"![greedy test error against problems]({image})",
    ]


def _table(c: Comparison) -> list[str]:
    heads = ["arm", "problems", *(word(c, m) for m in c.by), "T=0, no fit", "pass@1 at T=1", "pass@1 at T=0"]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for r in sorted(c.rows, key=lambda r: (r.size, -r.error)):
        if not r.readings:
            continue
        greedy = c.by["greedy"].at(r)
        name = f"**{r.arm}**" if r.arm in (c.main, *c.several) else r.arm + (" (shuffled labels)" if r.control else "")
        cells = [
            name, f"{r.size:,}", *(str(m.at(r).readings["power"]) for m in c.by.values()),
            str(greedy.readings["isotonic"]), between(c.found, r.arm, r.size, "pass_at_1"),
            between(c.found, r.arm, r.size, "greedy"),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def why(c: Comparison) -> str:
    """What SFT's error at T=1 is made of, by what it is at T=0."""
    size = c.curve.sizes[-1]
    sampled, greedy = (float(c.by[m].curve.error[-1]) for m in ("pass_at_1", "greedy"))
    text = (
        f"On {size:,} problems SFT errs in {sampled:.1%} of its samples at T=1 and in {greedy:.1%} of its greedy "
        "answers. "
    )
    if greedy >= SHARP * sampled:
        text += "The two are not far apart, so it is not for want of sharpness that SFT errs."
    else:
        text += (
            "So what SFT lacks here is mostly sharpness: it gives its teacher's wrong steps about the weight that "
            "they had in the data, and samples show them, while its likeliest answer is right. That part of an arm's "
            "gain at T=1 greedy decoding has for nothing; what is left of it stands under T=0."
        )
        best = c.headline()
        curve = c.by["greedy"].curve
        ahead = [i for i, e in enumerate(curve.error) if best is not None and e < best.error]
        if best is not None and ahead:
            i = ahead[0]
            text += (
                f" `{SFT}` on {curve.sizes[i]:,} problems, decoded greedily, errs less ({float(curve.error[i]):.3f}) "
                f"than `{best.arm}` on {best.size:,} does at T=1 ({best.error:.3f})."
            )
    many = c.by.get("pass_at_k")
    if many is not None and 0 <= float(many.curve.error[-1]) < FEW:
        text += (
            f" For pass@{c.found.k} there is little to tell apart: SFT leaves {float(many.curve.error[-1]):.1%} of "
            f"the problems unsolved on {size:,}."
        )
    return text


def caveats(c: Comparison) -> list[str]:
    """What makes the reading at T=0 weak."""
    greedy, lines = c.by["greedy"], []
    for arm in (c.main, *c.several):
        for r in greedy.of(arm):
            wrong = round(r.error * c.found.problems * len(c.found.cell(arm, r.size)))
            if wrong < 10:
                lines.append(f"`{arm}` on {r.size:,} gave {wrong} wrong answers at T=0: too few for a sure reading.")
    misfit = np.abs(greedy.curve.error - greedy.fit.at(np.array(greedy.curve.sizes, float))) / greedy.curve.deviation
    lines.append(
        f"At T=0 the largest distance of a size from the power law is {float(misfit.max()):.1f} of its standard "
        "deviations."
    )
    if (rises := int((np.diff(greedy.curve.error) > 0).sum())) > 0:
        lines.append(f"SFT's greedy error rises at {rises} of {len(misfit) - 1} steps from size to size.")
    return lines
