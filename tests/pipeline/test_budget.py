"""Arms under a budget: what they draw, that a killed run decides the same again, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import negrl.store
from negrl.budget import GROUP
from negrl.errors import InputError
from negrl.pipeline import run
from negrl.recipe import load_recipe
from tests.pipeline.helpers import TINY, Ran

ARM = "step_advantage"
ADAPTIVE = ["label.labeler=adaptive", "label.k=null", "label.budget_tokens=0"]
BUDGET = [*ADAPTIVE, *(f"arms.{name}=null" for name in ("sft", "dpo", "step_dpo")), f"arms.{ARM}.rounds=null"]
BUDGET += [f"arms.{ARM}.budget=3k", "arms.topr={method: topr, budget: 3k}"]


def stages(ran: Ran) -> dict[str, Path]:
    return {t: Path(entry["folder"]) for t, entry in json.loads((ran.folder / "stages.json").read_text()).items()}


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(f"{table}-*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def spent(tiny: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """rft has no budget: 8 samples a problem, one round."""
    return tiny(tmp_path_factory.mktemp("budget") / "run", *BUDGET)


@pytest.mark.slow
def test_the_budget_is_spent_and_the_report_says_on_what(spent: Ran) -> None:
    arms = spent.results["arms"]
    assert "budget" not in arms["rft"] and arms["rft"]["generated_tokens"] > 0
    for name in (ARM, "topr"):
        told = arms[name]["budget"]
        rounds = told["spent"]
        assert told["ended"] == "the budget is spent" and len(rounds) >= 4
        assert sum(one["tokens"] for one in rounds) == arms[name]["generated_tokens"]
        # Planned on the length of the last round's samples: a little to either side, at most a quarter of a round left.
        assert 0.9 * 3000 < arms[name]["generated_tokens"] < 1.1 * 3000
        assert all(one["in_band"] + one["solved"] + one["hopeless"] == 16 for one in rounds)
        said = [line for line in spent.screen.splitlines() if line.startswith(f"  {name} · round ")]
        assert len(said) == len(rounds) and "left · problems: 16 in the band" in said[0]
        assert f"  {name} · this was the last round: the budget is spent" in spent.screen
    page = (spent.folder / "report" / "index.html").read_text()
    assert "Budget of step_advantage" in page and "Budget of topr" in page and "Budget of rft" not in page


@pytest.mark.slow
def test_arms_share_the_first_round_and_every_decision_is_stored(spent: Ran) -> None:
    found = stages(spent)
    assert (
        f"{ARM} · round 1 · sample" in found and found["topr · round 1 · sample"] == found[f"{ARM} · round 1 · sample"]
    )
    for round_ in (1, 2, 3):
        folder = found[f"{ARM} · round {round_} · sample"]
        shares, traces = rows(folder, "shares"), rows(folder, "traces")
        assert len(shares) == 16 and (round_ > 1 or {share["samples"] for share in shares} <= {0, 4, 5})
        drawn = {share["problem_id"]: share["samples"] for share in shares if share["samples"]}
        assert drawn == {p: sum(t["problem_id"] == p for t in traces) for p in {t["problem_id"] for t in traces}}
        assert all(share["samples"] in (0, 1) or share["samples"] >= GROUP for share in shares)
    before = rows(found[f"{ARM} · round 1 · verify"], "traces")
    for share in rows(found[f"{ARM} · round 2 · sample"], "shares"):
        own = [t["verdict"] == "correct" for t in before if t["problem_id"] == share["problem_id"]]
        assert (share["right"], share["right"] + share["wrong"]) == (sum(own), len(own))


@pytest.mark.slow
def test_killed_and_started_again(
    spent: Ran, tiny: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run dies before every 7th write and goes on; it ends with the same stages, rows and numbers."""
    real, writes = negrl.store.write_atomic, {"n": 0, "deaths": 0}
    for title, folder in stages(spent).items():
        if title.startswith(("base", "start", "problems")):
            shutil.copytree(folder, tmp_path / "run" / "stages" / folder.name)

    def dying(path: Path, data: bytes) -> None:
        writes["n"] += 1
        if writes["n"] % 11 == 0:
            writes["deaths"] += 1
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(negrl.store, "write_atomic", dying)
    for _ in range(60):
        try:
            ran = tiny(tmp_path / "run", *BUDGET)
            break
        except KeyboardInterrupt:
            continue
    assert writes["deaths"] >= 10
    assert {t: p.name for t, p in stages(ran).items()} == {t: p.name for t, p in stages(spent).items()}
    for name in (ARM, "topr", "rft"):
        one, other = ({**r.results["arms"][name], "seconds": None} for r in (ran, spent))
        assert one == other


