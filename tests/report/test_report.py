"""results.json, the tables, the plots and the sentence on top: their exact content, and the empty cases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from negrl.evaluate.metrics import EvalSummary
from negrl.records import Step
from negrl.report import ArmReport, RunReport, TraceView, finding, write_report
from negrl.report.data import results_json, visible
from negrl.report.plots import curves
from negrl.report.table import markdown_table, screen_table
from negrl.report.traces import hover

NAN = float("nan")


def summary(value: float, low: float, high: float, spurious: float | None = 0.2) -> EvalSummary:
    interval = None if spurious is None else (spurious - 0.02, spurious + 0.02)
    return EvalSummary(value, (low, high), 100, 400, 0.01, 0.02, 0.005, spurious, interval, 0.95)


def step(value: float = 0.25, advantage: float = -0.63, label: str = "pit", n: int = 8, text: str = "a") -> Step:
    return Step("t1", 0, 0, 1, text, n, round(8 * value) if math.isfinite(value) else 0,
                value, 0.07, 0.59, advantage, -0.9, -0.2, label, "fixed")  # fmt: skip


def full_report() -> RunReport:
    history = [{"step": s, "loss": 1.0 / s, "grad_norm": 0.5, "logps/chosen": -s, "logps/rejected": -2.0 * s}
               for s in range(1, 9)]  # fmt: skip
    return RunReport(
        name="run",
        recipe_yaml="name: run\n",
        created="2026-01-01",
        hardware="2 cores",
        versions={"negrl": "0"},
        arms=[
            ArmReport("sft", "sft", summary(0.6, 0.58, 0.62), 0, 0, 5.5, history, 256),
            ArmReport("ours", "step_advantage", summary(0.7, 0.68, 0.72, 0.1), 900, 800, 65.0, history, 300),
        ],
        reference=[ArmReport("start", "sft", summary(0.55, 0.53, 0.57, 0.3))],
        label={"steps": 10},
        checks=["all verified"],
        traces=[TraceView("p", "1+1?", "2", "t1", "incorrect", None, "3", "start", [step()])],
        dead_zone=0.2,
    )


@pytest.mark.slow
def test_results_json_has_exactly_the_promised_keys(tmp_path: Path) -> None:
    paths = write_report(full_report(), tmp_path)
    results = json.loads(paths.results_json.read_text())
    assert set(results) == {
        "name", "created", "arms", "reference", "label", "checks", "recipe", "versions", "hardware",
    }  # fmt: skip
    assert list(results["arms"]) == ["sft", "ours"] and list(results["reference"]) == ["start"]
    assert results["arms"]["ours"] == {
        "method": "step_advantage", "pass_at_1": 0.7, "pass_at_1_ci": [0.68, 0.72],
        "spurious_share": 0.1, "spurious_share_ci": [pytest.approx(0.08), pytest.approx(0.12)],
        "generated_tokens": 900, "label_tokens": 800, "seconds": 65.0, "rows": 300, "problems": 100,
        "samples": 400, "truncated_rate": 0.01, "undecided_rate": 0.02, "no_answer_rate": 0.005,
        "confidence": 0.95,
    }  # fmt: skip
    assert results["recipe"] == "name: run\n" and results["hardware"] == "2 cores"
    assert not list(tmp_path.glob(".*.tmp"))


def test_results_json_is_strict_where_numbers_are_not() -> None:
    report = full_report()
    report.arms[0].seconds = float("inf")
    report.arms[1].summary = summary(NAN, NAN, 0.7, None)
    report.label = {"rate": NAN, "nested": [1.0, float("-inf")]}

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in results.json")

    results = json.loads(results_json(report), parse_constant=refuse)
    assert results["arms"]["sft"]["seconds"] is None
    assert results["arms"]["ours"]["pass_at_1_ci"] == [None, 0.7]
    assert results["arms"]["ours"]["spurious_share"] is None
    assert results["label"] == {"rate": None, "nested": [1.0, None]}


@pytest.mark.slow
def test_plots_are_pngs_of_a_readable_size(tmp_path: Path) -> None:
    paths = write_report(full_report(), tmp_path)
    assert [p.name for p in paths.plots] == ["results.png", "training.png", "advantages.png"]
    for path in paths.plots:
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        assert 900 <= width <= 2400 and 300 <= height <= 2400, (path.name, width, height)
        assert 5_000 < len(data) < 400_000


@pytest.mark.slow
def test_plots_with_nothing_to_plot_are_left_out_and_stale_ones_removed(tmp_path: Path) -> None:
    write_report(full_report(), tmp_path)
    paths = write_report(RunReport("empty"), tmp_path)
    assert paths.plots == [] and not list(tmp_path.glob("*.png"))
    assert json.loads(paths.results_json.read_text())["arms"] == {}
    assert "<h1>empty</h1>" in paths.index_html.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("spurious", [None, 0.0, 1.0])
def test_odd_arms_are_drawn(tmp_path: Path, spurious: float | None) -> None:
    """pass@1 of 0 and 1, an arm without evaluation, one logged point, `$` in a name, a nan loss."""
    report = RunReport(
        "odd",
        arms=[
            ArmReport("cost $x_1$ \u202e" + "long" * 20, "sft", summary(0.0, 0.0, 0.0, spurious)),
            ArmReport("perfect", "dpo", summary(1.0, 1.0, 1.0, None), log_history=[{"loss": 0.3, "step": 1}]),
            ArmReport("not evaluated", "kto", None, log_history=[{"loss": NAN, "step": 1}, {"eval_loss": 1.0}]),
        ],
        reference=[ArmReport(n, "", summary(0.5, 0.4, 0.6, spurious)) for n in ("base", "start", "other")],
        traces=[TraceView("p", "q", "1", "t", "correct", None, "1", "x", [step(NAN, NAN, "unlabelled", 0)])],
    )
    paths = write_report(report, tmp_path)
    assert [p.name for p in paths.plots] == ["results.png", "training.png"]


def test_curves_go_on_over_rounds_and_take_both_namings() -> None:
    history = [
        {"step": 1, "loss": 3.0, "logps/chosen": -1.0, "logps/rejected": -2.0},
        {
            "step": 2,
            "loss": 2.0,
            "eval_logps/chosen": -9.0,
            "negative/taper": 0.5,
            "logits/chosen": 7.0,
            "grad_norm": float("inf"),
        },
        {"step": 1, "loss": 1.0, "positive/logp": -3.0, "negative/logp": -4.0, "learning_rate": 1.0},
        {"step": 1, "train_loss": 2.0},
    ]
    found = curves(history)
    assert found["loss"] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert found["right"] == [(1, -1.0), (3, -3.0)] and found["wrong"] == [(1, -2.0), (3, -4.0)]
    assert found["grad_norm"] == [] and [x for x, _ in found["rounds"]] == [2]


def test_finding_says_whether_the_intervals_are_apart() -> None:
    report = full_report()
    text = finding(report)
    assert text.startswith("ours has the highest pass@1: 0.700 (95% interval 0.680 to 0.720)")
    assert "started from has 0.550" in text
    assert "wholly above that of sft (0.600)" in text and "overlaps" not in text
    assert "10% contain a wrong step (sft: 20%)" in text

    report.arms[0].summary = summary(0.67, 0.65, 0.69)
    text = finding(report)
    assert "overlaps with that of sft (0.670): this run does not tell them apart" in text and "above" not in text


def test_finding_does_not_flatter_a_method_that_lost() -> None:
    report = full_report()
    report.arms[0].summary = summary(0.8, 0.78, 0.82)
    text = finding(report)
    assert text.startswith("sft has the highest pass@1") and "wholly above that of ours (0.700)" in text


def test_finding_names_all_that_tie() -> None:
    report = full_report()
    report.arms[0].summary = summary(0.7, 0.68, 0.72, 0.2)
    text = finding(report)
    assert text.startswith("sft and ours tie on the highest pass@1: 0.700; the policy that every arm")
    assert "above" not in text and "overlaps" not in text
    assert text.endswith("Right answers that contain a wrong step: sft: 20%, ours: 10%.")
    report.arms.append(ArmReport("low", "sft", summary(0.5, 0.48, 0.52, None)))
    report.arms.append(ArmReport("near", "sft", summary(0.67, 0.65, 0.69, None)))
    text = finding(report)
    assert "Their intervals lie wholly above that of low (0.500)." in text
    assert "Not all of their intervals lie above that of near (0.670): this run does not tell them apart." in text


def test_finding_without_numbers() -> None:
    assert finding(RunReport("r")) == "Nothing was trained in this run."
    assert finding(RunReport("r", arms=[ArmReport("a", "sft")])) == "1 arm was trained (a); none was evaluated."
    alone = finding(RunReport("r", arms=[ArmReport("a", "sft", summary(0.5, 0.4, 0.6, None))]))
    assert alone == "a reaches a pass@1 of 0.500 (95% interval 0.400 to 0.600)."


def test_tables_show_every_number() -> None:
    report = full_report()
    report.arms.append(ArmReport("[red]x[/red] | \\", "dpo"))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(screen_table(report))
    screen = console.export_text()
    for text in ("0.700 [0.680, 0.720]", "10% [8, 12]", "900", "65", "5.5", "[red]x[/red]", "[95% interval]"):
        assert text in screen
    assert screen.index("ours") < screen.index("start")

    lines = markdown_table(report).splitlines()
    assert lines[0].startswith("| arm | pass@1 [95% interval] | wrong step inside right answers |")
    assert lines[2] == "| sft | 0.600 [0.580, 0.620] | 20% [18, 22] | 0 | 5.5 |"
    assert lines[4] == "| [red]x[/red] \\| \\\\ | – | – | 0 | 0.0 |"
    assert lines[5] == "| *start* | 0.550 [0.530, 0.570] | 30% [28, 32] | – | – |"


def test_hover_has_the_counts() -> None:
    assert hover(step()) == "V 0.25 (2/8) [0.07, 0.59] · A -0.63 [-0.90, -0.20] · label pit · labeler fixed"
    assert hover(step(NAN, NAN, "unlabelled", 0)) == "not labelled"
    assert hover(step(0.25, NAN)).startswith("V 0.25 (2/8) [0.07, 0.59] · label")


def test_visible_writes_out_what_cannot_be_seen() -> None:
    assert visible("a\x00b\u202ec\ud800\nd\té👍") == "a<U+0000>b<U+202E>c<U+D800>\nd\té👍"
