"""Copy the committed figures into README.md, each table between its two markers. `make results` calls this script."""

import re
from pathlib import Path

from negrl.bench.page import read_csv
from negrl.bench.sweep.report import MULTIPLIERS, reading_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
BENCHES = {
    "sample-efficiency": "chains of 5 steps",
    "sample-efficiency-8": "chains of 8 steps",
    "sample-efficiency-habits": "5 steps, a teacher of stronger habits",
}
ARMS = ("step_advantage", "step_advantage_x4")
SIZE = 256


def filled(readme: str) -> str:
    """The README with its tables replaced by those of the committed results."""
    tables = {"quickstart": (RESULTS / "quickstart" / "table.md").read_text(), "multipliers": multipliers()}
    for name, table in tables.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        readme = re.sub(f"{begin}.*?{end}", lambda _, whole=f"{begin}\n{table}{end}": whole, readme, flags=re.S)
    return readme


def multipliers() -> str:
    """How many times as many problems SFT needs as each arm of ARMS on SIZE problems; one row per bench."""
    heads = [f"`{arm}`, {at}" for at in ("T=1", "T=0") for arm in ARMS]
    lines = ["| " + " | ".join(["multiplier over SFT [95%]", "seeds", *heads]) + " |", "|---" + "|---:" * 5 + "|"]
    for stem, world in BENCHES.items():
        table = read_csv(RESULTS / f"{stem}-multipliers.csv", MULTIPLIERS)
        rows = {(r["measure"], r["arm"]): r for r in table if (r["curve"], r["size"]) == ("power", SIZE)}
        cells = [str(reading_of(rows[measure, arm])) for measure in ("pass_at_1", "greedy") for arm in ARMS]
        seeds = str(rows["pass_at_1", ARMS[0]]["seeds"])
        lines.append("| " + " | ".join([f"[{world}](docs/results/{stem}.md)", seeds, *cells]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text()))