@pytest.mark.slow
def test_a_lost_shard_is_made_again(spent: Ran, tiny: Callable[..., Ran]) -> None:
    lost = stages(spent)[f"{ARM} · round 2 · sample"] / "traces-00001.parquet"
    bytes_before = lost.read_bytes()
    lost.unlink()
    tiny(spent.folder, *BUDGET)
    assert lost.read_bytes() == bytes_before


@pytest.mark.slow
def test_auto_says_why_it_stopped(spent: Ran, tiny: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("negrl.budget.rounds.USUAL", 48)
    monkeypatch.setattr("negrl.budget.rounds.PATIENCE", 1)
    arms = [*BUDGET, f"arms.{ARM}.budget=auto", "arms.topr=null", f"store={spent.folder / 'stages'}"]
    told = tiny(spent.folder.parent / "auto", *arms).results["arms"][ARM]["budget"]
    assert told["ended"] is not None and told["ended"] != "the budget is spent"
    assert all(one["left"] is None for one in told["spent"])


@pytest.mark.slow
def test_siblings_of_earlier_rounds_are_read_and_keyed(spent: Ran, tiny: Callable[..., Ran]) -> None:
    arms = [*ADAPTIVE, *(f"arms.{name}=null" for name in ("sft", "rft", "dpo", "step_dpo")), "label.sibling_rounds=2"]
    ran = tiny(spent.folder.parent / "siblings", *arms, f"arms.{ARM}.rounds=3", f"store={spent.folder / 'stages'}")
    found = stages(ran)
    for round_, before in ((2, "verify"), (3, f"{ARM} · round 2 · verify")):
        for stage in ("value the steps", "view"):
            inputs = json.loads((found[f"{ARM} · round {round_} · {stage}"] / "stage.json").read_text())["inputs"]
            assert inputs["earlier"] == [found[before].name]
    first = json.loads((found["value the steps"] / "stage.json").read_text())
    assert "earlier" not in first["inputs"]
    counts = [json.loads((found[f"{at}value the steps"] / "stage.json").read_text())["labelled"]
              for at in ("", f"{ARM} · round 2 · ")]  # fmt: skip
    assert min(counts) > 0


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([f"arms.{ARM}.budget=2M"], f"arms.{ARM}: budget: it decides the number of rounds; leave rounds out"),
        (["arms.sft.budget=2M"], "arms.sft: budget: sft samples nothing; leave it out"),
        (["arms.sft={method: step_grpo, budget: 2M}"], "arms.sft: budget: step_grpo samples while it trains; leave it"),
        (["train.budget=lots"], "train.budget: expected a number of tokens, as 500k or 2M, or auto; not 'lots'"),
        (["arms=null", "train.budget=2M", "rounds=3"], "rounds: train.budget (2000000) decides them; leave it out"),
        (["arms=null", "label.sibling_rounds=3"], "label.sibling_rounds: with one round there are no earlier ones"),
        (["arms=null", "train.budget=40"], "train.budget: 40 tokens may not pay for 2 samples; give at least 48"),
        (["arms.rft.budgt=2M"], "unknown field 'budgt' for method rft (did you mean 'budget'?)"),
        (["arms=null", "train.budget=2M"], "label.labeler fixed draws rollouts whatever they cost; take adaptive"),
    ],
)
def test_what_a_budget_can_not_be(overrides: list[str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(load_recipe(TINY, [f"output_dir={tmp_path / 'run'}", *overrides]))
    assert expected in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "stages").exists()


def test_an_arm_inherits_the_budget_unless_it_says_rounds() -> None:
    recipe = load_recipe(TINY, ["train.budget=2M", "label.labeler=adaptive", "label.k=null"])
    budgets = {name: (arm.budget, arm.rounds) for name, arm in recipe.resolved_arms.items()}
    assert budgets["rft"] == (2_000_000, None) and budgets["sft"] == (None, None) and budgets[ARM] == (None, 2)
    own = load_recipe(TINY, ["train.rounds=3", "arms.rft.budget=auto"]).resolved_arms
    assert (own["rft"].budget, own["rft"].rounds) == ("auto", None) and own["dpo"].rounds == 3
