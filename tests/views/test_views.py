"""Hand-made tables in, rows out. Tokens are characters, so that a row can be read."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from negrl.errors import InputError
from negrl.methods import METHODS, Options, in_training
from negrl.methods.dpo import DpoOptions
from negrl.methods.step_advantage import StepAdvantageOptions
from negrl.methods.step_dpo import StepDpoOptions
from negrl.recipe import LabelSection
from negrl.records import PreferenceRow, Problem, Rollout, Sampling, SftRow, Step, Trace
from negrl.steps.split import split_steps
from negrl.views import VIEWS, ViewInputs, view_of
from negrl.views.preference import _schedule

LABEL = LabelSection(split="chain")
ALPHABET = "0123456789;!?="
EOS = 1


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {t: i for i, t in enumerate(["<pad>", "<eos>", "<unk>", *ALPHABET])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


TOKENIZER = make_tokenizer()


def ids(text: str) -> list[int]:
    """`.` is EOS."""
    return [EOS if c == "." else ALPHABET.index(c) + 3 for c in text]


def text(token_ids: list[int]) -> str:
    return "".join("." if t == EOS else ALPHABET[t - 3] for t in token_ids)


class Table:
    """Collects traces, steps and rollouts by their texts."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.steps: dict[str, list[Step]] = {}
        self.rollouts: list[Rollout] = []
        self.solutions: list[Trace] = []

    def add(self, problem: str, verdict: str, response: str, labels: dict[int, str] | None = None, **more) -> Trace:
        """`labels`: step index -> label. Advantage: -0.5 for bad ones, 0.5 for good, else 0."""
        number = len(self.traces)
        trace = Trace(
            f"t{number}", problem, 0, number, "policy", "e", Sampling(), ids("9?"), ids(response),
            [-0.5] * len(response), response.rstrip("."), "stop", None, verdict,
        )  # fmt: skip
        trace = dataclasses.replace(trace, **more)
        self.traces.append(trace)
        rows = []
        for i, span in enumerate(split_steps(trace.token_ids, TOKENIZER, LABEL)):
            label = (labels or {}).get(i, "unlabelled" if labels is None else "neutral")
            a = {"good": 0.5, "neutral": 0.1, "unlabelled": math.nan}.get(label, -0.5)
            rows.append(
                Step(trace.trace_id, i, span.start, span.end, span.text, 8, 4, 0.5, 0.2, 0.8, a, a, a, label, "fixed")
            )
        self.steps[trace.trace_id] = rows
        return trace

    def roll(self, trace: Trace, step_index: int, verdict: str, response: str) -> Rollout:
        token_ids = ids(response)
        name = f"r{len(self.rollouts):03d}"
        rollout = Rollout(
            name, trace.problem_id, trace.trace_id, step_index, token_ids, [-0.1] * len(token_ids), verdict
        )
        self.rollouts.append(rollout)
        return rollout

    def inputs(self, max_length: int | None = None, v0: float = 0.5) -> ViewInputs:
        names = {t.problem_id for t in self.traces}
        problems = {p: Problem(p, "test", "train", "mit", "9?", "7") for p in names}
        return ViewInputs(
            problems, self.solutions, self.traces, self.steps, self.rollouts, dict.fromkeys(names, v0),
            LABEL, max_length, TOKENIZER,
        )  # fmt: skip


@pytest.fixture
def table() -> Table:
    return Table()


def pairs(rows: list[PreferenceRow]) -> list[tuple[str, str, str]]:
    return [(text(r.prompt_ids), text(r.chosen_ids), text(r.rejected_ids)) for r in rows]


def test_every_method_has_its_view_and_every_view_its_method() -> None:
    assert {method.view for method in METHODS.values()} == set(VIEWS)
    for method in METHODS.values():
        assert view_of(method) is VIEWS[method.view]
        assert method.options().for_view().keys() <= method.options.model_fields.keys() - {"guards"}


def test_a_method_whose_view_is_missing_or_lacks_its_options_is_refused() -> None:
    wrong = dataclasses.replace(METHODS["step_dpo"], view="step_prefrence")
    with pytest.raises(InputError, match="unknown view 'step_prefrence' \\(did you mean 'step_preference'\\?\\)"):
        view_of(wrong)
    with pytest.raises(InputError, match="view 'advantage' reads StepAdvantageOptions; DpoOptions is not derived"):
        view_of(dataclasses.replace(METHODS["dpo"], view="advantage"))


class ShortPairs(DpoOptions):
    """As a plugin would have them."""

    pairs_per_problem: int = 2
    longest: int = 9
    pause: float = in_training(0.1)


