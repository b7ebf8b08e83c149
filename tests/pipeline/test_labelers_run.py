"""Every labeler in a whole run with the small real model, up to the credited steps."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from negrl.labeling.driver import LabelCounts
from negrl.pipeline.labels import _value_settings, shares
from negrl.recipe import LabelSection
from negrl.records import Rollout, Step
from negrl.store import Stage, Store
from tests.pipeline.helpers import Ran


def stages(folder: Path, kind: str, labeler: str) -> Stage:
    """The stage whose steps are `labeler`'s, of the first round."""
    for found in sorted((folder / "stages").glob(f"{kind}-*")):
        stage = Store(folder / "stages").stage(*found.name.split("-"))
        if stage.done and any(s.labeler == labeler for s in stage.iterate("steps", Step)):
            return stage
    raise AssertionError(f"no {kind} by {labeler}")


def label(first: Ran, tiny: Callable[..., Ran], folder: Path, *overrides: str) -> Ran:
    if not folder.exists():
        shutil.copytree(first.folder, folder)
        for stage in (folder / "stages").glob("value-*"):
            shutil.rmtree(stage)
    return tiny(folder, *overrides, until="credit")


@pytest.mark.parametrize(
    ("labeler", "overrides"),
    [
        ("bisect", []), ("first_zero", []), ("belief", []), ("adaptive", []),
        ("adaptive", ["label.belief='!'"]),
        ("consensus", ["label.agree=[fixed,belief]"]), ("consensus", ["label.agree=[adaptive,arithmetic]"]),
        ("bisect", ["label.best_of=3"]), ("fixed", ["label.stop=['!']"]),
    ],
)  # fmt: skip
def test_labelers(first: Ran, tiny: Callable[..., Ran], tmp_path: Path, labeler: str, overrides: list[str]) -> None:
    ran = label(first, tiny, tmp_path / "run", f"label.labeler={labeler}", *overrides)
    assert {"value the steps", "credit"} <= ran.titles("✓")
    valued = stages(ran.folder, "value", labeler)
    steps, rollouts = valued.read("steps", Step), valued.read("rollouts", Rollout)
    counts = valued.read("counts", LabelCounts)
    info = valued.info()
    assert {s.labeler for s in steps} == {labeler}
    assert any(not math.isnan(s.advantage) for s in steps)
    assert info["rollouts"] == len(rollouts)
    assert (
        info["generated_tokens"] == sum(len(r.token_ids) for r in rollouts) == sum(c.generated_tokens for c in counts)
    )
    assert info["scored_tokens"] == sum(c.scored_tokens for c in counts)
    assert (info["scored_tokens"] > 0) == (labeler == "belief" or "belief" in str(overrides))
    assert (len(rollouts) > 0) == (labeler != "belief")
    assert ("tokens read for beliefs" in ran.screen) == (info["scored_tokens"] > 0)
    assert ("shared by equal prefixes" in ran.screen) == (sum(c.reused for c in counts) > 0)
    if labeler == "adaptive":  # it merges equal prefixes itself: none is asked for twice
        assert sum(c.reused for c in counts) == 0
    labels = {s.label for s in stages(ran.folder, "credit", labeler).read("steps", Step)}
    if labeler in ("bisect", "first_zero"):
        assert "pit" in labels and labels <= {"pit", "neutral", "unlabelled"}


def test_a_killed_stage_goes_on_with_the_same_budget(first: Ran, tiny: Callable[..., Ran], tmp_path: Path) -> None:
    overrides = ["label.labeler=adaptive", "label.budget_tokens=900"]
    ran = label(first, tiny, tmp_path / "run", *overrides)
    stage = stages(ran.folder, "value", "adaptive")
    whole = [(s.trace_id, s.step_index, s.n, s.successes, repr(s.value)) for s in stage.read("steps", Step)]
    tokens = stage.info()["generated_tokens"]
    assert 0 < tokens < 1000  # what is in flight when it is spent comes on top
    for name in ("stage.json", "steps-00002.parquet", "counts-00001.parquet"):
        (stage.path / name).unlink()
    label(first, tiny, tmp_path / "run", *overrides)
    again = [(s.trace_id, s.step_index, s.n, s.successes, repr(s.value)) for s in stage.read("steps", Step)]
    assert (again, stage.info()["generated_tokens"]) == (whole, tokens)


def test_a_budget_is_shared_by_traces() -> None:
    assert shares(None, [3, 1]) == [None, None]
    assert shares(100, [3, 1]) == [75, 25]
    assert shares(10, [1, 1, 1]) == [3, 3, 4]
    assert shares(0, [2, 2]) == [0, 0]
    assert shares(7, []) == []
    for budget in range(50):
        assert sum(b or 0 for b in shares(budget, [5, 2, 9, 1])) == budget


CHANGED = {
    "k": 9, "max_rollouts": 7, "budget_tokens": 5, "belief": "= ", "best_of": 2, "stop": ["b"], "confidence": 0.8,
    "dead_zone": 0.3, "require_significance": True, "value_band": (0.2, 0.8), "after_pit": "keep",
    "split": "chain", "pattern": "x", "min_chars": 3, "max_steps": 5, "max_tokens": 9, "shard_size": 3, "seed": 4,
    "agree": ("fixed", "bisect"), "step_chances": False, "prm": "m", "shuffle": True,
}  # fmt: skip
ALL = {"split", "min_chars", "max_steps"}
VALUED = ALL | {"value_band", "confidence"}
DRAWN = VALUED | {"max_tokens", "stop", "seed"}
COUNTED = DRAWN | {"k", "best_of"}
ADAPTIVE = DRAWN | {"max_rollouts", "step_chances", "budget_tokens", "dead_zone", "belief", "best_of", "shard_size"}


@pytest.mark.parametrize(
    ("fields", "reads"),
    [
        ({"labeler": "none"}, ALL),
        ({"labeler": "oracle"}, VALUED),
        ({"labeler": "arithmetic"}, VALUED),
        ({"labeler": "fixed"}, COUNTED),
        ({"labeler": "bisect"}, COUNTED),
        ({"labeler": "first_zero"}, COUNTED),
        ({"labeler": "belief"}, VALUED | {"belief", "best_of", "seed"}),
        ({"labeler": "adaptive"}, ADAPTIVE),
        ({"labeler": "prm", "prm": "x"}, VALUED | {"best_of"}),
        ({"labeler": "consensus"}, ADAPTIVE | {"agree", "require_significance"}),
        (
            {"labeler": "consensus", "agree": ("bisect", "belief")},
            COUNTED | {"belief", "agree", "dead_zone", "require_significance", "shard_size"},
        ),
    ],
)
def test_the_settings_that_values_depend_on(fields: dict, reads: set[str]) -> None:
    """Each of them, and no other, makes another stage: rollouts are dear."""
    section = LabelSection(**fields)
    assert set(CHANGED) == set(LabelSection.model_fields) - {"labeler"}
    base = _value_settings(section, imported=False)
    changed = {
        name
        for name, value in CHANGED.items()
        if _value_settings(section.model_copy(update={name: value}), imported=False) != base
    }
    assert changed == reads
    # Imported traces: V_0 comes from k draws of the policy, where there is one at work.
    needs_v0 = "seed" in reads
    assert (_value_settings(section, imported=True) == base) == (not needs_v0 or "k" in reads)
    pattern = section.model_copy(update={"split": "pattern"})
    assert _value_settings(pattern, False) != _value_settings(pattern.model_copy(update={"pattern": "x"}), False)
