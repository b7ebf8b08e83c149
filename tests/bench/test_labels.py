"""The whole command on a tiny world: files, figures, and what a second run does again."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from negrl.bench.labels.bench import ladder, main
from negrl.bench.labels.results import LabelCost, Settings
from negrl.errors import InputError
from negrl.progress import Reporter
from negrl.recipe import load_recipe

TINY = Path(__file__).parent.parent / "pipeline" / "tiny.yaml"
FEW = Settings(
    fixed=(1, 4, 16), adaptive=(2, 8), prune=1e-3, check_prefixes=4, check_rollouts=300, traces=10, bootstrap=50,
    overhead_problems=4, overhead_k=4, large_hidden=64, large_layers=3,
)  # fmt: skip
ARMS = [f"arms.{name}=null" for name in ("sft", "rft", "dpo", "step_dpo")]


def bench(folder: Path, settings: Settings = FEW) -> tuple[LabelCost, str]:
    screen = io.StringIO()
    overrides = [f"output_dir={folder}/run", "problems.evaluate=16", *ARMS]
    reporter = Reporter(Console(file=screen, width=200, highlight=False))
    return main(TINY, overrides, folder / "results" / "label-cost", settings, reporter), screen.getvalue()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LabelCost, str]:
    folder = tmp_path_factory.mktemp("label-cost")
    return folder, *bench(folder)


@pytest.mark.slow
def test_every_labeler_is_measured_on_every_policy(first: tuple[Path, LabelCost, str]) -> None:
    folder, found, _ = first
    out = folder / "results"
    assert sorted(p.name for p in out.iterdir()) == ["label-cost.csv", "label-cost.md", "label-cost.png"]
    rows = list(csv.DictReader((out / "label-cost.csv").open()))
    assert {r["policy"] for r in rows} == {"base", "start", "step_advantage", "all"}
    names = [m.name for m in found.policies[0].measured]
    assert len(rows) == 4 * len(names) and set(names) >= {"fixed K=16", "bisect K=8", "belief", "oracle", "adaptive 8"}
    for policy in found.policies:
        assert policy.traces >= 10
        fixed = [policy.named(f"fixed K={k}") for k in (1, 4, 16)]
        tokens = [m.at("tokens") for m in fixed if m]
        assert tokens[1] / tokens[0] == pytest.approx(4, rel=0.4) and tokens[2] / tokens[1] == pytest.approx(4, rel=0.2)
        errors = [m.at("rmse") for m in fixed if m]
        assert errors[0] > errors[1] > errors[2] > 0
        assert policy.check["z_beyond"] < 5
        oracle = policy.named("oracle")
        assert oracle is not None and oracle.at("tokens") == 0
    page = (out / "label-cost.md").read_text()
    assert "fixed K=16" in page and "## Where adaptive is weak" in page and "{" not in page
    assert (out / "label-cost.png").read_bytes().startswith(b"\x89PNG")
    assert len(found.overheads) == 4 and all(0 < o.engine < o.wall for o in found.overheads)
    assert found.overheads[0].tokens == found.overheads[2].tokens  # the larger body wrote the same


@pytest.mark.slow
def test_a_second_run_measures_nothing_again(first: tuple[Path, LabelCost, str]) -> None:
    folder, _, _ = first
    before = (folder / "results" / "label-cost.csv").read_text()
    _, screen = bench(folder)
    done = [line for line in screen.splitlines() if line.startswith("✓")]
    assert done == []
    assert (folder / "results" / "label-cost.csv").read_text() == before
    (folder / "results" / "label-cost.csv").unlink()
    _, screen = bench(folder, replace(FEW, fixed=(1, 2, 4, 16)))
    done = [line[2:34].strip() for line in screen.splitlines() if line.startswith("✓")]
    assert done == [f"{name} · fixed K=2" for name in ("base", "start", "step_advantage")]


@pytest.mark.slow
def test_labels_of_a_replay_are_those_of_the_live_engine(first: tuple[Path, LabelCost, str]) -> None:
    from negrl.bench.labels import stages
    from negrl.pipeline.frame import Frame, Policy
    from negrl.preflight import preflight
    from negrl.records import Step

    folder, _, _ = first
    recipe = load_recipe(TINY, [f"output_dir={folder}/run", "problems.evaluate=16", *ARMS])
    frame = Frame(recipe, Reporter(Console(file=io.StringIO())))
    base = next((folder / "run" / "stages").glob("base-*"))
    who = stages.subject(frame, preflight(recipe), "base", Policy(base.name, str(base / "model")))
    section = next(section for labeler, k, section in ladder(recipe, FEW) if (labeler, k) == ("fixed", 4))
    kept = stages.label(frame, who, section, "fixed K=4", frame.engine(who.policy))
    assert kept.reused
    timed = stages.overhead(frame, who, section, "live", who.policy.model, 0, problems=1000)
    ids = {t.trace_id for t in who.labelled(recipe.label)}
    live = [s for s in timed.stage.read("steps", Step) if s.trace_id in ids]
    assert repr(live) == repr(kept.stage.read("steps", Step))  # repr: NaN is equal to itself there
    assert timed.info["tokens"] == kept.info["generated_tokens"]
    frame.close_engine()


def test_what_can_not_be_enumerated_is_refused(tmp_path: Path) -> None:
    for override, words in (("sample.temperature=0.7", "temperature 1"), ("label.stop=['!']", "no stop"),
                            ("policy.dtype=bfloat16", "float32")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            main(TINY, [f"output_dir={tmp_path}/run", override], tmp_path / "out", FEW)
    assert not (tmp_path / "run").exists()
