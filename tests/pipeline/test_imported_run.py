"""People have their own traces: imported ones are labelled by the policy's rollouts and trained on."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from negrl.pipeline import run
from negrl.problems import load_problems
from negrl.recipe import load_recipe
from negrl.records import AdvantageRow, Step, Trace
from negrl.store import Store
from tests.pipeline.helpers import TINY, Ran

pytestmark = pytest.mark.slow


def stage(folder: Path, kind: str):
    (found,) = (folder / "stages").glob(f"{kind}-*")
    return Store(folder / "stages").stage(*found.name.split("-"))


@pytest.fixture
def traces_file(first: Ran, tmp_path: Path) -> Path:
    """Four of the first run's traces of each problem, as text: prompt, response, gold."""
    lineage = json.loads((first.folder / "stages.json").read_text())
    verified = Store(first.folder / "stages").stage(*Path(lineage["verify"]["folder"]).name.split("-"))
    problems = {p.problem_id: p for p in load_problems(load_recipe(TINY).problems).train}
    rows = []
    for trace in verified.read("traces", Trace):
        if trace.sample_index < 4 and trace.verdict in ("correct", "incorrect"):
            problem = problems[trace.problem_id]
            row = {"q": problem.prompt, "out": {"text": trace.text}, "a": problem.gold}
            rows.append({**row, "ok": trace.verdict == "correct"})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_imported_traces_are_labelled_and_trained_on(
    tiny: Callable[..., Ran], traces_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    overrides = [
        f"output_dir={folder}", "arms=null", "train.method=step_advantage", "label.k=8", "label.dead_zone=0.1",
        f"traces={{path: {traces_file}, prompt: q, response: out.text, gold: a, label: ok}}",
    ]  # fmt: skip
    record = run(load_recipe(TINY, overrides))
    assert record is not None and record.first.verified is not None
    verified, valued = stage(folder, "verify"), stage(folder, "value")
    traces = verified.read("traces", Trace)
    assert f"agree on {len(traces)} of {len(traces)} traces" in record.first.verified.info["checks"][0]
    assert all(t.logprobs is None and t.finish_reason == "imported" for t in traces)
    # V_0 is the policy's own chance from the prompt, by rollouts, not the imported traces' share
    prompts = valued.read("prompts", Trace)
    assert len(prompts) == 8 * len({t.problem_id for t in traces})
    assert any(s.n == 8 and not math.isnan(s.advantage) for s in valued.read("steps", Step))
    rows = record.arms[0].views[0].stage.read("advantage", AdvantageRow)
    assert rows and all(r.logprobs == [] for r in rows)
    assert record.arms[0].trainings[0].info["steps"] > 0
    assert (folder / "report" / "index.html").exists()
