"""The sample-efficiency bench on a tiny world: what a bench file may say, points that add up, a kill, a failure,
the plan. One bench is killed and finished for all tests."""

import csv
import dataclasses
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from negrl.bench.sweep.bench import main
from negrl.bench.sweep.load import load_bench
from negrl.bench.sweep.measure import validation
from negrl.bench.sweep.points import Given, Point, beyond, equal_n, given, key_of, needs, points, recipe_of
from negrl.bench.sweep.report import write_methods
from negrl.bench.sweep.results import POINTS
from negrl.errors import InputError
from negrl.problems import load_problems
from negrl.progress import Reporter
from negrl.recipe import LabelSection, load_recipe
from negrl.records import CORRECT, INCORRECT, Step
from negrl.steps.credit import shuffled, weights

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK = ROOT / "recipes" / "bench" / "quick.yaml"
FEW = [
    "bench.workers=1", "bench.sizes=[16,32]", "bench.sft.sizes=[8,48]", "recipe.problems.evaluate=32",
    # A guard that trips at the first look: the point's row must say so.
    "bench.arms.guarded={method: sft, learning_rate: 0.1, guards: {holdout: 0.4, at_least: 2, right_drop: 1.0e-4}}",
    # Its loss is no number, so it fails, and with it what waits for it.
    "bench.arms.bad={method: sft, learning_rate: 1.0e+38}",
    "bench.arms.after={method: rft, equal_tokens_to: bad}",
]  # fmt: skip


def bench(folder: Path, *more: str, plan: bool = False) -> tuple[int, str]:
    screen = io.StringIO()
    reporter = Reporter(Console(file=screen, width=200, highlight=False))
    overrides = [f"recipe.output_dir={folder}", *FEW, *more]
    return main("sample-efficiency", QUICK, overrides, folder / "page", None, plan, reporter), screen.getvalue()


@dataclasses.dataclass
class Ran:
    folder: Path
    screen: str
    before_kill: dict[str, float]

    @property
    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader((self.folder / "points.csv").open()))

    def row(self, arm: str, size: int) -> dict[str, str]:
        (found,) = [r for r in self.rows if (r["arm"], r["size"]) == (arm, str(size))]
        return found


def written(folder: Path) -> dict[str, float]:
    """When each point's result was written."""
    return {p.name: p.stat().st_mtime_ns for p in (folder / "points").glob("*.json")}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Begun on the command line, killed after its third point, one result broken, finished by a second call."""
    folder = tmp_path_factory.mktemp("bench") / "run"
    command = [sys.executable, "-m", "negrl", "bench", "sample-efficiency", str(QUICK), f"recipe.output_dir={folder}"]
    begun = subprocess.Popen([*command, *FEW], cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"NO_COLOR": "1"})
    while len(written(folder)) < 3:
        assert begun.poll() is None
        time.sleep(0.05)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    before = written(folder)
    (folder / "points" / "start-16-seed0.json").write_text('{"key": ')
    code, screen = bench(folder)
    assert code == 1
    return Ran(folder, screen, before)


@pytest.mark.slow
def test_the_points_and_their_rows(ran: Ran) -> None:
    arms = ["start", "step_advantage", "control", "guarded", "rft_equal"]
    found = [(r["arm"], int(r["size"])) for r in ran.rows]
    assert found == [("base", 0), *((a, 16) for a in arms), *((a, 32) for a in arms), ("sft", 48), ("sft", 8)]
    with (ran.folder / "points.csv").open() as handle:
        assert handle.readline().strip() == ",".join(c.name for c in POINTS)
    counted = pq.read_table(ran.folder / "problems.parquet").to_pylist()
    for row in ran.rows:
        own = [c for c in counted if (c["arm"], c["size"]) == (row["arm"], int(row["size"]))]
        assert len({c["problem_id"] for c in own}) == 32 and {c["n"] for c in own} == {2} == {int(row["k"])}
        assert sum(c["correct"] for c in own) / 64 == pytest.approx(float(row["pass_at_1"]))
        assert sum(c["correct_k"] > 0 for c in own) / 32 == pytest.approx(float(row["pass_at_k"]))
        assert {c["greedy"] for c in own} <= {0, 1}
        assert sum(c["greedy"] for c in own) / 32 == pytest.approx(float(row["greedy"]))
    assert 0 < sum(c["greedy"] for c in counted) < len(counted)
    assert ran.row("base", 0)["rounds"] == "0" and ran.row("base", 0)["mass_before"] == ""
    assert (ran.folder / "bench.yaml").is_file()
    log = (ran.folder / "points" / "start-16-seed0" / "log.txt").read_text()
    assert "start policy · train" in log


@pytest.mark.slow
def test_what_a_kill_left_is_kept(ran: Ran) -> None:
    after = written(ran.folder)
    assert len(ran.before_kill) >= 3 and set(ran.before_kill) < set(after)
    assert {name for name, when in ran.before_kill.items() if after[name] != when} == {"start-16-seed0.json"}
    found = re.search(rf"(\d+) of {len(after) + 4} points were done before", ran.screen)
    assert found and int(found[1]) >= len(ran.before_kill) - 1  # or more: what was done before they noticed


PARENT = """
import multiprocessing, os, sys, time
from negrl.bench.sweep.measure import prepare

