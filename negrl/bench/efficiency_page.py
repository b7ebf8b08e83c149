"""The page, the CSV and the plots of `negrl bench sample-efficiency`, for a reader who doubts it. Every sentence
is computed from the run folder."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from negrl.bench.efficiency_measures import at_zero, section, word
from negrl.bench.efficiency_stats import CONFIDENCE, KINDS, interval
from negrl.bench.efficiency_weak import at_edge, weak
from negrl.bench.points_compare import EQUAL, GOAL, Compared, Comparison, compare
from negrl.bench.points_read import BASE, SFT, START, GridRow, read
from negrl.bench.points_words import (
    bench_cost,
    between,
    count,
    listed,
    number,
    percent,
    points_csv,
    settings,
    world,
)
from negrl.store import write_atomic
from negrl.terminal import safe_lines


def write(run_folder: Path, out: Path, command: str) -> None:
    """Write `out`.md, .csv (a row per point), -multipliers.csv, .png, -greedy.png and -costs.png from a run folder;
    print the finding.

    Raises:
        InputError: a file of the run folder is missing or does not fit; SFT has no curve.
    """
    from negrl.bench.efficiency_plot import draw, draw_costs

    comparison = compare(read(run_folder))
    costs = draw_costs(comparison, "What the arms cost, and what else changes")
    files: dict[str, bytes] = {
        ".csv": points_csv(comparison.found).encode(),
        "-multipliers.csv": multipliers_csv(comparison).encode(),
        ".png": draw(comparison, title(comparison)),
        "-greedy.png": draw(comparison, title(comparison, "greedy"), "greedy"),
    }
    if costs is not None:
        files["-costs.png"] = costs
    files[".md"] = page(comparison, out.name, command, costs is not None).encode()
    for suffix, data in files.items():
        write_atomic(out.with_name(out.name + suffix), data)
    print(safe_lines("\n".join([finding(comparison), *at_zero(comparison)]).replace("**", "")))


def page(c: Comparison, stem: str, command: str, with_costs: bool = True) -> str:
    """The whole document."""
    found, curve = c.found, c.curve
    blocks = [
        f"# Sample efficiency: {world(found)}",
        f"`{command}`",
        f"Hardware: {found.costs.get('hardware', 'not recorded')}. Seeds: {listed(found.seeds())}. Every point is "
        f"evaluated on {found.problems:,} problems, {found.samples:g} samples each at T=1 and one at T=0"
        f"{', the same problems for all points' if found.shared else ''}.",
        "\n".join([finding(c), *at_zero(c)]),
        f"![test error against problems]({stem}.png)",
        *section(c, f"{stem}-greedy.png"),
        "## How many times more problems SFT needs at T=1",
        "\n".join(_multiplier_table(c)),
        f"Brackets: {CONFIDENCE:.0%} intervals. The multiplier is read off the power law through SFT's "
        f"{len(curve.sizes)} sizes, between {curve.sizes[0]:,} and {curve.sizes[-1]:,} problems and never beyond "
        "(`> x`, `< x`). Beside it the same with a floor under the power law, and without any fit: straight lines "
        "(log-log) between the measured sizes, made monotone. *SFT is worse up to*: the largest size at which SFT's "
        "error is significantly above the arm's, as it is at all smaller ones; it rests on no curve at all.",
        "## The SFT curve, and what SFT was allowed",
        "\n".join(_sft_table(c)),
        _sft_words(c),
        *_rivals(c),
        "## What an arm costs",
        "\n".join(_cost_table(c)),
        "Means over seeds. Tokens: all samples and all labelling rollouts, of all rounds. Seconds: sampling to "
        f"training, with the start policy's where it was timed. {_seconds_words(c)}",
        *([f"![what the arms cost]({stem}-costs.png)"] if with_costs else []),
        "## Wrong steps inside right answers",
        "\n".join(_spurious_table(c)),
        "Share: of the right answers at T=1, those with a wrong step, by the world's checker. Probability: of wrong "
        "steps inside right answers of the start policy (of the same size, or of the arms' largest), under the start "
        "policy and under the trained one. "
        "Intervals of these are over seeds alone.",
        "## The control",
        _control(c),
        "## Where the multiplier is weak",
        "\n".join(f"- {line}" for line in weak(c)),
        "## How the intervals are made",
        "Two sources, drawn again on their own and added: the evaluation problems (bootstrap, the same draw for "
        "all arms, sizes and seeds that share them) and the seeds (bootstrap, the same draw for SFT and the arm; "
        "a handful of seeds makes a plain bootstrap too narrow, so its deviations are widened to Student's t with "
        "seeds - 1 degrees of freedom). The SFT curve is fitted anew in every draw, sizes weighted by their own "
        f"uncertainty. {len(found.sample.drawn):,} draws; an end of an interval is `> x` only if that quantile of the "
        "draws lies beyond SFT's largest size.",
        "## What the bench cost",
        bench_cost(found),
        *settings(found),
        f"Every point with all its columns: [{stem}.csv]({stem}.csv); the multipliers: "
        f"[{stem}-multipliers.csv]({stem}-multipliers.csv).",
    ]
    return "\n\n".join(b for b in blocks if b) + "\n"


def title(c: Comparison, measure: str = "pass_at_1") -> str:
    """The finding in a line; by other measures for the same arm and size."""
    best = c.headline()
    if best is None:
        return f"{c.main}: no seed in common with SFT"
    reading = c.by[measure].at(best).readings["power"]
    many = f"{reading} as many" if reading.value else "fewer"
    if reading.low == np.inf:
        many = f"more than {reading.most:,.0f}x as many"
    return f"{c.main} on {best.size:,} problems: for the same error SFT needs {many} ({word(c, measure)})"


def finding(c: Comparison) -> str:
    """What came out, in a sentence per arm; whether the goal is reached; all of it by condition."""
    lines = []
    for arm in (c.main, *c.several):
        rows = [r for r in c.of(arm) if r.readings]
        parts = [f"{r.size:,} problems: {r.readings['power']}" for r in rows]
        if parts:
            rounds = f" ({rows[0].rounds} rounds)" if rows[0].rounds > 1 else ""
            lines.append(
                f"- **{arm}{rounds}: SFT needs this many times more problems for the same test error at T=1: "
                f"{'; '.join(parts)}** ({CONFIDENCE:.0%} interval over problems and {_seeds(rows)})."
            )
        for r in rows:
            held = [
                f"{_side(gap)} that of SFT on {'the same ' * (n == r.size)}{n:,} ({_gap(gap)})"
                for n, gap in r.against.items()
            ]
            lines.append(
                f"- On {r.size:,} problems its error of {r.error:.3f} is {', and '.join(held)}; in brackets SFT's "
                "minus its own."
            )
        reached = [r for r in rows if r.readings["power"].at_least >= GOAL]
        missed = [r for r in rows if r not in reached]
        if reached:
            lines.append(
                f"- Goal (lower end of the interval at {GOAL:g} or more, at T=1): reached by `{arm}` on "
                f"{listed([r.size for r in reached])} problems."
            )
        if missed:
            ends = ", ".join(f"{r.readings['power'].word(r.readings['power'].low)} on {r.size:,}" for r in missed)
            lines.append(f"- Goal missed by `{arm}` at T=1: the interval begins at {ends} problems.")
    return "\n".join(lines) or f"`{c.main}` shares no seed with SFT: there is nothing to compare."


def _side(gap: tuple[float, float, float]) -> str:
    return "below" if gap[1] > 0 else "above" if gap[2] < 0 else "neither clearly below nor above"


def _gap(gap: tuple[float, float, float]) -> str:
    return f"{gap[0]:+.3f} [{gap[1]:+.3f}, {gap[2]:+.3f}]"


def _seeds(rows: Sequence[Compared]) -> str:
    counts = sorted({len(r.seeds) for r in rows})
    return f"{listed(counts)} seed{'s' if counts != [1] else ': how far seeds differ is not in it'}"


def _multiplier_table(c: Comparison) -> list[str]:
    lines = [
        "| arm | problems | pass@1 | multiplier | with a floor | no fit | SFT is worse up to |",
        "|---" + "|---:" * 6 + "|",
    ]
    for r in sorted(c.rows, key=lambda r: (r.size, -r.error)):
        readings = [str(r.readings[k]) if r.readings else "–" for k in KINDS]
        beaten = f"{r.beaten:,}" if r.beaten else "–"
        lines.append(f"| {_name(r, c)} | {r.size:,} | {_pass(r.error, r.bounds)} | {' | '.join(readings)} | {beaten} |")
    return lines


def _name(r: Compared, c: Comparison) -> str:
    return f"**{r.arm}**" if r.arm in (c.main, *c.several) else f"{r.arm} (shuffled labels)" if r.control else r.arm


def _pass(error: float, bounds: Sequence[float]) -> str:
    return f"{1 - error:.3f} [{1 - bounds[1]:.3f}, {1 - bounds[0]:.3f}]"


def _sft_table(c: Comparison) -> list[str]:
    found, curve = c.found, c.curve
    power, floor = (fit.at(np.array(curve.sizes, float)) for fit in (c.by["pass_at_1"].fit, c.by["pass_at_1"].floor))
    lines = [
        "| problems | pass@1 | power law | with a floor | T=0 | settings chosen (seeds) | for pass@k | for T=0 "
        "| at an edge of the grid: learning rate | epochs |",
        "|---:" * 5 + "|---|---|---|---:|---:|",
    ]
    for i, size in enumerate(curve.sizes):
        chosen = [g for g in found.grid if g.chosen and g.size == size]
        own = [g for g in found.grid if g.size == size]
        words = [_settings(g for g in own if getattr(g, by)) for by in ("chosen", "chosen_k", "chosen_greedy")]
        edges = [
            f"{sum(at_edge(found, g, setting) for g in chosen)} of {len(chosen)}" if chosen else "–"
            for setting in ("learning_rate", "epochs")
        ]
        lines.append(
            f"| {size:,} | {_pass(float(curve.error[i]), interval(curve.drawn[:, i]))} | {1 - power[i]:.3f} | "
            f"{1 - floor[i]:.3f} | {between(found, SFT, size, 'greedy')} | {' | '.join([*words, *edges])} |"
        )
    return lines


def _settings(chosen: Iterable[GridRow]) -> str:
    counts = Counter((g.learning_rate, g.epochs) for g in chosen)
    return ", ".join(f"lr {lr:g} x {e:g} epochs ({n})" for (lr, e), n in sorted(counts.items())) or "not recorded"


def _sft_words(c: Comparison) -> str:
    text = ""
    for name, sft in ((m, c.by[m]) for m in ("pass_at_1", "greedy")):
        fit, floor, (low, high) = sft.fit, sft.floor, interval(sft.fits.b)
        text += f"Fit at {word(c, name)}: error = {float(np.exp(fit.log_a)):.3g} N^-{float(fit.b):.3f}, exponent "
        text += f"[{low:.3f}, {high:.3f}]; with a floor: {float(np.exp(floor.log_a)):.3g} N^-{float(floor.b):.3f} + "
        text += f"{float(floor.c):.3f}. "
    if not c.found.grid:
        return text + "No grid of SFT is in the run folder (grid.csv): what it was allowed is in the bench file below."
    settings = {(g.learning_rate, g.epochs) for g in c.found.grid}
    rates, epochs = sorted({g.learning_rate for g in c.found.grid}), sorted({g.epochs for g in c.found.grid})
    return text + (
        f"At every size and seed SFT was trained with up to {len(settings)} settings (learning rates "
        f"{listed([f'{r:g}' for r in rates])}; epochs {listed([f'{e:g}' for e in epochs])}) and got the one with the "
        "best pass@1 on validation problems, which are no evaluation problems (for pass@k and T=0: the best by these). "
        "The other arms have one setting each, for all sizes and seeds."
    )


def _rivals(c: Comparison) -> list[str]:
    if not c.rivals:
        return []
    head = "| arm | problems | against | its tokens | its error minus the arm's |"
    lines = [head, "|---|---:|---|---:|---:|"]
    for r in c.rivals:
        lines.append(f"| {r.main} | {r.size:,} | {r.arm} | {r.tokens:.2f}x | {_gap(r.error)} |")
    words = []
    for arm in dict.fromkeys(r.main for r in c.rivals):
        equal = [r for r in c.rivals if r.main == arm and r.had_its_chance]
        if not equal:
            words.append(f"No other arm generated as many tokens as `{arm}`: at equal tokens nothing is known.")
            continue
        behind = [r for r in equal if r.error[1] > 0]
        rest = [r for r in equal if r.error[1] <= 0]
        words.append(
            f"With at least {EQUAL:.0%} of the tokens of `{arm}`, {len(behind)} of {len(equal)} have a significantly "
            "larger error than it" + (f"; not {listed([f'`{r.arm}` on {r.size:,}' for r in rest])}." if rest else ".")
        )
    return ["## At equal generated tokens", "\n".join(lines), " ".join(words)]


def _cost_table(c: Comparison) -> list[str]:
    lines = [
        "| arm | problems | generated tokens | of which labels | seconds | pass@1 | SFT's seconds for the same error |",
        "|---" + "|---:" * 6 + "|",
    ]
    for r in sorted(c.rows, key=lambda r: (r.size, -r.error)):
        labels = c.found.mean(r.arm, r.size, "label_tokens")
        ratio = str(r.seconds_ratio) if r.seconds_ratio else "–"
        lines.append(
            f"| {_name(r, c)} | {r.size:,} | {count(r.tokens)} | {count(labels)} | {count(r.seconds)} | "
            f"{1 - r.error:.3f} | {ratio} |"
        )
    for n in c.curve.sizes:
        found = c.found
        lines.append(
            f"| {SFT} | {n:,} | {count(found.mean(SFT, n, 'generated_tokens'))} | – | "
            f"{count(found.mean(SFT, n, 'seconds'))} | {found.mean(SFT, n, 'pass_at_1'):.3f} | – |"
        )
    return lines


def _seconds_words(c: Comparison) -> str:
    best = c.headline()
    if best is None or best.seconds_ratio is None:
        return "SFT's seconds are not known at all sizes, so they are not compared."
    r = best.seconds_ratio
    start = "The last column counts one training of SFT, without its grid. "
    if r.low == np.inf:
        return (
            start + f"SFT never reaches the error of `{c.main}` on {best.size:,} problems, however long it trains here."
        )
    verdict = "more" if r.low > 1 else "less" if r.high < 1 else "neither clearly more nor less"
    return start + f"In seconds SFT takes {verdict} than `{c.main}` on {best.size:,} problems ({r})."


def _spurious_table(c: Comparison) -> list[str]:
    found = c.found
    lines = [
        f"| arm | problems | share | probability before | after | pass@{found.k} | T=0 |",
        "|---" + "|---:" * 6 + "|",
    ]
    cells = [(SFT, n) for n in c.curve.sizes] + [
        (r.arm, r.size) for r in sorted(c.rows, key=lambda r: (r.size, -r.error))
    ]
    if BASE in found.arms():
        cells = [(BASE, n) for n in found.sizes(BASE)[:1]] + cells
    for arm, n in cells:
        share, low_high = found.mean(arm, n, "spurious_share"), found.bounds(arm, n, "spurious_share")
        before, after = (number(found.mean(arm, n, f"mass_{when}")) for when in ("before", "after"))
        lines.append(
            f"| {arm} | {f'{n:,}' if n else '–'} | {percent(share, low_high)} | {before} | {after} | "
            f"{between(found, arm, n, 'pass_at_k')} | {between(found, arm, n, 'greedy')} |"
        )
    return lines


def _control(c: Comparison) -> str:
    rows = [r for r in c.rows if r.control and r.readings]
    if not rows:
        return "There is no control with shuffled labels among these points."
    lines = []
    for r in rows:
        reading = r.readings["power"]
        word = "gains" if reading.low > 1 else "does not gain"
        text = f"- `{r.arm}` on {r.size:,} problems, with shuffled labels, {word}: multiplier {reading}"
        seeds = [p.seed for p in c.found.cell(r.arm, r.size) if p.seed in c.found.sample.seeds(START, r.size)]
        if seeds:
            cells = [c.found.sample.cell(a, r.size, seeds) for a in (START, r.arm)]
            low, high = interval(cells[0][1] - cells[1][1])
            text += f"; pass@1 {cells[0][0] - cells[1][0]:+.3f} [{low:+.3f}, {high:+.3f}] over its start"
            text += ", a gain that a control must not have" if low > 0 else ""
        lines.append(text + ".")
    return "\n".join(lines)


def multipliers_csv(c: Comparison) -> str:
    """A row per measure, arm, size and kind of curve; inf: beyond SFT's largest size; 0: below its smallest."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    ends = ("multiplier", "low", "high", "least", "most", "share_above")
    writer.writerow(["measure", "arm", "size", "seeds", "curve", *ends])
    for measure, measured in c.by.items():
        for r in measured.rows:
            for kind, m in r.readings.items():
                cells = [f"{x:.6g}" for x in (m.value, m.low, m.high, m.least, m.most, m.above)]
                writer.writerow([measure, r.arm, r.size, len(r.seeds), kind, *cells])
    return buffer.getvalue()
