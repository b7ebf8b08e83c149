"""Every labeler in a whole run with the small real model, up to the credited steps."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from negrl.labelers import LABELERS, open_labeler
from negrl.labeling.driver import LabelCounts
from negrl.options import keyed_names
from negrl.pipeline.values import shares
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
    reads_k = any(name in str(overrides) for name in ("fixed", "bisect", "first_zero"))
    return tiny(folder, *overrides, *([] if reads_k else ["label.k=null"]), until="credit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labeler", "overrides"),
    [
        ("bisect", []), ("first_zero", []), ("belief", []), ("belief", ["label.calibrated=false"]), ("adaptive", []),
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


@pytest.mark.slow
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


def key(section: LabelSection, imported: bool = False) -> dict:
    return section.values_key(open_labeler(section, lambda problem, prefix: 1.0), imported)


OTHER = {
    "best_of": 2, "belief": "= ", "budget_tokens": 5, "agree": ("fixed", "bisect"), "prm": "m", "merge": "facts",
    "rollouts": "worthwhile",
}  # fmt: skip
"""Values for options whose type a test can't guess from their default."""


def another(name: str, value: object) -> object:
    if name in OTHER:
        return OTHER[name]
    return not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize("name", LABELERS)
def test_every_option_of_a_labeler_is_in_the_key_of_its_values(name: str) -> None:
    """Whatever a module declares makes another stage when it changes, unless it says that it must not."""
    required = {"prm": "x"} if name == "prm" else {}
    section = LabelSection(labeler=name, **required)
    options = LABELERS[name].options
    for option in options.model_fields:
        changed = LabelSection(**{"labeler": name, **required, option: another(option, getattr(section, option))})
        assert (key(changed) != key(section)) == (option in keyed_names(options)), option


COMMON = {
    "prompt_rollouts": 9, "sibling_rounds": 2, "stop": ["b"], "max_tokens": 9, "confidence": 0.8, "shard_size": 3,
    "seed": 4,
    "split": "chain", "min_chars": 3, "max_steps": 5, "dead_zone": 0.3, "require_significance": True,
    "value_band": (0.2, 0.8), "after_pit": "keep", "shuffle": True,
}  # fmt: skip
SPLIT = {"split", "min_chars", "max_steps"}
VALUED = SPLIT | {"value_band", "confidence"}
DRAWN = VALUED | {"max_tokens", "stop", "seed"}


@pytest.mark.parametrize(
    ("fields", "reads"),
    [
        ({"labeler": "none"}, SPLIT),
        ({"labeler": "oracle"}, VALUED),
        ({"labeler": "arithmetic"}, VALUED),
        ({"labeler": "fixed"}, DRAWN),
        ({"labeler": "bisect"}, DRAWN),
        ({"labeler": "first_zero"}, DRAWN),
        ({"labeler": "belief"}, VALUED | {"seed"}),
        ({"labeler": "adaptive"}, DRAWN | {"dead_zone", "shard_size"}),
        ({"labeler": "prm", "prm": "x"}, VALUED),
        ({"labeler": "consensus"}, DRAWN | {"dead_zone", "shard_size", "require_significance"}),
        ({"labeler": "consensus", "agree": ("bisect", "belief")}, DRAWN | {"dead_zone", "require_significance"}),
    ],
)
def test_the_common_settings_that_values_depend_on(fields: dict, reads: set[str]) -> None:
    """Each of them, and no other, makes another stage: rollouts are dear."""
    assert set(COMMON) == set(LabelSection.model_fields) - {"labeler"}
    section = LabelSection(**fields)
    for imported in (False, True):
        base = key(section, imported)
        changed = {n for n, v in COMMON.items() if key(section.model_copy(update={n: v}), imported) != base}
        # Imported traces: V_0 comes from samples of the policy, where there is one at work.
        assert changed == reads | ({"prompt_rollouts"} if imported and "seed" in reads else set())


def test_the_options_of_the_splitter_are_in_the_key() -> None:
    section = LabelSection(split="pattern")
    assert key(section) != key(section.model_copy(update={"pattern": "x"}))


def test_the_keys_that_stages_were_stored_under(tmp_path: Path) -> None:
    """As they were before labelers declared themselves: values that were paid for are found again."""
    assert key(LabelSection(split="chain")) == {
        "labeler": "adaptive", "split": "chain", "min_chars": 1, "max_steps": 32, "value_band": (0.1, 0.9),
        "confidence": 0.9, "max_tokens": None, "stop": [], "seed": 0, "max_rollouts": 16, "step_chances": True,
        "budget_tokens": None, "dead_zone": 0.2, "belief": None, "best_of": 1, "shard_size": 64,
    }  # fmt: skip
