"""The real-text recipe, with fewer training steps: imported GSM8K solutions from file to report."""

import json
from pathlib import Path

import pytest

from negrl.pipeline import run
from negrl.recipe import load_recipe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_gsm8k_solutions(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    overrides = [
        f"output_dir={tmp_path}", "threads=1", "problems.train=200", "policy.build.train.max_steps=3",
        "policy.build.hidden_size=32", "policy.build.intermediate_size=64", "policy.build.num_attention_heads=1",
        "train.max_steps=2", "arms.dpo.precompute_ref_log_probs=false",
    ]  # fmt: skip
    record = run(load_recipe("recipes/gsm8k-solutions.yaml", overrides))
    assert record is not None and record.first.verified is not None
    assert record.first.verified.info["verdicts"] == {"correct": 2001, "incorrect": 3263, "undecided": 12}
    assert "5,276 of 5,276" in record.first.verified.info["checks"][0]
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["arms"]["dpo"]["pass_at_1"] is None
    # The traces are about test questions, whose reference solutions SFT must not see.
    assert {view.info["rows"] for view in record.arms[0].views} == {200}
