"""The docs say what is there: figures come from committed results, commands and links exist."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from readme_tables import filled  # noqa: E402

from negrl.recipe import load_recipe  # noqa: E402

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readme_tables_are_the_committed_ones() -> None:
    assert filled(README) == README
    for mark in ("quickstart", "multipliers"):  # it would be filled: the test can fail
        assert filled(README.replace(f"<!-- {mark}:begin -->", f"<!-- {mark}:begin -->\nno figure")) == README


def test_the_committed_quickstart_shows_what_the_readme_says() -> None:
    """Step-level negatives above sft and rft, intervals apart; fewer wrong steps than both."""
    arms = json.loads((ROOT / "docs/results/quickstart/results.json").read_text())["arms"]
    ours = arms["step_advantage"]
    for rival in ("sft", "rft"):
        assert ours["pass_at_1_ci"][0] > arms[rival]["pass_at_1_ci"][1]
        assert ours["spurious_share"] < arms[rival]["spurious_share"]


def test_the_readme_recipe_parses(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(re.findall(r"```yaml\n(.*?)```", README, flags=re.S)[0])
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.name == "mine" and list(recipe.resolved_arms) == ["step_advantage"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"\b(?:recipes|scripts|configs)/[\w./-]+\.(?:yaml|py)\b", text):
        assert (ROOT / target).exists(), target


def test_the_examples_of_contributing_are_those_that_run() -> None:
    """Its code is copied from the example plugin, which tests/test_plugin.py runs."""
    plugin = "\n".join(file.read_text() for file in (ROOT / "tests" / "plugin").rglob("*.py"))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.S)
    assert len(blocks) >= 4
    for part in (part for block in blocks for part in re.split(r"\n    \.\.\.\n|\n\n\n", block)):
        assert part.strip() in plugin, part