def test_options_are_in_the_views_key_unless_they_say_that_only_training_reads_them() -> None:
    assert ShortPairs(longest=3).for_view() == {"pairs_per_problem": 2, "longest": 3}


# --- sft, rft -----------------------------------------------------------------------------------


def test_sft_masks_the_prompt_and_refuses_what_does_not_fit(table) -> None:
    short = table.add("p", "correct", "1;!7.")
    long = table.add("q", "correct", "1;1;1;!7.")
    table.solutions, table.traces = [long, short], []
    view = VIEWS["sft"].build(table.inputs(max_length=7), Options())
    assert view.rows == [SftRow("p", "t0", ids("9?1;!7."), [-100, -100, *ids("1;!7.")])]
    assert view.counts == {"rows": 1, "refused_no_room": 1}
    assert len(VIEWS["sft"].build(table.inputs(), Options()).rows) == 2


def test_rft_keeps_each_right_answer_once(table) -> None:
    for problem, verdict, response in [
        ("p", "correct", "1;!7."), ("p", "correct", "2;!7."), ("p", "correct", "1;!7."), ("p", "incorrect", "1;!8."),
        ("q", "correct", "1;!7."), ("q", "undecided", "1;1;1;"), ("q", "incorrect", "!8."),
    ]:  # fmt: skip
        table.add(problem, verdict, response)
    view = VIEWS["rft"].build(table.inputs(), Options())
    assert [(r.problem_id, text(r.input_ids)) for r in view.rows] == [
        ("p", "9?1;!7."), ("p", "9?2;!7."), ("q", "9?1;!7."),
    ]  # fmt: skip
    assert view.rows[0].labels == [-100, -100, *ids("1;!7.")]
    assert view.counts == {"rows": 3, "problems": 2, "duplicates": 1, "undecided": 1, "refused_no_room": 0}


# --- preference ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "wrong"), list(itertools.product(range(1, 7), repeat=2)))
def test_schedule_makes_every_pair_once_and_takes_turns(right: int, wrong: int) -> None:
    everything = list(_schedule(right, wrong, 1000))
    assert sorted(everything) == sorted(itertools.product(range(right), range(wrong)))
    for limit in range(1, len(everything) + 1):
        part = list(_schedule(right, wrong, limit))
        assert part == everything[:limit]
        for side, size in ((0, right), (1, wrong)):
            uses = [sum(pair[side] == i for pair in part) for i in range(size)]
            assert max(uses) - min(uses) <= 1


def test_preference_pairs(table) -> None:
    for verdict, response in [
        ("correct", "1;!7."), ("incorrect", "1;!8."), ("undecided", "1;1"), ("correct", "2;!7."),
        ("incorrect", "1;!8."), ("incorrect", "2;!8."), ("correct", "1;1;1;1;!7."),
    ]:  # fmt: skip
        table.add("p", verdict, response)
    table.add("q", "correct", "1;!7.")
    view = VIEWS["preference"].build(table.inputs(max_length=10), DpoOptions(pairs_per_problem=3))
    assert pairs(view.rows) == [("9?", "1;!7.", "1;!8."), ("9?", "2;!7.", "2;!8."), ("9?", "1;!7.", "2;!8.")]
    assert (view.rows[0].chosen_trace_id, view.rows[0].rejected_trace_id) == ("t0", "t1")
    assert view.counts == {"pairs": 3, "problems": 1, "duplicates": 1, "undecided": 1, "refused_no_room": 1}


def test_order_of_the_input_does_not_matter(table) -> None:
    example(table)
    for name, options in [
        ("rft", Options()), ("preference", DpoOptions()), ("step_preference", StepDpoOptions()),
        ("advantage", StepAdvantageOptions(anchor=0)),
    ]:  # fmt: skip
        inputs = table.inputs()
        backwards = dataclasses.replace(inputs, traces=inputs.traces[::-1], rollouts=inputs.rollouts[::-1])
        assert VIEWS[name].build(backwards, options) == VIEWS[name].build(inputs, options)


# --- step preference ----------------------------------------------------------------------------


def example(table: Table) -> tuple[Trace, Trace]:
    """A right trace, and a wrong one with its pit at the second step; rollouts after the first."""
    right = table.add("p", "correct", "1;2;!7.", {})
    wrong = table.add("p", "incorrect", "3;4;5;!8.", {1: "pit"})
    table.roll(wrong, 0, "correct", "6;!7.")
    table.roll(wrong, 0, "incorrect", "5;!8.")
    table.roll(wrong, 0, "undecided", "0;")
    table.roll(wrong, 0, "correct", "6;0;!7.")
    table.roll(wrong, 0, "correct", "4;!7.")  # recovered from the pit step itself
    table.roll(wrong, 1, "correct", "9;!7.")  # from after the pit
    return right, wrong


