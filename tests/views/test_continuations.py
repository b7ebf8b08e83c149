"""How right answers go on from a place, against a search that compares every prefix with every other."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from negrl.methods.step_dpo import StepDpoOptions
from negrl.steps.split import split_steps
from negrl.views import VIEWS, continuations
from negrl.views.continuations import right_continuations
from tests.views.test_views import LABEL, TOKENIZER, Table, ids, pairs


@pytest.fixture
def table() -> Table:
    return Table()


def slow(inputs, places):
    """Every place against every prefix of every right response."""
    found = defaultdict(lambda: defaultdict(set))
    traces = {t.trace_id: t for t in inputs.traces}
    for place in places:
        problem, prefix = place
        for trace in inputs.traces:
            if trace.problem_id == problem and trace.verdict == "correct":
                for step in inputs.steps[trace.trace_id]:
                    if tuple(trace.token_ids[: step.start]) == prefix and step.label not in ("bad", "spurious"):
                        found[place][tuple(trace.token_ids[step.start : step.end])].add((False, trace.trace_id))
        for rollout in inputs.rollouts:
            steps = inputs.steps[rollout.trace_id]
            end = steps[rollout.step_index].end if rollout.step_index >= 0 else 0
            whole = tuple(traces[rollout.trace_id].token_ids[:end] + rollout.token_ids)
            fits = end <= len(prefix) < len(whole) and whole[: len(prefix)] == prefix
            if rollout.problem_id == problem and rollout.verdict == "correct" and fits:
                rest = list(whole[len(prefix) :])
                step = tuple(rest[: split_steps(rest, TOKENIZER, LABEL)[0].end])
                found[place][step].add((len(prefix) > end, rollout.rollout_id))
    return {place: dict(steps) for place, steps in found.items()}


def test_the_same_as_comparing_everything_with_everything():
    rng = random.Random(0)
    passed = 0
    for _ in range(60):
        table = Table()
        for _ in range(rng.randint(2, 6)):
            text = "".join(rng.choice("12") + ";" for _ in range(rng.randint(1, 5))) + "!" + rng.choice("12") + "."
            labels = {i: rng.choice(["good", "neutral", "bad", "spurious"]) for i in range(3)}
            trace = table.add(rng.choice("pq"), rng.choice(["correct", "incorrect"]), text, labels)
            for _ in range(rng.randint(0, 4)):
                rest = "".join(rng.choice("12") + ";" for _ in range(rng.randint(0, 4))) + "!1."
                steps = len(table.steps[trace.trace_id])
                table.roll(trace, rng.randint(-1, steps - 2), rng.choice(["correct", "incorrect"]), rest)
        inputs = table.inputs()
        places = {
            (t.problem_id, tuple(t.token_ids[:end]))
            for t in inputs.traces
            for end in {0, rng.randrange(len(t.token_ids)), *(s.start for s in table.steps[t.trace_id])}
        }
        found = right_continuations(inputs, places)
        assert {p: {s: set(i) for s, i in steps.items()} for p, steps in found.items()} == slow(inputs, places)
        for steps in found.values():
            sizes = [len(sources) for sources in steps.values()]
            assert sizes == sorted(sizes, reverse=True)
            assert all(len(set(sources)) == len(sources) for sources in steps.values())
            passed += sum(through for sources in steps.values() for through, _ in sources)
    assert passed > 50


def test_a_rollout_that_started_earlier_and_passes_through_gives_the_chosen_step(table):
    """No rollout starts at the pit's prefix: one from the prompt and one from the first step come by."""
    wrong = table.add("p", "incorrect", "3;4;5;!8.", {2: "pit"})
    table.roll(wrong, -1, "correct", "3;4;6;!7.")
    table.roll(wrong, 0, "correct", "4;2;!7.")
    table.roll(wrong, 0, "incorrect", "4;1;!8.")
    table.roll(wrong, 0, "correct", "9;6;!7.")  # another way: never comes by
    table.roll(wrong, -1, "correct", "3;4;5;!7.")  # the pit step itself
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert sorted(pairs(view.rows)) == [("9?3;4;", "2;", "5;"), ("9?3;4;", "6;", "5;")]
    assert {r.chosen_trace_id for r in view.rows} == {"r000", "r001"}
    assert (view.counts["pairs"], view.counts["through_pairs"]) == (2, 2)


def test_a_rollout_of_another_trace_passes_through_too(table):
    table.add("p", "incorrect", "3;4;5;!8.", {2: "pit"})
    other = table.add("p", "incorrect", "3;1;!8.", {1: "bad"})
    elsewhere = table.add("q", "incorrect", "3;1;!8.", {1: "bad"})
    table.roll(other, 0, "correct", "4;6;!7.")
    table.roll(elsewhere, 0, "correct", "4;0;!7.")  # another problem
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [("9?3;4;", "6;", "5;")]
    assert view.counts["through_pairs"] == 1


def test_what_started_at_the_place_comes_first_and_counts_as_such(table):
    wrong = table.add("p", "incorrect", "3;4;!8.", {1: "pit"})
    table.roll(wrong, -1, "correct", "3;6;!7.")
    table.roll(wrong, 0, "correct", "6;!7.")
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [("9?3;", "6;", "4;")]
    assert (view.rows[0].chosen_trace_id, view.counts["through_pairs"]) == ("r001", 0)


def test_each_token_is_hashed_a_bounded_number_of_times(table, monkeypatch):
    """30 steps of 100 tokens, 40 rollouts at each: looked up prefix by prefix these would be 2 million tokens."""
    response = ("1" * 99 + ";") * 30 + "!8."
    wrong = table.add("p", "incorrect", response, {20: "pit"})
    for i in range(30):
        for _ in range(40):
            table.roll(wrong, i, "correct", "0;!7.")
    table.add("p", "correct", response[:-2] + "7.", {})
    hashed = 0
    original = continuations._hash

    def counting(before, tokens):
        nonlocal hashed
        hashed += len(tokens)
        return original(before, tokens)

    monkeypatch.setattr(continuations, "_hash", counting)
    place = ("p", tuple(ids(response[:2000])))
    found = right_continuations(table.inputs(), {place})
    assert [len(sources) for sources in found[place].values()] == [40, 1]
    assert hashed <= 3 * len(response)
