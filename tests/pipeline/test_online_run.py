"""A whole run of a method that samples and labels while it trains, and what of it the report counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.helpers import Ran

pytestmark = pytest.mark.slow


def test_the_report_counts_the_tokens_that_an_online_arm_drew(tiny: Callable[..., Ran], tmp_path: Path) -> None:
    arms = [f"arms.{name}=null" for name in ("sft", "rft", "dpo", "step_dpo", "step_advantage")]
    fields = "{method: step_grpo, max_steps: 2, num_generations: 8, learning_rate: 1.0e-4}"
    ran = tiny(tmp_path / "run", *arms, f"arms.step_grpo={fields}", "evaluate.n=1")
    arm = ran.results["arms"]["step_grpo"]
    (fitted,) = (ran.folder / "stages").glob("train-*/fit.json")
    drawn = json.loads(fitted.read_text())["drawn"]
    assert min(drawn["samples"], drawn["rollouts"]) > 0
    assert arm["label_tokens"] == drawn["rollouts"]
    assert arm["generated_tokens"] == drawn["samples"] + drawn["rollouts"]
    assert f"{arm['generated_tokens']:,}" in (ran.folder / "report" / "table.md").read_text()
    assert not list((ran.folder / "stages").glob("sample-*"))  # it needs no stored traces