def test_a_pit_against_the_first_step_of_a_right_rollout(table) -> None:
    example(table)
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [("9?3;", "6;", "4;")]
    assert (view.rows[0].chosen_trace_id, view.rows[0].rejected_trace_id) == ("r000", "t1")
    assert view.counts == {
        "pairs": 1, "pit_pairs": 1, "spurious_pairs": 0, "through_pairs": 0, "duplicates": 0, "no_chosen": 0,
        "refused_no_room": 0, "undecided": 0,
    }  # fmt: skip


def test_a_pit_at_the_first_step_takes_right_traces(table) -> None:
    table.add("p", "correct", "1;2;!7.", {})
    table.add("p", "correct", "3;2;!7.", {})
    table.add("p", "correct", "5;2;!7.", {0: "spurious"})  # known to be bad itself: never chosen
    table.add("q", "correct", "6;!7.", {})
    wrong = table.add("p", "incorrect", "4;5;!8.", {0: "pit"})
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [
        ("9?", "1;", "4;"), ("9?", "3;", "5;"), ("9?", "3;", "4;"), ("9?", "1;", "5;"),
    ]  # fmt: skip
    assert {r.rejected_trace_id for r in view.rows} == {wrong.trace_id, "t2"}
    assert (view.counts["pit_pairs"], view.counts["spurious_pairs"]) == (2, 2)


def test_right_traces_that_share_the_prefix_count_as_rollouts(table) -> None:
    table.add("p", "correct", "3;2;!7.", {})
    table.add("p", "incorrect", "3;4;!8.", {1: "pit"})
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [("9?3;", "2;", "4;")]
    assert view.rows[0].chosen_trace_id == "t0"


def test_a_spurious_step_of_a_right_trace_is_rejected(table) -> None:
    right = table.add("p", "correct", "1;2;3;!7.", {1: "spurious"})
    table.roll(right, 0, "correct", "5;!7.")
    table.roll(right, 0, "correct", "2;!7.")
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [("9?1;", "5;", "2;")]
    assert (view.counts["pit_pairs"], view.counts["spurious_pairs"]) == (0, 1)


def test_the_most_frequent_chosen_step_first_and_distinct_ones_before_any_twice(table) -> None:
    a = table.add("p", "incorrect", "3;4;!8.", {1: "pit"})
    table.add("p", "incorrect", "3;5;!8.", {1: "pit"})
    for response in ("7;!7.", "6;!7.", "6;1;!7."):
        table.roll(a, 0, "correct", response)
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [
        ("9?3;", "6;", "4;"), ("9?3;", "7;", "5;"), ("9?3;", "7;", "4;"), ("9?3;", "6;", "5;"),
    ]  # fmt: skip
    limited = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions(pairs_per_problem=3))
    assert pairs(limited.rows) == pairs(view.rows)[:3]
    assert limited.counts["pairs"] == limited.counts["pit_pairs"] == 3


def test_the_same_blamed_step_in_two_traces_is_one_pair(table) -> None:
    a = table.add("p", "incorrect", "3;4;!8.", {1: "pit"})
    table.add("p", "incorrect", "3;4;5;!9.", {1: "pit"})
    table.roll(a, 0, "correct", "6;!7.")
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [("9?3;", "6;", "4;")]
    assert view.counts["duplicates"] == 1


def test_nothing_to_choose_is_counted(table) -> None:
    wrong = table.add("p", "incorrect", "3;4;!8.", {1: "pit"})
    table.roll(wrong, 0, "correct", "4;!7.")
    table.roll(wrong, 0, "incorrect", "6;!8.")
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert (view.rows, view.counts["no_chosen"]) == ([], 1)


def test_eos_only_where_the_step_has_it(table) -> None:
    wrong = table.add("p", "incorrect", "3;!8.", {1: "pit"})
    table.roll(wrong, 0, "correct", "5;!7.")
    table.roll(wrong, 0, "correct", "!7.")
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert sorted(pairs(view.rows)) == [("9?3;", "!7.", "!8."), ("9?3;", "5;", "!8.")]


