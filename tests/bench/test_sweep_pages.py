"""The pages of the sample-efficiency and the methods bench, from run folders whose truth is known."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negrl.bench.page import read_csv, to_csv
from negrl.bench.sweep import results
from negrl.bench.sweep.compare import blocks, compare, standings
from negrl.bench.sweep.report import MULTIPLIERS, efficiency_page, reading_of, write_efficiency, write_methods
from negrl.bench.sweep.results import read
from negrl.errors import InputError
from tests.bench.run_folder import ARMS, make


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("run"))


def document(folder: Path, out: Path, write=write_efficiency) -> str:
    write(folder, out, "negrl bench x.yaml")
    return out.with_name(out.name + ".md").read_text()


def page(folder: Path) -> str:
    """The text alone, of fewer draws: fast."""
    return efficiency_page(compare(read(folder, draws=500)), "x", "negrl bench x.yaml")


def table(text: str, head: str) -> list[list[str]]:
    """The rows of the first table whose head begins so."""
    lines = text[text.index(f"| {head}") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.slow
def test_the_page_has_it_all(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text = document(folder, tmp_path / "eff")
    for part in ("# Sample efficiency: chain, operations 5", "`negrl bench x.yaml`", "2 x AMD EPYC", "## The control",
                 "## At equal generated tokens", "lr 0.0005 x 4 epochs (5)", "| seconds | 5,000 | 7,000 | 1.40 |",
                 "## How the intervals are made",
                 "shuffle_labels: true", "![test error against problems](eff.png)"):  # fmt: skip
        assert part in text
    assert "nan" not in text and "inf" not in text.replace("information", "")
    assert {p.name for p in tmp_path.iterdir()} == {
        "eff" + s for s in (".md", ".csv", "-multipliers.csv", ".png", "-greedy.png", "-costs.png")
    }
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in tmp_path.glob("*.png"))
    with open(tmp_path / "eff.csv") as handle:
        assert len(list(csv.DictReader(handle))) == 5 * (1 + 8 + 2 * len(ARMS))
    out = capsys.readouterr().out
    headline = table(text, "arm | rounds | problems | seeds")
    assert out.strip() in text and [row[:4] for row in headline] == [
        [arm, rounds, size, "5"]
        for arm, rounds in (("step_advantage", "1"), ("step_advantage_x4", "4"))
        for size in ("64", "256")
    ]
    found = read_csv(tmp_path / "eff-multipliers.csv", MULTIPLIERS)
    assert {r["measure"] for r in found} == {"pass_at_1", "pass_at_k", "greedy"}
    assert len(found) == 3 * 3 * 2 * len(ARMS)
    comparison = compare(read(folder))
    for row in found:
        one = next(r for r in comparison.by[row["measure"]].rows if (r.arm, r.size) == (row["arm"], row["size"]))
        assert str(reading_of(row)) == str(one.readings[row["curve"]])


def test_the_multipliers_are_those_it_was_made_with(folder: Path) -> None:
    comparison = compare(read(folder))
    found = {(r.arm, r.size): r for r in comparison.rows}
    assert comparison.main == "step_advantage" and comparison.several == ["step_advantage_x4"]
    for (arm, _), row in found.items():
        true, reading = ARMS[arm]["times"], row.readings["power"]
        assert true > reading.most if reading.low == math.inf else reading.low <= true
        assert reading.high == math.inf or true <= reading.high or (reading.high == 0 and true < reading.least)
    assert found["step_advantage_x4", 256].readings["power"].value == math.inf  # 60x; 32x can be seen
    assert found["control", 64].control and found["control", 64].readings["power"].low == 0
    rival = next(r for r in comparison.rivals if (r.main, r.arm, r.size) == ("step_advantage", "rft_equal", 256))
    assert rival.had_its_chance and rival.error[1] > 0
    assert not next(r for r in comparison.rivals if r.arm == "rft").had_its_chance


def test_goal_reached_or_missed_is_said(folder: Path, tmp_path: Path) -> None:
    goals = {(r[0], r[2]): r[5] for r in table(page(folder), "arm | rounds | problems | seeds")}
    assert goals["step_advantage", "64"] == goals["step_advantage", "256"] == "missed"
    strong = {a: {**x, "times": 4000 if a == "step_advantage" else x["times"]} for a, x in ARMS.items()}
    found = table(page(make(tmp_path / "strong", arms=strong)), "arm | rounds | problems | seeds")
    assert [r[2:6] for r in found if r[0] == "step_advantage"] == [
        ["64", "5", "> 128x [> 128]", "reached"], ["256", "5", "> 32x [> 32]", "reached"],
    ]  # fmt: skip


def test_the_arm_is_held_against_sft_on_as_many_problems_and_on_the_most(folder: Path) -> None:
    found = {(r.arm, r.size): r.against for r in compare(read(folder)).rows}
    for arm, below in (("step_advantage", True), ("control", False)):  # 14 times its problems, 0.8 times
        assert list(found[arm, 256]) == [256, 8192]
        gap, low, high = found[arm, 256][256]
        true = 0.65 * 256**-0.15 * (1 - ARMS[arm]["times"] ** -0.15)
        assert low < true < high and (low > 0) == below and gap == pytest.approx(true, abs=0.03)
    assert found["control", 256][8192][2] < 0
    own, largest = table(page(folder), "arm | rounds | problems | seeds")[0][-2:]
    assert own.startswith("+") and own.endswith("larger") and largest.startswith("-")


def greedy_world(folder: Path, ours: float, arms: tuple[str, ...] = ("step_advantage", "rft"), **more) -> Path:
    """At T=1 step_advantage is worth 14 times its problems; at T=0 `ours` times."""
    about = {a: {**ARMS[a], "greedy": ours if a == "step_advantage" else 1.0} for a in arms}
    return make(folder, arms=about, problems=400, random_seed=1, **more)


@pytest.mark.parametrize(("ours", "finding", "side"), [(1.0, "unclear", 0), (0.2, "below", -1), (14.0, "above", 1)])
def test_whether_it_holds_at_zero_is_said(tmp_path: Path, ours: float, finding: str, side: int) -> None:
    folder = greedy_world(tmp_path / "run", ours)
    comparison = compare(read(folder))
    for row in comparison.of("step_advantage"):
        one, zero = (comparison.by[m].at(row).readings["power"] for m in ("pass_at_1", "greedy"))
        assert one.low <= 14 <= one.high and zero.side == side and (zero.high < one.low) == (ours < 14)
        assert zero.side < 0 if ours < 1 else zero.low <= ours <= zero.high
    text = efficiency_page(comparison, "x", "negrl bench x.yaml")
    assert [r[8:10] for r in table(text, "arm | rounds")] == [[finding, "yes" if ours < 14 else "no"]] * 2
    assert text.index("smaller than at T=1") < text.index("## The multiplier at") < text.index("## How many")
    # SFT's greedy error at 8,192 problems is 0.027, its samples' 0.17
    assert "SFT mostly lacks sharpness" in text and "With greedy decoding, `sft` on " in text


def test_a_story_that_nothing_is_known_of(tmp_path: Path) -> None:
    """One seed, few problems."""
    arms = {"step_advantage": {**ARMS["step_advantage"], "greedy": 3}}
    text = page(make(tmp_path / "run", arms=arms, seeds=1, problems=40))
    assert "unclear" in {r[8] for r in table(text, "arm | rounds")} and "There is only one seed" in text


def test_an_error_that_is_as_large_at_zero_is_no_want_of_sharpness(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", arms={"step_advantage": ARMS["step_advantage"]}, a=0.3, b=0.5)
    text = page(folder)
    assert "a lack of sharpness does not explain" in text and "mostly lacks sharpness" not in text


def test_pass_at_k_is_the_unbiased_estimator(folder: Path, tmp_path: Path) -> None:
    found = read(folder)
    counted = pq.read_table(folder / "problems.parquet").to_pylist()
    for i, key in enumerate(found.by["pass_at_k"].keys[:20]):
        own = [r for r in counted if (r["arm"], r["size"], r["seed"]) == key]
        right = {
            "pass_at_1": [r["correct"] / r["n"] for r in own],
            "pass_at_k": [r["correct"] > 0 for r in own],
            "greedy": [r["greedy"] for r in own],
        }
        for measure, values in right.items():
            assert found.by[measure].error[i] == pytest.approx(1 - sum(values) / len(own))
    assert found.k == 4
    # 3 samples of one problem: k is 3, and of 2 right ones in 4 any 3 hold a right one; of 1 in 4 they do at 3/4.
    n, right = np.array([[3.0, 4.0, 4.0, np.nan]]), np.array([[0.0, 2.0, 1.0, np.nan]])
    assert results._pass_at_k(n, right, 3)[0, :3] == pytest.approx([0, 1, 0.75])


def test_the_edges_of_the_grid(folder: Path) -> None:
    found = {(r[0], r[1]): r[2:] for r in table(page(folder), "measure | setting")}
    assert found["T=1", "learning rate"] == ["20 of 40", "20 of 40", "–"]
    assert found["T=0", "learning rate"] == ["40 of 40", "0 of 40", "–"]
    assert found["T=1", "epochs"][:2] == ["40 of 40"] * 2 and found["T=1", "epochs"][2].startswith("64, 128,")


def test_a_control_that_gains_is_called_out(tmp_path: Path) -> None:
    arms = {a: {**x, "times": 30 if a == "control" else x["times"]} for a, x in ARMS.items()}
    folder = make(tmp_path / "run", arms=arms)
    assert "`control` on 64 problems is significantly above its start policy" in page(folder)
    gain = read(folder).gap(("start", 64), ("control", 64))
    assert gain is not None and gain[0] > gain[1] > 0


def test_a_control_that_does_not_gain_is_shown_without_a_caveat(folder: Path) -> None:
    text = page(folder)
    assert [r[:2] for r in table(text, "arm | problems | multiplier | pass@1 over")] == [
        ["control", "64"],
        ["control", "256"],
    ]
    assert "Here it does" not in text


@pytest.mark.slow
def test_missing_pieces(tmp_path: Path) -> None:
    """No control, no start, one seed, no spurious share, no grid, no costs, an arm beside step_advantage only."""
    arms = {a: dict(x) for a, x in ARMS.items() if a in ("rft", "step_advantage")}
    folder = make(tmp_path / "run", seeds=1, arms=arms, sizes=(128,))
    (folder / "grid.csv").unlink()
    (folder / "costs.json").write_text(json.dumps({"hardware": "x", "planned": None, "taken": None}))
    rows = list(csv.DictReader((folder / "points.csv").read_text().splitlines()))
    gone = dict.fromkeys(("spurious_share", "mass_before", "mass_after", "seconds", "generated_tokens"), "")
    (folder / "points.csv").write_bytes(to_csv(results.POINTS, [r | gone for r in rows]))
    text = document(folder, tmp_path / "x")
    assert "There is no control" in text and "There is only one seed" in text and "Number of seeds: only 1" in text
    assert "SFT's seconds are not known" in text and "not recorded in costs.json" in text and "nan" not in text
    assert "The run folder has no grid of SFT" in text
    text = document(folder, tmp_path / "y", write_methods)
    assert "nan" not in text and "Tokens that were not counted (–): sft, rft, step_advantage." in text


@pytest.mark.parametrize("drop", [("step_advantage", 64, 2), ("sft", 512, 1)])
def test_a_seed_that_fell(tmp_path: Path, drop: tuple[str, int, int]) -> None:
    folder = make(tmp_path / "run", drop=drop)
    text = page(folder)
    assert f"`{drop[0]}`, size {drop[1]}, seed {drop[2]} failed: `did not finish: out of memory`" in text
    row = next(r for r in compare(read(folder)).rows if (r.arm, r.size) == ("step_advantage", 64))
    assert row.seeds == [s for s in range(5) if s != drop[2]]
    seeds = {(r[0], r[2]): r[3] for r in table(text, "arm | rounds")}
    assert seeds["step_advantage", "64"] == "4" and seeds["step_advantage", "256"] == ("4" if drop[0] == "sft" else "5")


def test_a_row_that_is_not_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    lines = (folder / "points.csv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("dpo,dpo,1,64,3,")]
    assert len(kept) == len(lines) - 1
    (folder / "points.csv").write_text("\n".join(kept))
    assert "`dpo`, size 64: not measured with seeds 3." in page(folder)


def test_problems_of_their_own_for_every_seed(tmp_path: Path) -> None:
    found = read(make(tmp_path / "run", shared=False))
    assert not found.shared and found.problems == 200
    row = next(r for r in compare(found).rows if (r.arm, r.size) == ("step_advantage", 256))
    assert row.readings["power"].low < 14 < row.readings["power"].high


@pytest.mark.slow
def test_methods_page(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arms = {a: dict(x) for a, x in ARMS.items()}
    arms["nsr"] = {"times": 0.1, "method": "nsr", "tokens": 850, "spurious": 0.1, "guard": "entropy <b> fell `to` 0.1"}
    folder = make(tmp_path / "run", arms=arms, sizes=(256,), sft=(), drop=("rft", 256, 0))
    text = document(folder, tmp_path / "methods", write_methods)
    groups = blocks(read(folder), standings(read(folder), 256))
    assert [(g.rounds, g.best.arm) for g in groups] == [(1, "step_advantage"), (4, "step_advantage_x4")]
    assert [r[:3] for r in table(text, "problems | rounds")] == [
        ["256", "1", "`step_advantage`"], ["256", "4", "`step_advantage_x4`"],
    ]  # fmt: skip
    assert {*groups[0].above, *groups[0].even} == {a.arm for a in groups[0].arms[1:]}
    assert "Significantly below the start policy: nsr." in text
    assert "a guard stopped 5 of 5 seeds, and the weights it kept were measured: `entropy <b> fell 'to' 0.1`" in text
    assert "`rft`, size 256, seed 0 failed" in text and "| rft | 4 |" in text and "nan" not in text
    tokens = {r[0]: r[-1] for r in table(text[text.index("### 1 round") :], "arm | seeds")}
    assert (tokens["dft"], tokens["rft_equal"], tokens["rft"]) == ("0%", "100%", "59%")
    one, four = text.index("### 1 round"), text.index("### 4 rounds")
    assert one < text.index("| step_dpo | 5 |") < four < text.index("| step_advantage_x4 | 5 |")
    assert (tmp_path / "methods.png").is_file() and "`step_advantage`" in capsys.readouterr().out


def broken(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("points.csv", "pass_at_1", "pass_at_one", "no column 'pass_at_1'.*did you mean"),
        ("points.csv", "sft,sft,1,64,0,", "sft,sft,1,64,x,", "line 3: seed must be a number.*'x'"),
        ("points.csv", "sft,sft,1,64,0,0.", "sft,sft,1,64,0,7.", "pass_at_1 must lie between 0 and 1"),
        ("points.csv", "sft,sft,1,64,0,", "sft,sft,1,65,0,", "no rows for arm 'sft', size 65"),
        ("points.csv", "sft,sft,1,64,0,", "sft,sft,1,128,0,", "two rows for arm 'sft', size 128, seed 0"),
        ("points.csv", "sft,sft,1,64,0,0.", "sft,sft,1,64,0,0.0", "not of one run"),
        ("grid.csv", "chosen", "picked", "no column 'chosen'"),
        ("costs.json", "{", "[{", "not JSON"),
        ("bench.yaml", "recipe:", "recipes:", "keys recipe and bench"),
        ("bench.yaml", "recipe:", "recipe: [", "not valid YAML"),
    ],
)
def test_foreign_files(folder: Path, tmp_path: Path, name: str, old: str, new: str, says: str) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    broken(copy, name, old, new)
    with pytest.raises(InputError, match=says) as error:
        read(copy)
    assert name in str(error.value) or "problems.parquet" in str(error.value)
    assert "\n" not in str(error.value)


def test_counts_that_are_not_those_of_the_points(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table = pq.read_table(folder / "problems.parquet")
    pq.write_table(table.drop_columns(["greedy", "correct_k"]), tmp_path / "problems.parquet")
    with pytest.raises(InputError, match=r"no column 'greedy'.*run the bench again"):
        read(tmp_path)
    doubled = table.set_column(table.column_names.index("greedy"), "greedy", pa.array([2] * len(table)))
    pq.write_table(doubled, tmp_path / "problems.parquet")
    with pytest.raises(InputError, match="greedy must be 0 or 1, not 2"):
        read(tmp_path)
    zeros = table.set_column(table.column_names.index("greedy"), "greedy", pa.array([0] * len(table)))
    pq.write_table(zeros, tmp_path / "problems.parquet")
    with pytest.raises(InputError, match=r"greedy of arm 'base'.*not of one run"):
        read(tmp_path)
    zeros = table.set_column(table.column_names.index("correct_k"), "correct_k", pa.array([0] * len(table)))
    pq.write_table(zeros, tmp_path / "problems.parquet")
    with pytest.raises(InputError, match=r"pass_at_k of arm 'base'.*not of one run"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["points.csv", "problems.parquet", "costs.json", "bench.yaml"])
def test_missing_files(folder: Path, tmp_path: Path, name: str) -> None:
    for path in folder.iterdir():
        if path.name != name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=f"{name}: missing"):
        read(tmp_path)
    (tmp_path / name).write_bytes(b"\xff\xfe nonsense \x00")
    with pytest.raises(InputError, match=name):
        read(tmp_path)


def test_no_curve_no_arms(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs two sizes or more"):
        compare(read(make(tmp_path / "a", sft=(64,))))
    with pytest.raises(InputError, match="no arm to hold against SFT"):
        compare(read(make(tmp_path / "b", arms={})))
    with pytest.raises(InputError, match="no such run folder"):
        read(tmp_path / "nowhere")
