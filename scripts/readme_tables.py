"""Put the committed quickstart table into README.md, between its two marks. `make results` calls it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- quickstart:begin -->", "<!-- quickstart:end -->"


def filled(readme: str, table: str) -> str:
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}{END}", readme, flags=re.S)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    table = (ROOT / "docs" / "results" / "quickstart" / "table.md").read_text()
    readme.write_text(filled(readme.read_text(), table))
