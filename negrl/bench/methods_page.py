"""The page, the CSV and the plot of `negrl bench methods`: every method from the same start, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negrl.bench.efficiency_stats import CONFIDENCE, difference, interval
from negrl.bench.points_read import BASE, SFT, START, Found, read
from negrl.bench.points_words import (
    bench_cost,
    between,
    count,
    incidents,
    listed,
    percent,
    points_csv,
    settings,
    world,
)
from negrl.errors import InputError
from negrl.store import write_atomic
from negrl.terminal import safe_lines

MAIN = "step_advantage"
NEAR = 0.1
"""Tokens within this share of the main arm's count as equal."""


@dataclass(frozen=True)
class Row:
    """An arm at a size: pass@1 at T=1 with its interval, and what it gained over the start policy."""

    arm: str
    size: int
    rounds: int
    seeds: list[int]
    value: float
    bounds: tuple[float, float]
    gain: tuple[float, float, float] | None
    tokens: float
    reference: bool


def write(run_folder: Path, out: Path, command: str) -> None:
    """Write `out`.md, .csv (a row per point) and .png (further sizes: -SIZE.png); print the findings.

    Raises:
        InputError: a file of the run folder is missing or does not fit; no arm was trained.
    """
    from negrl.bench.methods_plot import draw

    found = read(run_folder)
    sizes = sorted({n for a in found.arms() if a not in (SFT, START, BASE) for n in found.sizes(a)})
    if not sizes:
        raise InputError(f"{run_folder / 'points.csv'}: no arm beside {SFT}, {START} and {BASE}")
    tables = {n: rows(found, n) for n in sizes}
    images = {n: out.name + (".png" if n == sizes[0] else f"-{n}.png") for n in sizes}
    for size, name in images.items():
        write_atomic(out.with_name(name), draw(found, tables[size], title(tables[size])))
    write_atomic(out.with_name(out.name + ".csv"), points_csv(found).encode())
    write_atomic(out.with_name(out.name + ".md"), page(found, tables, images, out.name, command).encode())
    for table in tables.values():
        print(safe_lines("\n".join(findings(found, table))))


def rows(found: Found, size: int) -> list[Row]:
    """All arms at `size` by rounds, then by pass@1; the start and the base policy first."""
    out = []
    for arm in found.arms():
        at = size if found.cell(arm, size) else found.sizes(arm)[0] if arm == BASE else None
        if at is None:
            continue
        cell = found.cell(arm, at)
        seeds = [p.seed for p in cell]
        error, drawn = found.sample.cell(arm, at, seeds)
        low, high = interval(drawn)
        common = [s for s in seeds if arm not in (START, BASE) and s in found.sample.seeds(START, size)]
        pair = [found.sample.cell(a, size, common) for a in (START, arm)] if common else []
        out.append(
            Row(
                arm=arm, size=at, rounds=cell[0].rounds, seeds=seeds, value=1 - error, bounds=(1 - high, 1 - low),
                gain=difference(pair[0], pair[1]) if pair else None, tokens=found.mean(arm, at, "generated_tokens"),
                reference=arm in (START, BASE),
            )
        )  # fmt: skip
    return sorted(out, key=lambda r: (not r.reference, r.rounds, r.value))


def blocks(table: list[Row]) -> dict[int, list[Row]]:
    """Arms by how often they sampled anew, without the policies that they start from."""
    return {k: [r for r in table if r.rounds == k and not r.reference] for k in sorted({r.rounds for r in table})}


def title(table: list[Row]) -> str:
    """The best arms, in a line."""
    best = {k: max(b, key=lambda r: r.value) for k, b in blocks(table).items() if b}
    words = [f"{r.arm} {r.value:.3f} ({_rounds(k)})" for k, r in best.items()]
    return "Highest pass@1: " + ", ".join(words)


def findings(found: Found, table: list[Row]) -> list[str]:
    """Who is best, and whether that is more than chance, for every number of rounds."""
    lines = []
    for rounds, block in blocks(table).items():
        if not block:
            continue
        best = max(block, key=lambda r: r.value)
        others = [r for r in block if r is not best]
        ahead: list[str] = []
        even: list[str] = []
        for other in others:
            seeds = [s for s in best.seeds if s in other.seeds]
            if seeds:
                pair = [found.sample.cell(r.arm, r.size, seeds) for r in (other, best)]
                (ahead if difference(pair[0], pair[1])[1] > 0 else even).append(other.arm)
        text = (
            f"- {_rounds(rounds)}, {best.size:,} problems: `{best.arm}` has the highest pass@1, "
            f"{best.value:.3f} [{best.bounds[0]:.3f}, {best.bounds[1]:.3f}]"
        )
        if ahead:
            text += f"; significantly above {len(ahead)} of the {len(others)} others"
        if even:
            text += f"; not clearly above {listed([f'`{a}`' for a in even])}"
        lines.append(text + ".")
        shares = {r.arm: s for r in block if (s := found.mean(r.arm, r.size, "spurious_share")) == s}
        if len(shares) > 1:
            least, most = min(shares, key=lambda a: shares[a]), max(shares, key=lambda a: shares[a])
            lines.append(
                f"- Wrong steps inside right answers: fewest with `{least}` ({shares[least]:.1%}), most with `{most}` "
                f"({shares[most]:.1%})."
            )
    if lost := [r.arm for r in table if r.gain and r.gain[2] < 0]:
        lines.append(f"- Significantly below the start policy: {listed([f'`{a}`' for a in lost])}.")
    return lines


