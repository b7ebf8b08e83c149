"""The guards' panel: drawn where a training was guarded, its rounds one after another."""

import pytest

from negrl.report import ArmReport, RunReport, write_report
from negrl.report.guard_plot import guard_points, guards_figure

pytestmark = pytest.mark.slow

LOOKS = [
    {"step": 0, "guard/right/logp": -0.5, "guard/bad/logp": -1.0, "guard/tripped": 0.0},
    {"step": 5, "loss": 1.0},
    {"step": 10, "guard/right/logp": -0.9, "guard/bad/logp": -2.0, "guard/kl/start": 0.2, "guard/tripped": 1.0},
]


def test_rounds_follow_each_other():
    points = guard_points([*LOOKS, *LOOKS])
    assert points["guard/right/logp"] == [(0, -0.5), (10, -0.9), (10, -0.5), (20, -0.9)]
    assert points["guard/tripped"][1] == (10, 1.0) and "loss" not in points


def test_the_page_has_the_panel_only_where_there_are_guards(tmp_path):
    arm = ArmReport(name="a", method="step_advantage", log_history=LOOKS)
    paths = write_report(RunReport(name="r", arms=[arm, ArmReport(name="b", method="sft")]), tmp_path)
    assert "guards.png" in [p.name for p in paths.plots]
    assert 'id="guards"' in paths.index_html.read_text()
    figure = guards_figure(RunReport(name="r", arms=[arm]))
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 2 and titles[1] == "KL to the start"  # no entropy was logged, so it has no column
    without = write_report(RunReport(name="r", arms=[ArmReport(name="b", method="sft")]), tmp_path)
    assert "guards.png" not in [p.name for p in without.plots]
    assert 'id="guards"' not in without.index_html.read_text()