def worker(log, parent):
    prepare(1, log, parent)
    open(log + ".pid", "w").write(str(os.getpid()))
    time.sleep(120)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=worker, args=(sys.argv[1], os.getpid())).start()
"""


@pytest.mark.slow
def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, "parent.py", "log"], cwd=tmp_path)
    while not (tmp_path / "log.pid").is_file() or not (pid := (tmp_path / "log.pid").read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    worker = psutil.Process(int(pid))
    parent.kill()
    parent.wait()
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_arms_share_their_start_and_are_made_equal(ran: Ran) -> None:
    keys = {}
    for arm in ("start", "step_advantage", "control", "rft_equal", "guarded"):
        stages = json.loads((ran.folder / "points" / f"{arm}-16-seed0.json").read_text())["stages"]
        keys[arm] = {kind: {s["key"] for s in stages if s["kind"] == kind} for kind in ("base", "start", "value")}
    assert all(k["start"] == keys["start"]["start"] and len(k["start"]) == 1 for k in keys.values())
    assert keys["step_advantage"]["value"] == keys["control"]["value"] != keys["rft_equal"]["value"]
    for size in (16, 32):
        ours, equal = ran.row("step_advantage", size), ran.row("rft_equal", size)
        assert int(ours["label_tokens"]) > 0 == int(equal["label_tokens"])
        assert int(equal["samples_n"]) > int(ours["samples_n"]) == 8
        assert int(equal["generated_tokens"]) == pytest.approx(int(ours["generated_tokens"]), rel=0.1)
        assert f"sample.n {equal['samples_n']} for the" in equal["note"]
        # What it starts with is the start policy's, to the last digit.
        assert ours["mass_before"] == ran.row("start", size)["mass_after"] != ours["mass_after"]
        assert ours["pass_at_1"] != ran.row("start", size)["pass_at_1"] or ours["mass_before"] != ours["mass_after"]


@pytest.mark.slow
def test_sft_is_the_best_of_its_grid_on_problems_of_its_own(ran: Ran) -> None:
    grid = list(csv.DictReader((ran.folder / "grid.csv").open()))
    assert Counter(r["size"] for r in grid) == {"8": 2, "48": 2}
    for size in ("8", "48"):
        own = [r for r in grid if r["size"] == size]
        (chosen,) = [r for r in own if r["chosen"] == "True"]
        assert float(chosen["validation_pass_at_1"]) == max(float(r["validation_pass_at_1"]) for r in own)
        for measure, by in (("pass_at_k", "chosen_k"), ("greedy", "chosen_greedy")):
            (best,) = [r for r in own if r[by] == "True"]
            assert float(best[f"validation_{measure}"]) == max(float(r[f"validation_{measure}"]) for r in own)
        row = ran.row("sft", int(size))
        assert (float(row["learning_rate"]), float(row["epochs"])) == tuple(
            float(chosen[c]) for c in ("learning_rate", "epochs")
        )
    checked = load_bench(QUICK, FEW)
    held = {p.problem_id for p in validation(checked, recipe_of(checked, Point("base", "base", 0, 0)))}
    used = load_problems(
        recipe_of(checked, Point("grid", "grid", 48, 0, (("learning_rate", 1e-3), ("num_train_epochs", 2)))).problems
    )
    assert len(held) == 32 and not held & {p.problem_id for p in [*used.train, *used.evaluate]}


@pytest.mark.slow
def test_a_guard_that_trips_is_a_result(ran: Ran) -> None:
    row = ran.row("guarded", 16)
    assert "right" in row["guard"] and row["pass_at_1"]
    assert all(r["guard"] == "" for r in ran.rows if r["arm"] != "guarded")


@pytest.mark.slow
def test_the_plan_says_what_was_then_taken(ran: Ran) -> None:
    code, screen = bench(ran.folder, "bench.arms.bad=null", "bench.arms.after=null", plan=True)
    costs = json.loads((ran.folder / "costs.json").read_text())
    assert code == 0 and "planned:" in screen and costs["hardware"]
    for what in ("tokens", "megabytes"):
        assert 0.7 < costs["ratio"][what] < 1.3, what
        assert costs["ratio"][what] == pytest.approx(costs["taken"][what] / costs["planned"][what])
    assert costs["planned"]["seconds"] > 0 and costs["planned"]["parts"]["rft_equal"]["tokens"] > 0
    points = [json.loads(p.read_text()) for p in (ran.folder / "points").glob("*.json")]
    workers = costs["taken"]["workers"]
    assert costs["taken"]["wall_seconds"] == pytest.approx(sum(p["wall_seconds"] for p in points) / workers)
    assert sum(costs["taken"]["tokens_by_use"].values()) == pytest.approx(costs["taken"]["tokens"])


@pytest.mark.slow
def test_what_an_online_method_draws_while_it_trains_counts(ran: Ran, tmp_path: Path) -> None:
    """Base and start policy are those of the other tests' bench."""
    others = ("guarded", "bad", "after", "control", "rft_equal", "step_advantage")
    only = ["bench.sizes=[16]", "bench.sft=null", f"recipe.store={ran.folder / 'stages'}"]
    only += [f"bench.arms.{arm}=null" for arm in others]
    assert bench(tmp_path, *only, "bench.arms.online={method: step_grpo, max_steps: 2}")[0] == 0
    row = next(r for r in csv.DictReader((tmp_path / "points.csv").open()) if r["arm"] == "online")
    stages = json.loads((tmp_path / "points" / "online-16-seed0.json").read_text())["stages"]
    (trained,) = [s for s in stages if s["kind"] == "train"]
    (facts,) = (ran.folder / "stages" / trained["key"]).glob("fit.json")
    drawn = json.loads(facts.read_text())["drawn"]
    assert int(row["generated_tokens"]) == trained["tokens"] == drawn["samples"] + drawn["rollouts"] > 0
    assert int(row["label_tokens"]) == drawn["rollouts"] > 0 and row["samples_n"] == ""