def page(found: Found, tables: dict[int, list[Row]], images: dict[int, str], stem: str, command: str) -> str:
    """The whole document."""
    out = [
        f"# Methods: {world(found)}",
        f"`{command}`",
        f"Hardware: {found.costs.get('hardware', 'not recorded')}. Seeds: {listed(found.seeds())}. Every point is "
        f"evaluated on {found.problems:,} problems, {found.samples:g} samples each at T=1 and one at T=0.",
    ]
    for size, table in tables.items():
        out += [
            f"## {size:,} problems" if len(tables) > 1 else "",
            "\n".join(findings(found, table)),
            f"![pass@1 and wrong steps by method]({images[size]})",
            _table(found, [r for r in table if r.reference]) if any(r.reference for r in table) else "",
        ]
        for rounds, block in blocks(table).items():
            if block:
                out += [f"### {_rounds(rounds)}", _table(found, block[::-1]), _tokens(block)]
    notes = incidents(found)
    out += [
        f"Brackets: {CONFIDENCE:.0%} intervals; of pass@1 and pass@k over problems and seeds (bootstrap; the seeds' "
        "part widened to Student's t), of the rest over seeds alone. *Over its start*: pass@1 minus that of the start "
        "policy of the same seeds, paired. *Wrong steps*: of the right answers, those with a wrong step, by the "
        "world's checker. *Their probability*: of wrong steps inside right answers of the start policy, after "
        "training over before. Tokens: samples and labelling rollouts of all rounds.",
        "## What went wrong on the way",
        "\n".join(f"- {n}" for n in notes) or "No guard tripped and no point fell.",
        "## What the bench cost",
        bench_cost(found),
        *settings(found),
        f"Every point with all its columns: [{stem}.csv]({stem}.csv).",
    ]
    return "\n\n".join(b for b in out if b) + "\n"


def _table(found: Found, table: list[Row]) -> str:
    heads = ["arm", "seeds", "pass@1, T=1", "over its start", "T=0", f"pass@{found.k}", "wrong steps",
             "their probability", "tokens", "samples a problem", "seconds", "learning rate"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for r in table:
        before, after = (found.mean(r.arm, r.size, f"mass_{when}") for when in ("before", "after"))
        share, bounds = found.mean(r.arm, r.size, "spurious_share"), found.bounds(r.arm, r.size, "spurious_share")
        rates = sorted({p.number["learning_rate"] for p in found.cell(r.arm, r.size)})
        cells = [
            r.arm, str(len(r.seeds)), f"{r.value:.3f} [{r.bounds[0]:.3f}, {r.bounds[1]:.3f}]",
            f"{r.gain[0]:+.3f} [{r.gain[1]:+.3f}, {r.gain[2]:+.3f}]" if r.gain else "–",
            between(found, r.arm, r.size, "greedy"), between(found, r.arm, r.size, "pass_at_k"),
            percent(share, bounds), f"{after / before:.0%}" if before > 0 and not np.isnan(after) else "–",
            count(r.tokens), count(found.mean(r.arm, r.size, "samples_n")),
            count(found.mean(r.arm, r.size, "seconds")),
            listed([f"{x:g}" for x in rates if x == x]) or "–",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _tokens(block: list[Row]) -> str:
    """Which arms had as many tokens as the main one."""
    main = next((r for r in block if r.arm == MAIN), next((r for r in block if r.arm.startswith(MAIN)), None))
    if main is None or not main.tokens > 0:
        return ""
    ratio = {r.arm: r.tokens / main.tokens for r in block if r is not main and not np.isnan(r.tokens)}
    equal = [f"`{a}`" for a, x in ratio.items() if abs(x - 1) <= NEAR]
    less = [f"`{a}` ({x:.0%})" for a, x in ratio.items() if x < 1 - NEAR]
    more = [f"`{a}` ({x:.0%})" for a, x in ratio.items() if x > 1 + NEAR]
    words = (("as many", equal), ("fewer", less), ("more", more))
    parts = [f"{word}: {listed(names)}" for word, names in words if names]
    return f"Tokens beside those of `{main.arm}` (equal: within {NEAR:.0%}); {'; '.join(parts)}." if parts else ""


def _rounds(count: int) -> str:
    return f"{count} round{'s' if count > 1 else ''}"
