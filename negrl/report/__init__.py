"""What a person sees: one self-contained page, plots and `results.json`. Reads finished rows only."""

from __future__ import annotations

from pathlib import Path

from negrl.files import write_atomic
from negrl.report.data import ArmReport, ReportPaths, RunReport, TraceView, finding, results_json
from negrl.report.table import markdown_table

__all__ = ["ArmReport", "ReportPaths", "RunReport", "TraceView", "finding", "write_report"]


def write_report(report: RunReport, out_dir: Path) -> ReportPaths:
    """Write `index.html`, `results.json`, `table.md` and the plots that have data into `out_dir`, which is created if
    missing. Each file is replaced whole; a plot left by an earlier run is removed if this run has no data for it."""
    from negrl.report.html import render
    from negrl.report.plots import draw_all

    out_dir = Path(out_dir)
    drawn = draw_all(report)
    plots = []
    for name, png in drawn.items():
        if png is None:
            (out_dir / name).unlink(missing_ok=True)
        else:
            write_atomic(out_dir / name, png)
            plots.append(out_dir / name)
    pngs = {name: png for name, png in drawn.items() if png is not None}
    write_atomic(out_dir / "results.json", results_json(report).encode())
    write_atomic(out_dir / "table.md", markdown_table(report).encode())
    write_atomic(out_dir / "index.html", render(report, pngs).encode())
    return ReportPaths(index_html=out_dir / "index.html", results_json=out_dir / "results.json", plots=plots)
