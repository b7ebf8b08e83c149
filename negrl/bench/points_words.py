"""Words and numbers that the pages over (arm, size, seed) points share."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from negrl.bench.points_read import COLUMNS, Found


def world(found: Found) -> str:
    """ "chain, operations 5", from the bench file."""
    problems = found.bench["recipe"].get("problems") or {}
    extra = [
        f"{k} {v}"
        for k, v in problems.items()
        if k in ("operations", "teacher_habit_rate", "teacher_filter", "degree", "path", "steps")
    ]
    return ", ".join([str(problems.get("source", "unnamed world")), *extra])


def bench_cost(found: Found) -> str:
    """Planned against taken, as a table."""
    planned, taken = (found.costs.get(k) or {} for k in ("planned", "taken"))
    if not taken:
        return "What the bench took is not recorded in costs.json."
    lines = ["| | planned | taken | taken / planned |", "|---|---:|---:|---:|"]
    for key in ("tokens", "seconds", "megabytes"):
        a, b = planned.get(key), taken.get(key)
        ratio = f"{b / a:.2f}" if a and b is not None else "–"
        lines.append(f"| {key} | {count(a)} | {count(b)} | {ratio} |")
    if (wall := taken.get("wall_seconds")) and (workers := taken.get("workers")):
        lines.append(
            f"\nGenerated tokens; CPU seconds of all processes; files. On the clock {wall / 60:,.0f} minutes with "
            f"{workers} worker{'s' if workers > 1 else ''}, one thread each."
        )
    return "\n".join(lines)


def settings(found: Found) -> list[str]:
    """What was held fixed: the bench file itself."""
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create({k: found.bench[k] for k in ("recipe", "bench") if k in found.bench}))
    return [
        "## What was held fixed",
        "At a size and seed all arms but `sft`, which is trained from the base, start from the same policy (SFT on the "
        "same problems with the recipe's own settings); world, model, sampling, verdicts and evaluation are the same "
        "for all of them. Everything is in the bench file, as it was resolved:",
        "<details><summary>bench.yaml</summary>\n\n```yaml\n" + text.replace("```", "'''") + "```\n\n</details>",
    ]


def incidents(found: Found) -> list[str]:
    """Points that fell or are not there, guards that tripped: a sentence for each arm and size. What the file says
    is shown as code. (Remarks on points that went well stay in the CSV.)"""
    lines = [f"`{p.arm}`, size {p.size:,}, seed {p.seed} fell: {_code(p.note) or 'no pass@1'}." for p in found.fell]
    fell = {(p.arm, p.size, p.seed) for p in found.fell}
    for arm in found.arms():
        for size in found.sizes(arm):
            cell = found.cell(arm, size)
            missing = set(found.seeds()) - {p.seed for p in cell} - {s for a, n, s in fell if (a, n) == (arm, size)}
            if missing:
                lines.append(f"`{arm}`, size {size:,}: not measured with seeds {listed(sorted(missing))}.")
            if tripped := [p for p in cell if p.guard]:
                lines.append(
                    f"`{arm}`, size {size:,}: a guard stopped {len(tripped)} of {len(cell)} seeds, and the weights it "
                    f"kept were measured: {_code(tripped[0].guard)}."
                )
    return lines


def _code(text: str) -> str:
    flat = " ".join(text.replace("`", "'").split())
    return f"`{flat}`" if flat else ""


def points_csv(found: Found) -> str:
    """A row per point, those that fell too, as the run folder has them."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(p.cells for p in [*found.points, *found.fell])
    return buffer.getvalue()


def between(found: Found, arm: str, size: int, column: str) -> str:
    """Mean over seeds with its interval, which is cut to [0, 1]."""
    value, (low, high) = found.mean(arm, size, column), found.bounds(arm, size, column)
    return number(value) + (f" [{max(low, 0):.3f}, {min(high, 1):.3f}]" if low == low and value == value else "")


def percent(value: float, bounds: tuple[float, float]) -> str:
    """A share with its interval; a dash where there is none."""
    if value != value:
        return "–"
    low, high = (min(1.0, max(0.0, x)) for x in bounds)
    return f"{value:.1%}" + (f" [{100 * low:.1f}, {100 * high:.1f}]" if bounds[0] == bounds[0] else "")


def number(value: float) -> str:
    """Three digits; a dash for NaN."""
    return "–" if value != value else f"{value:.3f}"


def count(value: Any) -> str:
    """A whole number with thousands separators; a dash for nothing."""
    if value is None or value != value:
        return "–"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def listed(items: Sequence[Any]) -> str:
    """a, b and c."""
    words = [f"{x:,}" if isinstance(x, int) else str(x) for x in items]
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