@pytest.mark.parametrize(("max_length", "kept", "refused"), [(7, 2, 0), (6, 1, 1), (5, 0, 2)])
def test_a_pair_needs_room_for_both_sides(table, max_length: int, kept: int, refused: int) -> None:
    wrong = table.add("p", "incorrect", "3;4;!8.", {1: "pit"})  # prefix 4 tokens, rejected 2
    table.roll(wrong, 0, "correct", "6;!7.")
    table.roll(wrong, 0, "correct", "66;!7.")
    view = VIEWS["step_preference"].build(table.inputs(max_length=max_length), StepDpoOptions())
    assert (len(view.rows), view.counts["refused_no_room"]) == (kept, refused)
    assert all(len(r.prompt_ids) + max(len(r.chosen_ids), len(r.rejected_ids)) <= max_length for r in view.rows)


def test_rollouts_from_the_prompt_serve_the_first_step(table) -> None:
    wrong = table.add("p", "incorrect", "4;!8.", {0: "pit"})
    table.roll(wrong, -1, "correct", "6;!7.")
    view = VIEWS["step_preference"].build(table.inputs(), StepDpoOptions())
    assert pairs(view.rows) == [("9?", "6;", "4;")]


# --- advantage ----------------------------------------------------------------------------------


def test_advantage_rows_spread_the_weights_over_the_tokens(table) -> None:
    table.add("p", "incorrect", "1;23;4;!8.", {0: "good", 2: "pit", 3: "bad"})
    view = VIEWS["advantage"].build(table.inputs(), StepAdvantageOptions(anchor=0))
    (row,) = view.rows
    assert text(row.input_ids) == "9?1;23;4;!8."
    assert row.labels == [-100, -100, *ids("1;23;4;!8.")]
    assert row.advantages == [0, 0, 0.5, 0.5, 0, 0, 0, -0.5, -0.5, 0, 0, 0]  # nothing after the pit
    assert row.step_ids == [-1, -1, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert row.logprobs == [0, 0] + [-0.5] * 10
    assert row.correct is False
    assert view.counts == {
        "rows": 1, "undecided": 0, "no_weight": 0, "refused_no_room": 0, "positive_steps": 1, "negative_steps": 1,
        "zero_steps": 2,
    }  # fmt: skip


def test_right_traces_without_weight_stay_for_the_anchor_alone(table) -> None:
    table.add("p", "correct", "1;!7.", {})
    table.add("p", "incorrect", "1;!8.", {})
    table.add("p", "correct", "2;!7.", {0: "spurious", 1: "good"}, logprobs=None)
    table.add("q", "correct", "1;!7.")
    plain = VIEWS["advantage"].build(table.inputs(), StepAdvantageOptions(anchor=0))
    assert [(r.trace_id, r.correct, r.logprobs) for r in plain.rows] == [("t2", True, [])]
    assert plain.counts["no_weight"] == 3
    anchored = VIEWS["advantage"].build(table.inputs(), StepAdvantageOptions(anchor=0.1))
    assert [r.trace_id for r in anchored.rows] == ["t0", "t2", "t3"]
    assert anchored.rows[0].advantages == [0.0] * 7


def test_advantage_outside_the_band_and_too_long(table) -> None:
    table.add("p", "incorrect", "1;!8.", {0: "pit"})
    assert VIEWS["advantage"].build(table.inputs(v0=0.95), StepAdvantageOptions(anchor=0)).rows == []
    assert (
        VIEWS["advantage"].build(table.inputs(max_length=6), StepAdvantageOptions(anchor=0)).counts["refused_no_room"]
        == 1
    )
    assert len(VIEWS["advantage"].build(table.inputs(max_length=7), StepAdvantageOptions(anchor=0)).rows) == 1


# --- what must never happen ---------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["undecided", None])
def test_undecided_is_never_a_negative(table, verdict: str | None) -> None:
    """An undecided trace is in no view, on no side, even if somebody labelled its steps."""
    example(table)
    odd = table.add("p", verdict, "3;0;!0.", {0: "pit", 1: "spurious", 2: "bad"})
    table.roll(odd, 0, "undecided", "0;!0.")
    for name, options in [
        ("rft", Options()), ("preference", DpoOptions(pairs_per_problem=99)),
        ("step_preference", StepDpoOptions(pairs_per_problem=99)), ("advantage", StepAdvantageOptions(anchor=1.0)),
    ]:  # fmt: skip
        view = VIEWS[name].build(table.inputs(), options)
        assert view.rows
        assert view.counts["undecided"] == 1
        zero = ids("0")[0]
        for row in view.rows:
            assert odd.trace_id not in dataclasses.asdict(row).values()
            assert all(zero not in v for v in dataclasses.asdict(row).values() if isinstance(v, list)) or (
                name == "advantage" and zero not in row.input_ids
            )
