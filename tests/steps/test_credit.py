from __future__ import annotations

import dataclasses
import math

import pytest

from negrl.labelers.base import plain_differences
from negrl.recipe import LabelSection
from negrl.records import CORRECT, INCORRECT, UNDECIDED, Step
from negrl.steps.credit import in_band, label_steps, relabel, weights
from negrl.steps.values import Estimate, estimate, exact, verdict_value

SECTION = LabelSection()  # dead zone 0.2, band 0.1-0.9, 90%


def labelled(values: list[Estimate | None], v0: Estimate, verdict: str, section: LabelSection = SECTION) -> list[Step]:
    advantages = plain_differences(values, v0)
    labels = label_steps(values, advantages, verdict, section)
    rows = []
    for i, (value, a, label) in enumerate(zip(values, advantages, labels, strict=True)):
        v = (value.value, value.low, value.high) if value else (math.nan,) * 3
        d = (a.value, a.low, a.high) if a else (math.nan,) * 3
        rows.append(Step("t", i, i, i + 1, "", 8, 0, *v, *d, label, "fixed"))
    return rows


def labels(eighths: list[int | None], verdict: str, v0: float = 0.5, section: LabelSection = SECTION) -> list[str]:
    """Values as successes of 8 rollouts; the verdict is the last step's value."""
    values = [None if s is None else estimate(s, 8, 0.9) for s in eighths] + [verdict_value(verdict)]
    return [s.label for s in labelled(values, exact(v0), verdict, section)]


def test_pit_is_the_step_that_brings_the_value_down_to_its_lowest() -> None:
    assert labels([4, 4, 0, 0], INCORRECT) == ["neutral", "neutral", "pit", "neutral", "neutral"]
    # 1/8 and 0/8 count as equal: the fall to 1/8 is the pit, not the noise after it.
    assert labels([5, 1, 0, 0], INCORRECT) == ["neutral", "pit", "neutral", "neutral", "neutral"]
    # Two falls: the first does not reach the bottom.
    assert labels([8, 4, 0], INCORRECT) == ["good", "bad", "pit", "neutral"]
    # It recovers and falls again: the first of the equal lows is the pit.
    assert labels([0, 4, 0], INCORRECT) == ["pit", "good", "bad", "neutral"]
    # All well until the answer is written down.
    assert labels([4, 4, 5], INCORRECT) == ["neutral", "neutral", "neutral", "pit"]
    assert labels([], INCORRECT) == ["pit"]


def test_a_slide_in_small_steps_has_no_pit() -> None:
    assert labels([3, 2, 1], INCORRECT) == ["neutral"] * 4
    assert labels([], INCORRECT, v0=0.2) == ["neutral"]


def test_pit_must_be_significant_where_required() -> None:
    strict = LabelSection(require_significance=True)
    values, v0 = [estimate(4, 8, 0.9), estimate(1, 8, 0.9), exact(0.0)], estimate(8, 16, 0.9)
    assert [s.label for s in labelled(values, v0, INCORRECT)] == ["neutral", "pit", "neutral"]
    assert [s.label for s in labelled(values, v0, INCORRECT, strict)] == ["neutral", "neutral", "neutral"]


def test_only_significant_losses_in_right_traces_are_spurious() -> None:
    assert labels([4, 0, 0], CORRECT) == ["neutral", "spurious", "neutral", "good"]
    # 4/8 -> 2/8 falls by more than the dead zone, but the interval holds 0: bad, not spurious.
    assert labels([4, 2, 4], CORRECT) == ["neutral", "bad", "good", "good"]
    # Significant (exact values) but inside the dead zone.
    values = [exact(0.5), exact(0.35), exact(1.0)]
    assert [s.label for s in labelled(values, exact(0.5), CORRECT)] == ["neutral", "neutral", "good"]
    # The same loss in a wrong trace is its pit.
    assert labels([4, 0, 0], INCORRECT)[1] == "pit"