@pytest.mark.slow
def test_a_point_that_fails_does_not_stop_the_others(ran: Ran) -> None:
    assert "✗ bad-16-seed0" in ran.screen and "failed: after-16-seed0: not done: it waits" in ran.screen
    assert "Traceback" in (ran.folder / "points" / "bad-16-seed0" / "log.txt").read_text()
    assert not {"bad", "after"} & {r["arm"] for r in ran.rows}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("bench.sizs=[1]", "unknown key 'bench.sizs' (did you mean 'sizes'?)"),
        ("bench.sft.grid.lr=[1]", "unknown key 'bench.sft.grid.lr'"),
        ("bench.sizes=[32,16]", "bench: sizes: expected rising numbers"),
        ("bench.arms.rft_equal.equal_tokens_to=step_advantag", "no arm 'step_advantag' (did you mean 'step_adv"),
        ("bench.arms.control.equal_tokens_to=rft_equal", "'rft_equal' is itself made equal to another arm"),
        ("bench.arms.sft={method: sft}", "'sft' can't be an arm's name"),
        ("bench.arms.x={method: sfft}", "unknown method 'sfft' (did you mean 'sft'?)"),
        ("bench.arms.rft_equal.shuffle_labels=true", "only step_advantage reads shuffled labels"),
        ("recipe.sampel.n=3", "unknown key 'recipe.sampel' (did you mean 'sample'?)"),
        ("recipe.evaluate=null", "recipe.evaluate"),
        ("recipe.policy.start=null", "recipe.policy.start: give the SFT settings"),
        ("recipe.arms={a: {method: sft}}", "the arms of a bench stand under bench.arms"),
        ("recipe.label.labeler=none; recipe.label.k=null", "needs step values"),
        ("sample.n=3", "override 'sample.n=3': expected bench.key=value or recipe.key=value"),
    ],
)  # fmt: skip
def test_a_wrong_bench_is_one_line(override: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load_bench(QUICK, override.split("; "))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_files_stand_on_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quik.yaml: no such bench file \(did you mean 'quick.yaml'\?\)"):
        load_bench(QUICK.with_name("quik.yaml"))
    (tmp_path / "circle.yaml").write_text("extends: circle.yaml\n")
    with pytest.raises(InputError, match="is it a circle"):
        load_bench(tmp_path / "circle.yaml")
    for text, says in (("bnech: {}", "unknown key 'bnech' (did you mean 'bench'?)"), ("bench: {}", "required key")):
        (tmp_path / "part.yaml").write_text(text)
        with pytest.raises(InputError, match=re.escape(says)):
            load_bench(tmp_path / "part.yaml")
    assert load_bench(QUICK.with_name("chain-8.yaml")).body["problems"]["operations"] == 8
    with pytest.raises(InputError, match=r"chain-8\.yaml: a bench file, not a recipe: negrl bench"):
        load_recipe(QUICK.with_name("chain-8.yaml"))


def test_every_point_is_a_recipe_with_its_seed_and_start() -> None:
    checked = load_bench(QUICK, ["bench.seeds=[0,3]", "recipe.train.guards={every: 2}"])
    every = points(checked)
    assert len(set(every)) == len(every) and len({p.name for p in every}) == len(every)
    for at, point in enumerate(every):
        assert all(every.index(need) < at and need.seed == point.seed for need in needs(checked, point))
        recipe = recipe_of(checked, point)
        assert recipe.policy.build is not None and recipe.policy.start is not None
        assert {recipe.seed, recipe.sample.seed, recipe.label.seed, recipe.policy.build.seed} == {point.seed}
        assert getattr(recipe.problems, "seed", None) == point.seed and recipe.threads == 1
        guards = recipe.policy.start.fields["guards"]
        if point.kind == "grid":
            assert guards is None and recipe.policy.start.fields["num_train_epochs"] == dict(point.choice or ()).get(
                "num_train_epochs", 0
            )
        elif point.kind == "arm":
            assert guards == {"on_trip": "keep"}
            assert recipe.resolved_arms[point.arm].fields["guards"] == {"on_trip": "keep", "every": 2}
            assert recipe.label.shuffle == (point.arm == "control")
    arm = next(p for p in every if p.arm == "rft_equal")
    assert recipe_of(checked, arm, Given(n=21)).sample.n == 21
    sft = checked.plan.sft
    assert sft is not None and [dict(c)["num_train_epochs"] for c in sft.choices(64)] == [2, 4]
    shortest = [(("learning_rate", 1e-3), ("num_train_epochs", 2))]
    assert sft.choices(65) == shortest == sft.choices(10**6)  # the shortest is always tried


def test_an_arm_has_samples_and_labels_of_its_own() -> None:
    body = {
        "method": "step_advantage",
        "sample": {"n": 3},
        "label": {"labeler": "adaptive", "k": None, "max_rollouts": 5},
    }
    overrides = [
        f"bench.arms.own={json.dumps(body)}",
        "bench.arms.own_equal={method: rft, sample: {n: 3, max_tokens: 9}}",
    ]
    bench = load_bench(QUICK, overrides)
    own, other = (recipe_of(bench, Point("arm", name, 16, 0)) for name in ("own", "step_advantage"))
    assert (own.sample.n, other.sample.n) == (3, 8)
    assert (own.label.labeler, other.label.labeler) == ("adaptive", "fixed")
    assert getattr(own.label, "max_rollouts") == 5 and not hasattr(own.label, "k")  # noqa: B009
    given = recipe_of(bench, Point("arm", "own_equal", 16, 0), Given(n=7))
    assert (given.sample.n, given.sample.max_tokens) == (7, 9)


TUNED = [
    "bench.seeds=[0,1,2]", "bench.tune_seeds=[0,2]", "bench.validation=8", "bench.sft=null",
    "bench.arms={rft: {method: rft, tune: {learning_rate: [1.0e-4, 1.0e-3], weight_decay: [0.0, 0.1]}}, "
    "dpo: {method: dpo, equal_tokens_to: rft, tune: {beta: [0.1, 0.5]}}}",
]  # fmt: skip


def test_trials_choose_the_settings_of_all_seeds(tmp_path: Path) -> None:
    checked = load_bench(QUICK, [*TUNED, f"recipe.output_dir={tmp_path}"])
    every = points(checked)
    trials = [p for p in every if p.kind == "trial"]
    assert len(trials) == 2 * (4 + 2) and {p.seed for p in trials} == {0, 2}
    for at, point in enumerate(every):
        assert all(every.index(need) < at for need in needs(checked, point)), point
    arm = Point("arm", "rft", 16, 1)
    assert {p for p in needs(checked, arm) if p.kind == "trial"} == {p for p in trials if p.arm == "rft"}
    (tmp_path / "points").mkdir()
    for trial in trials:  # the best at seed 0 alone is not the best of both seeds
        tried = dict(trial.choice or ())
        score = {(1e-4, 0.0): (0.9, 0.1), (1e-3, 0.1): (0.6, 0.7)}.get(
            (tried.get("learning_rate"), tried.get("weight_decay"))
        )
        row = {"validation_pass_at_1": 0.2 if score is None else score[trial.seed == 2], "settings": ""}
        (tmp_path / "points" / f"{trial.name}.json").write_text(json.dumps({"row": row}))
    found = given(checked, arm)
    assert found.choice == (("learning_rate", 1e-3), ("weight_decay", 0.1)) and "best of 4 settings" in found.note
    fields = recipe_of(checked, arm, found).resolved_arms["rft"].fields
    assert (fields["learning_rate"], fields["weight_decay"]) == (1e-3, 0.1)
    tried = next(p for p in trials if p.arm == "dpo" and dict(p.choice or ())["beta"] == 0.5)
    assert recipe_of(checked, tried, Given(n=5)).resolved_arms["dpo"].fields["beta"] == 0.5
    assert recipe_of(checked, tried, Given(n=5)).sample.n == 5
    assert Point("arm", "rft", 16, tried.seed) in needs(checked, tried)


def test_trials_are_measured_on_the_validation_problems(tmp_path: Path) -> None:
    few = ["bench.arms={rft: {method: rft, num_train_epochs: 1, tune: {learning_rate: [1.0e-9, 1.0e-3]}}}", *TUNED[2:4]]
    measures = [
        "bench.temperatures=[0.5]",
        "bench.beyond={problems: {evaluate_operations: 3}, sample: {max_tokens: 30}}",
    ]
    places = [f"recipe.output_dir={tmp_path / 'run'}", "bench.workers=1", "recipe.problems.evaluate=16"]
    overrides = [*places, *few, *measures, "bench.arms.rft_equal=null", "bench.arms.control=null"]
    reporter = Reporter(Console(file=io.StringIO()))
    assert main("methods", QUICK, overrides, tmp_path / "page", write_methods, False, reporter) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "trials.csv").open()))
    assert [r["settings"] for r in rows] == ["lr 1e-09", "lr 0.001"]
    best = max(rows, key=lambda r: float(r["validation_pass_at_1"]))
    assert [r for r in rows if r["chosen"].lower() in ("1", "true")] == [best]
    (arm,) = [r for r in csv.DictReader((tmp_path / "run" / "points.csv").open()) if r["arm"] == "rft"]
    assert f"lr {float(arm['learning_rate']):g}" == best["settings"]
    for name in ("verified", "maj_at_k", "at_best", "beyond"):
        assert 0 <= float(arm[name]) <= 1
    assert float(arm["verified"]) <= float(arm["pass_at_1"]) and arm["best_temperature"] in ("0.0", "0.5", "1.0")
    page = (tmp_path / "page.md").read_text()
    assert "maj@2 | verified | longer | wrong steps" in page and "| best T |" in page
    assert "## How the settings were chosen" in page and f"| rft | 16 | 2 | {best['settings']} |" in page
    record = json.loads(
        (tmp_path / "run" / "points" / f"rft-16-seed0-{best['settings'].replace(' ', '-')}.json").read_text()
    )
    assert not [s for s in record["stages"] if s["kind"] == "train" and not s["new"]]


