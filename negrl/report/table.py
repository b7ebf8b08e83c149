"""The results as a table: for the screen (rich) and for documents (Markdown)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrl.report.data import ArmReport, RunReport, visible

if TYPE_CHECKING:
    from rich.table import Table


def headers(report: RunReport) -> list[str]:
    confidences = {a.summary.confidence for a in [*report.arms, *report.reference] if a.summary}
    interval = f"[{next(iter(confidences)):.0%} interval]" if len(confidences) == 1 else "[interval]"
    return ["arm", f"pass@1 {interval}", "wrong step inside right answers", "tokens generated", "seconds"]


def cells(arm: ArmReport, reference: bool = False) -> list[str]:
    """One row: name, pass@1 with interval, spurious share, tokens, seconds. A dash means not measured (a reference was
    not trained here, so it has no tokens or seconds unless they were given)."""
    s = arm.summary
    return [
        visible(arm.name),
        f"{s.pass_at_1:.3f} [{s.pass_at_1_ci[0]:.3f}, {s.pass_at_1_ci[1]:.3f}]" if s else "–",
        spurious(arm),
        f"{arm.generated_tokens:,}" if arm.generated_tokens or not reference else "–",
        seconds(arm.seconds) if arm.seconds or not reference else "–",
    ]


def spurious(arm: ArmReport) -> str:
    """ "12% [9, 15]", or a dash if no world checked the steps."""
    s = arm.summary
    if s is None or s.spurious_share is None:
        return "–"
    interval = (
        f" [{100 * s.spurious_share_ci[0]:.0f}, {100 * s.spurious_share_ci[1]:.0f}]" if s.spurious_share_ci else ""
    )
    return f"{s.spurious_share:.0%}{interval}"


def seconds(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def screen_table(report: RunReport) -> Table:
    """A rich table: the arms in recipe order, then the references below a line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    breaks = {
        " [": "\n[",
        " inside": "\ninside",
        " answers": "\nanswers",
        "tokens ": "tokens\n",
    }  # to fit into 80 columns
    for i, header in enumerate(headers(report)):
        for old, new in breaks.items():
            header = header.replace(old, new)
        table.add_column(Text(header), justify="left" if i == 0 else "right", vertical="bottom", no_wrap=i > 0)
    best = max((a.summary.pass_at_1 for a in report.arms if a.summary), default=None)
    # Text, never markup: an arm may be called "[red]".
    for arm in report.arms:
        bold = best is not None and arm.summary is not None and arm.summary.pass_at_1 == best
        table.add_row(*(Text(c) for c in cells(arm)), style="bold" if bold else "")
    table.add_section()
    for arm in report.reference:
        table.add_row(*(Text(c) for c in cells(arm, reference=True)), style="dim")
    return table


def markdown_table(report: RunReport) -> str:
    """The same rows as a Markdown table. References are in italics, because Markdown has no lines between rows."""

    def line(values: list[str]) -> str:
        return "| " + " | ".join(v.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ") for v in values) + " |"

    head = headers(report)
    rows = [line(head), "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
    rows += [line(cells(a)) for a in report.arms]
    for arm in report.reference:
        name, *rest = cells(arm, reference=True)
        rows.append(line([f"*{name}*", *rest]))
    return "\n".join(rows) + "\n"