def test_missing_values_leave_both_neighbours_unlabelled() -> None:
    assert labels([4, None, 0], INCORRECT) == ["neutral", "unlabelled", "unlabelled", "neutral"]


def test_exactly_the_dead_zone_counts_as_none() -> None:
    values = [exact(0.6), exact(0.4), exact(0.0)]  # 0.6 - 0.4 is a hair above 0.2 in floating point
    assert [s.label for s in labelled(values, exact(0.6), INCORRECT)] == ["neutral", "neutral", "pit"]


def test_weights_of_a_wrong_trace() -> None:
    steps = labelled([estimate(s, 8, 0.9) for s in (6, 5, 0, 2)] + [exact(0.0)], exact(0.5), INCORRECT)
    assert [s.label for s in steps] == ["good", "neutral", "pit", "good", "bad"]
    assert weights(steps, INCORRECT, 0.5, SECTION) == [0.25, 0.0, -0.625, 0.0, 0.0]
    keep = LabelSection(after_pit="keep")
    assert weights(steps, INCORRECT, 0.5, keep) == [0.25, 0.0, -0.625, 0.25, -0.25]


def test_weights_of_a_right_trace_have_both_signs() -> None:
    steps = labelled([estimate(s, 8, 0.9) for s in (4, 1, 4)] + [exact(1.0)], exact(0.5), CORRECT)
    assert weights(steps, CORRECT, 0.5, SECTION) == [0.0, -0.375, 0.375, 0.5]


def test_significance_drops_doubtful_weights() -> None:
    steps = labelled([estimate(s, 8, 0.9) for s in (4, 1, 7)] + [exact(1.0)], exact(0.5), CORRECT)
    strict = LabelSection(require_significance=True)
    assert weights(steps, CORRECT, 0.5, SECTION) == [0.0, -0.375, 0.75, 0.0]
    assert weights(steps, CORRECT, 0.5, strict) == [0.0, 0.0, 0.75, 0.0]


def test_undecided_and_out_of_band_traces_have_no_weight() -> None:
    steps = labelled([estimate(0, 8, 0.9), exact(0.0)], exact(0.5), INCORRECT)
    assert any(weights(steps, INCORRECT, 0.5, SECTION))
    for verdict, v0 in [(UNDECIDED, 0.5), (None, 0.5), (INCORRECT, 0.05), (INCORRECT, 0.95), (INCORRECT, None)]:
        assert weights(steps, verdict, v0, SECTION) == [0.0, 0.0]


@pytest.mark.parametrize(("v0", "inside"), [(0.1, True), (0.9, True), (0.09, False), (0.91, False), (None, False)])
def test_band_holds_its_ends(v0: float | None, inside: bool) -> None:
    assert in_band(v0, SECTION) is inside


def test_unlabelled_steps_weigh_nothing() -> None:
    steps = labelled([estimate(4, 8, 0.9), None, exact(0.0)], exact(0.5), INCORRECT)
    assert weights(steps, INCORRECT, 0.5, SECTION) == [0.0, 0.0, 0.0]


def test_relabel_is_labelling_with_another_dead_zone() -> None:
    wide = LabelSection(dead_zone=0.45)
    values, v0 = [estimate(s, 8, 0.9) for s in (6, 3, 0)] + [exact(0.0)], exact(0.5)
    steps = labelled(values, v0, INCORRECT)
    assert [s.label for s in steps] == ["good", "bad", "pit", "neutral"]
    again = relabel(steps, {"t": INCORRECT}, wide)
    assert again == labelled(values, v0, INCORRECT, wide)
    assert [s.label for s in again] == ["neutral"] * 4
    nothing = [dataclasses.replace(s, value=math.nan, advantage=math.nan, label="unlabelled") for s in steps]
    assert [s.label for s in relabel(nothing, {"t": UNDECIDED}, SECTION)] == ["unlabelled"] * 4