def test_the_problems_beyond_are_others(tmp_path: Path) -> None:
    longer = "bench.beyond={problems: {evaluate_operations: 3}, sample: {max_tokens: 30}}"
    checked = load_bench(QUICK, [longer])
    recipe = beyond(recipe_of(checked, Point("arm", "control", 16, 0)), checked)
    assert recipe.sample.max_tokens == 30 and recipe.problems is not None
    assert {p.meta["operations"] for p in load_problems(recipe.problems).evaluate} == {3}
    assert key_of(checked, Point("base", "base", 0, 0), Given()) != key_of(
        load_bench(QUICK), Point("base", "base", 0, 0), Given()
    )
    with pytest.raises(InputError, match=r"bench\.beyond: no section 'problem' .did you mean 'problems'"):
        load_bench(QUICK, ["bench.beyond={problem: {operations: 3}}"])


def test_equal_tokens_by_hand() -> None:
    # 10 problems x 8 samples of 5 tokens, and 300 tokens of labels: 700. 14 x 10 x 5 = 700.
    row = {"samples_n": 8, "rounds": 1, "generated_tokens": 700, "label_tokens": 300}
    assert equal_n(row, 10, 1) == 14
    assert equal_n({**row, "generated_tokens": 701, "label_tokens": 301}, 10, 1) == 15
    assert equal_n({**row, "rounds": 2, "generated_tokens": 1100, "label_tokens": 300}, 10, 2) == 11


