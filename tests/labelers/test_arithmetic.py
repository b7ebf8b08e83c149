from __future__ import annotations

import math

import pytest

from negrl.engines.section import SampleSection
from negrl.labelers.arithmetic import ArithmeticLabeler
from negrl.labelers.base import Outcome, Task
from negrl.labeling.driver import label_traces
from negrl.labeling.rollouts import Tools
from negrl.labeling.section import LabelSection
from negrl.records import Problem, Sampling, Trace, Verdict
from negrl.steps.split import Span
from negrl.steps.values import Difference, estimate, exact

PROBLEM = Problem("p", "test", "train", "mit", "How many?", "7")
WRONG = "He has 3 + 4 = 7 apples.\nThen 7 * 2 = 15.\nSo 15 - 1 = 13.\nA: 13"
RIGHT = "He has 3 + 4 = 8 apples.\nThat is 3 + 4 = 7.\nA: 7"


def never(text: str, gold: str, finish_reason: str) -> Verdict:
    raise AssertionError("no rollout to judge")


def trace(tokenizer, name: str, text: str, verdict: str) -> Trace:
    ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
    return Trace(
        name, "p", 0, 0, "policy", "exact", Sampling(), tokenizer.encode("How many?"), ids, None, text, "stop", None,
        verdict,
    )  # fmt: skip


def test_the_labeler_asks_nothing_and_knows_only_false_sums() -> None:
    labeler = ArithmeticLabeler()
    steps = [Span(i, i + 1, line + "\n") for i, line in enumerate(WRONG.split("\n"))]
    labeler.start([Task(PROBLEM, "incorrect", estimate(1, 2, 0.9), steps)])
    assert labeler.ask() == []
    assert labeler.values(0) == [None, exact(0.0), exact(0.0), None]
    assert labeler.advantages(0) == [None, Difference(-1.0, -1.0, -1.0), Difference(-1.0, -1.0, -1.0), None]
    labeler.tell([])
    with pytest.raises(ValueError, match="asked for nothing"):
        labeler.tell([Outcome(0, 0, 1, 1)])


def test_through_the_driver_without_an_engine(bpe) -> None:
    """The first false sum of a wrong trace is its pit, a later one bad; in a right trace each is spurious."""
    traces = [trace(bpe, "wrong", WRONG, "incorrect"), trace(bpe, "right", RIGHT, "correct")]
    section = LabelSection(labeler="arithmetic", value_band=(0, 1))
    result = label_traces({"p": PROBLEM}, traces, section, ArithmeticLabeler(), Tools(bpe, never, SampleSection()))
    labels = {t: [s.label for s in result.steps if s.trace_id == t] for t in ("wrong", "right")}
    assert labels == {
        "wrong": ["unlabelled", "pit", "bad", "unlabelled"],
        "right": ["spurious", "unlabelled", "unlabelled"],
    }
    assert (result.counts.asked, result.counts.generated_tokens, result.rollouts) == (0, 0, [])
    assert {s.labeler for s in result.steps} == {"arithmetic"}
    assert [s.advantage for s in result.steps if not math.isnan(s.advantage)] == [-1.0, -1.0, -1.0]


def test_false_sums_of_model_solutions(gsm8k_texts) -> None:
    """More than nothing, and far from everything: about one wrong solution in sixty."""
    labeler = ArithmeticLabeler()
    texts = gsm8k_texts[:2000]
    labeler.start([Task(PROBLEM, "incorrect", estimate(1, 2, 0.9), [Span(0, 1, text)]) for text in texts])
    found = sum(labeler.values(i)[0] is not None for i in range(len(texts)))
    assert 5 < found < 60
