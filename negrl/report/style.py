"""How all plots look.

Colors are blue and red-orange from the Okabe-Ito set, which every kind of color vision can tell apart. Color is never
the only sign: bars carry their numbers, and curves differ in dash. Text is drawn literally (`$` is not math).
"""

from __future__ import annotations

from typing import Any

from negrl.report.data import visible

BLUE, ORANGE, GREY, INK, FAINT = "#0072B2", "#D55E00", "#9AA5B1", "#1C2026", "#6B7480"
DPI = 160
STYLE: Any = {
    "font.size": 9.5, "text.parse_math": False, "text.color": INK, "axes.edgecolor": "#C9CFD6",
    "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False, "figure.facecolor": "white",
    "axes.facecolor": "white", "axes.axisbelow": True, "grid.color": "#E8EBEE", "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
}  # fmt: skip


def label(text: str, limit: int = 26) -> str:
    text = visible(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