def test_shuffled_labels_keep_the_weights_and_tell_nothing() -> None:
    section, rng = LabelSection(), random.Random(0)
    steps: list[Step] = []
    verdicts: dict[str, str | None] = {}
    for i in range(400):
        right = i % 2 == 0
        verdicts[f"t{i}"] = CORRECT if right else INCORRECT
        for j in range(5):  # wrong traces fall at some step, and stay down
            a = rng.choice([0.0, 0.3, 0.5]) if right else (-0.6 if j == 2 else 0.25)
            label = "pit" if a == -0.6 else "good" if a else "neutral"
            steps.append(
                Step(f"t{i}", j, j, j + 1, "", 8, 0, 0.5, 0.4, 0.6, a, a - 0.1, a + 0.1, label, "fixed")
                if i
                else Step("t0", j, j, j + 1, "", 0, 0, *[float("nan")] * 6, "unlabelled", "fixed")
            )

    def by_trace(rows: list[Step]) -> dict[str, list[float]]:
        names = {s.trace_id: [t for t in rows if t.trace_id == s.trace_id] for s in rows}
        return {name: weights(own, verdicts[name], 0.5, section) for name, own in names.items()}

    dealt = shuffled(steps, verdicts, section, 7)
    before, after = by_trace(steps), by_trace(dealt)
    assert Counter(w for own in before.values() for w in own) == Counter(w for own in after.values() for w in own)
    assert dealt == shuffled(steps, verdicts, section, 7) != shuffled(steps, verdicts, section, 8)
    assert {s.label for s in dealt} == {"good", "bad", "neutral", "unlabelled"} and dealt[:5] == steps[:5]

    def mean(table: dict[str, list[float]], verdict: str) -> float:
        found = [w for name, own in table.items() if verdicts[name] == verdict for w in own]
        return sum(found) / len(found)

    assert mean(before, CORRECT) - mean(before, INCORRECT) > 0.2
    assert abs(mean(after, CORRECT) - mean(after, INCORRECT)) < 0.06
