"""The driver against a small exact policy: it writes the final "!digit", right with a chance that is
a function of the prefix alone, and it draws from the request's own seed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Sequence

import pytest

from negrl.engines.base import Completion, Request
from negrl.engines.common import first_stop
from negrl.engines.section import SampleSection
from negrl.errors import InputError
from negrl.labelers import Ask, open_labeler
from negrl.labelers.base import CountingLabeler, Task
from negrl.labelers.bisect import BisectLabeler
from negrl.labelers.first_zero import FirstZeroLabeler
from negrl.labelers.fixed import FixedLabeler
from negrl.labelers.oracle import OracleLabeler
from negrl.labeling.driver import LabelResult, label_traces
from negrl.labeling.rollouts import Tools, cut_at
from negrl.labeling.section import LabelSection
from negrl.records import Problem, Rollout, Sampling, Step, Trace, Verdict, stable_seed
from negrl.steps.facts import Fact, read_facts
from negrl.steps.values import estimate, exact, prompt_values

SECTION = LabelSection(labeler="fixed", split="chain", k=4)
SAMPLE = SampleSection(max_tokens=20, temperature=0.7, top_p=0.9, top_k=5, stop=["?"])
CHANCE = {"1;": 1.0, "2;": 0.0, "3;": 0.5, "4;": 0.75}


class ExactPolicy:
    name = "exact"

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.requests: list[Request] = []
        self.calls = 0

    def generate(self, requests: Sequence[Request], on_tokens=None) -> list[list[Completion]]:
        self.calls += 1
        self.requests += requests
        out = [[self.continue_one(r, i) for i in range(r.n)] for r in requests]
        if on_tokens:
            on_tokens(sum(len(c.token_ids) for completions in out for c in completions))
        return out

    def continue_one(self, request: Request, i: int) -> Completion:
        text = self.tokenizer.decode(request.prompt_token_ids)
        right = random.Random(stable_seed(request.seed, i)).random() < CHANCE.get(text[-2:], 0.5)
        text = "!7" if right else "!8"
        ids = [*self.tokenizer.encode(text), self.tokenizer.eos_token_id]
        return Completion(ids[: request.max_tokens], [-0.1] * min(3, request.max_tokens), text, "stop")

    def close(self) -> None: ...


def verify(text: str, gold: str, finish_reason: str) -> Verdict:
    answer = text.partition("!")[2]
    if not answer:
        return Verdict("undecided", "no_answer")
    return Verdict("correct" if answer == gold else "incorrect", None, answer)


PROBLEMS = {p: Problem(p, "test", "train", "mit", f"{p}?", "7") for p in "pqr"}


class World:
    """Traces by their text; the vocabulary has no letters p, q, r, so prompts are digits."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.made = 0

    def trace(self, problem: str, text: str, verdict: str | None = None) -> Trace:
        verdict = verdict or ("correct" if text.endswith("!7") else "incorrect")
        self.made += 1
        prompt = self.tokenizer.encode("9?" if problem == "p" else "8?")
        ids = [*self.tokenizer.encode(text), self.tokenizer.eos_token_id]
        return Trace(
            f"t{self.made}", problem, 0, self.made, "policy", "exact", Sampling(), prompt, ids, [-0.5] * len(ids),
            text, "stop", None, verdict,
        )  # fmt: skip


@pytest.fixture
def world(chars) -> World:
    return World(chars)


def label(traces, tokenizer, section=SECTION, labeler=None, engine=None, sample=SAMPLE, v0=None, **more):
    engine = engine or ExactPolicy(tokenizer)
    labeler = labeler or FixedLabeler(section.k, section.confidence)
    tools = Tools(tokenizer, verify, sample, engine, **more)
    return label_traces(PROBLEMS, traces, section, labeler, tools, v0), engine


def by_trace(result: LabelResult) -> dict[str, list[Step]]:
    out: dict[str, list[Step]] = {}
    for step in result.steps:
        out.setdefault(step.trace_id, []).append(step)
    return out


def test_values_labels_and_requests(world, chars) -> None:
    right, wrong = world.trace("p", "1;1;!7"), world.trace("p", "1;2;!8")
    result, engine = label([right, wrong], chars)
    steps = by_trace(result)
    assert [s.text for s in steps[wrong.trace_id]] == ["1;", "2;", "!8"]
    assert [(s.n, s.successes) for s in steps[wrong.trace_id]] == [(4, 4), (4, 0), (0, 0)]
    assert [s.value for s in steps[wrong.trace_id]] == [1.0, 0.0, 0.0]
    assert [s.advantage for s in steps[wrong.trace_id]] == [0.5, -1.0, 0.0]
    assert [s.label for s in steps[wrong.trace_id]] == ["good", "pit", "neutral"]
    assert [s.label for s in steps[right.trace_id]] == ["good", "neutral", "neutral"]
    assert [s.value for s in steps[right.trace_id]] == [1.0, 1.0, 1.0]
    first = steps[wrong.trace_id][0]
    assert (first.value_low, first.value_high) == (estimate(4, 4, 0.9).low, 1.0)
    assert (first.start, first.end, first.labeler) == (0, 2, "fixed")
    assert steps[wrong.trace_id][-1].end == len(wrong.token_ids)

    assert engine.calls == 1
    request = engine.requests[0]
    assert request.prompt_token_ids == right.prompt_token_ids + chars.encode("1;")
    assert (request.n, request.max_tokens) == (4, 20 - 2)
    assert (request.temperature, request.top_p, request.top_k, request.stop) == (0.7, 0.9, 5, ("?",))


def test_equal_prefixes_are_continued_once_and_shared(world, chars) -> None:
    traces = [world.trace("p", t) for t in ("3;1;!7", "3;2;!8", "3;1;!7")]
    other = [world.trace("q", "3;!7"), world.trace("q", "3;!8")]
    result, engine = label(traces + other, chars)
    # p: "3;", "3;1;", "3;2;" instead of 6; q: "3;" is another problem's, with another prompt.
    assert [chars.decode(r.prompt_token_ids) for r in engine.requests] == ["9?3;", "9?3;1;", "9?3;2;", "8?3;"]
    assert (result.counts.asked, result.counts.reused, len(result.rollouts)) == (8 * 4, 4 * 4, 4 * 4)
    assert result.counts.generated_tokens == 16 * 3
    steps = by_trace(result)
    a, b, c = (steps[t.trace_id] for t in traces)
    assert dataclasses.replace(a[0], trace_id="") == dataclasses.replace(b[0], trace_id="")
    assert [s.value for s in a] == [s.value for s in c]
    # Kept with the first trace that has the prefix; ids are unique.
    assert [(r.trace_id, r.step_index) for r in result.rollouts[::4]] == [
        (traces[0].trace_id, 0), (traces[0].trace_id, 1), (traces[1].trace_id, 1), (other[0].trace_id, 0),
    ]  # fmt: skip
    assert len({r.rollout_id for r in result.rollouts}) == 16
    assert result.rollouts[0].logprobs == [-0.1] * 3
    right = [r.verdict for r in result.rollouts[:4]].count("correct")
    assert a[0].successes == right


def test_one_problem_with_two_prompts_shares_nothing(world, chars) -> None:
    a, b = world.trace("p", "1;!7"), world.trace("p", "1;!8")
    b = dataclasses.replace(b, prompt_token_ids=chars.encode("9+"))
    _, engine = label([a, b], chars)
    assert len(engine.requests) == 2


def random_traces(world: World, count: int) -> list[Trace]:
    rng = random.Random(5)
    texts = ["".join(f"{rng.choice('1234')};" for _ in range(rng.randrange(1, 4))) for _ in range(count)]
    return [world.trace(rng.choice("pq"), t + rng.choice(["!7", "!8"])) for t in texts]


def content(rollouts: list[Rollout]) -> set[tuple[str, tuple[int, ...], str]]:
    return {(r.rollout_id, tuple(r.token_ids), r.verdict) for r in rollouts}


def test_labels_depend_neither_on_order_nor_on_shards(world, chars) -> None:
    traces = random_traces(world, 60)
    whole, _ = label(traces, chars)
    shuffled = random.Random(1).sample(traces, len(traces))
    other_order, _ = label(shuffled, chars)
    assert by_trace(other_order) == by_trace(whole)
    assert content(other_order.rollouts) == content(whole.rollouts)

    v0 = prompt_values(traces, SECTION.confidence)
    shards = [label(traces[i::7], chars, v0=v0)[0] for i in range(7)]
    assert {k: v for shard in shards for k, v in by_trace(shard).items()} == by_trace(whole)
    assert content([r for shard in shards for r in shard.rollouts]) == content(whole.rollouts)
    assert len({(s.n, s.successes) for s in whole.steps}) > 4  # the comparison had something to compare


def test_another_seed_gives_other_rollouts(world, chars) -> None:
    traces = random_traces(world, 60)
    a, _ = label(traces, chars)
    b, _ = label(traces, chars, LabelSection(labeler="fixed", split="chain", k=4, seed=1))
    assert [s.successes for s in a.steps] != [s.successes for s in b.steps]


def test_undecided_and_out_of_band_traces_cost_nothing(world, chars) -> None:
    traces = [
        world.trace("p", "1;!7"), world.trace("p", "2;!8"), world.trace("p", "1;", verdict="undecided"),
        world.trace("q", "1;!8"), world.trace("q", "2;!8"),
        world.trace("r", "1;2;", verdict="undecided"),
    ]  # fmt: skip
    result, engine = label(traces, chars)
    assert [chars.decode(r.prompt_token_ids) for r in engine.requests] == ["9?1;", "9?2;"]
    counts = result.counts
    assert (counts.labelled, counts.undecided, counts.outside_band, counts.no_room) == (2, 2, 2, 0)
    assert counts.steps == len(result.steps)
    steps = by_trace(result)
    assert set(steps) == {t.trace_id for t in traces}
    for trace in traces[2:]:
        assert [s.label for s in steps[trace.trace_id]] == ["unlabelled"] * len(steps[trace.trace_id])
        assert all(math.isnan(s.value) and math.isnan(s.advantage) and s.n == 0 for s in steps[trace.trace_id])
        assert steps[trace.trace_id][-1].end == len(trace.token_ids)
    assert all(s.label != "unlabelled" for t in traces[:2] for s in steps[t.trace_id])


def test_a_prefix_without_room_is_not_continued(world, chars) -> None:
    traces = [world.trace("p", "1;1;1;!7"), world.trace("p", "1;2;!8")]
    result, engine = label(traces, chars, sample=SampleSection(max_tokens=6))
    assert {r.max_tokens for r in engine.requests} == {4, 2}
    steps = by_trace(result)[traces[0].trace_id]
    assert [s.label for s in steps] == ["good", "neutral", "unlabelled", "unlabelled"]
    assert math.isnan(steps[2].value)
    assert result.counts.no_room == 1
    assert result.counts.reused == 4

    roomy = LabelSection(labeler="fixed", split="chain", k=4, max_tokens=5)
    result, engine = label(traces, chars, roomy, sample=SampleSection(max_tokens=6))
    assert {r.max_tokens for r in engine.requests} == {5}
    assert all(s.label != "unlabelled" for s in result.steps)


@pytest.mark.parametrize(
    ("reason", "n"), [("truncated", 4), ("no_answer", 4), ("timeout", 0), ("unparsable", 0), ("gold_unparsable", 0)]
)
def test_what_undecided_rollouts_count(reason: str, n: int, world, chars) -> None:
    """The policy's failures to answer are failures; the verifier's failures are nobody's."""
    traces = [world.trace("p", "1;!7"), world.trace("p", "1;!8")]
    tools = Tools(chars, lambda text, gold, finish: Verdict("undecided", reason), SAMPLE, ExactPolicy(chars))
    result = label_traces(PROBLEMS, traces, SECTION, FixedLabeler(4, 0.9), tools)
    assert [(s.n, s.successes) for s in result.steps[::2]] == [(n, 0), (n, 0)]
    assert result.steps[0].label == ("bad" if n else "unlabelled")
    assert {r.verdict for r in result.rollouts} == {"undecided"}


def test_verifier_gets_the_whole_response_once(world, chars) -> None:
    seen = []

    def watch(text: str, gold: str, finish_reason: str) -> Verdict:
        seen.append((text, gold, finish_reason))
        return verify(text, gold, finish_reason)

    traces = [world.trace("p", "1;!7"), world.trace("p", "1;!8")]
    label_traces(PROBLEMS, traces, SECTION, FixedLabeler(4, 0.9), Tools(chars, watch, SAMPLE, ExactPolicy(chars)))
    assert seen == [("1;!7", "7", "stop")]


class Stopped(ExactPolicy):
    """Writes the request's text and keeps the token that completed the stop string, as every engine does."""

    def __init__(self, tokenizer, written: str):
        super().__init__(tokenizer)
        self.written = written

    def continue_one(self, request: Request, i: int) -> Completion:
        ids = self.tokenizer.encode(self.written)
        cut = first_stop(self.written, request.stop)
        text = self.written if cut < 0 else self.written[:cut]
        return Completion(ids, [-0.1] * len(ids), text, "stop")


@pytest.mark.parametrize(
    ("stop", "first", "written", "judged"),
    [
        (["?"], "1;", "!7?", "1;!7"),
        (["+?", "?"], "1;", "!7+?", "1;!7"),
        (["?"], "1?;", "!7?", "1?;!7"),  # an imported trace may contain one: only what is written now is cut
        ([";;"], "1;", ";!7", "1"),  # it starts inside the prefix: a trace would have ended there too
        (["?"], "1;", "!7", "1;!7"),
    ],
)
def test_rollouts_are_judged_without_the_stop_string(stop, first, written, judged, world, chars) -> None:
    seen = set()

    def watch(text: str, gold: str, finish_reason: str) -> Verdict:
        seen.add((text, finish_reason))
        return verify(text, gold, finish_reason)

    traces = [world.trace("p", first + end) for end in ("!7", "!8")]
    sample = SAMPLE.model_copy(update={"stop": stop})
    tools = Tools(chars, watch, sample, Stopped(chars, written))
    result = label_traces(PROBLEMS, traces, SECTION, FixedLabeler(4, 0.9), tools)
    assert seen == {(judged, "stop")}
    assert result.rollouts[0].token_ids == chars.encode(written)  # what was drawn is kept whole
    assert {r.verdict for r in result.rollouts} == {"correct" if judged.endswith("!7") else "undecided"}


def test_half_a_character_at_the_prefix_end_hides_no_stop_string(bpe) -> None:
    """The first two of the three bytes of a sign: the prefix decodes to a replacement character."""
    ids = bpe.encode("1\u20ac?7")
    texts = [bpe.decode(ids[:n]) for n in range(len(ids) + 1)]
    half = max(n for n, text in enumerate(texts) if text.endswith("\ufffd"))
    assert cut_at(texts[-1], texts[half], ["\u20ac"]) == 1
    assert cut_at("1?2?", "1?", ["?"]) == 3
    assert cut_at("1?2", "1?", ["?"]) is None


def test_a_prefix_that_fills_the_context_is_not_sent(world, chars) -> None:
    traces = [world.trace("p", "1;1;1;!7"), world.trace("p", "1;2;!8")]
    result, engine = label(traces, chars, context=6)  # the prompt has 2
    assert {(len(r.prompt_token_ids), r.max_tokens) for r in engine.requests} == {(4, 2)}
    assert result.counts.no_room == 3
    assert [s.label for s in by_trace(result)[traces[0].trace_id]][1:3] == ["unlabelled", "unlabelled"]

    fixed = LabelSection(labeler="fixed", split="chain", k=4, max_tokens=3)
    result, engine = label(traces, chars, fixed, context=10)
    assert {(len(r.prompt_token_ids), r.max_tokens) for r in engine.requests} == {(4, 3), (6, 3), (8, 2)}
    assert result.counts.no_room == 0


def test_oracle_needs_no_engine(world, chars) -> None:
    traces = [world.trace("p", "1;2;!8"), world.trace("p", "1;!7")]
    oracle = OracleLabeler(lambda problem, prefix: float("2" not in prefix))
    result = label_traces(PROBLEMS, traces, SECTION, oracle, Tools(chars, verify, SAMPLE))
    assert [s.label for s in result.steps] == ["good", "pit", "neutral", "good", "neutral"]
    assert [s.advantage_low for s in result.steps][1:3] == [-1.0, 0.0]
    assert (result.rollouts, result.counts.generated_tokens, result.counts.asked) == ([], 0, 0)
    with pytest.raises(ValueError, match="needs an engine"):
        label_traces(PROBLEMS, traces, SECTION, FixedLabeler(4, 0.9), Tools(chars, verify, SAMPLE))


class TwoWaves(CountingLabeler):
    """Asks again after it was told, with different counts for equal prefixes, and for the prompt."""

    name = "two_waves"

    def start(self, tasks) -> None:
        super().start(tasks)
        self.waves = [[Ask(0, 0, 2), Ask(1, 0, 3)], [Ask(1, 0, 5), Ask(0, -1, 2)]]

    def ask(self) -> list[Ask]:
        return self.waves.pop(0) if self.waves else []


def test_a_labeler_may_ask_again(world, chars) -> None:
    traces = [world.trace("p", "3;1;!7"), world.trace("p", "3;2;!8")]
    tokens: list[int] = []
    result, engine = label(traces, chars, labeler=TwoWaves(0.9), on_tokens=tokens.append)
    assert [(chars.decode(r.prompt_token_ids), r.n) for r in engine.requests] == [("9?3;", 3), ("9?3;", 5), ("9?", 2)]
    assert engine.requests[0].seed != engine.requests[1].seed  # new rollouts, not the old ones again
    assert (result.counts.asked, result.counts.reused) == (12, 2)
    # Both traces know all eight, whoever asked.
    assert [s.n for s in result.steps if s.step_index == 0] == [8, 8]
    assert [r.step_index for r in result.rollouts] == [0] * 8 + [-1] * 2
    assert len({r.rollout_id for r in result.rollouts}) == 10
    assert sum(tokens) == result.counts.generated_tokens == 30


def test_no_traces(chars) -> None:
    result, engine = label([], chars)
    assert (result.steps, result.rollouts, engine.requests) == ([], [], [])


@pytest.mark.parametrize(
    ("stop", "settled", "first", "written", "judged"),
    [
        ([], [";"], "1;", "!7;", "1;!7;"),  # it stays: it may be part of the answer
        ([], [";"], "1;2;", "!7;b", "1;2;!7;"),  # those of the prefix ended nothing
        ([], [";!"], "1;", "!7", "1;!7"),  # it begins in the prefix: no rollout is ended by that
        (["?"], ["7?"], "1;", "!7?", "1;!7"),  # both at once: the sampler's is cut away
        (["?"], ["!7"], "1;", "!7?", "1;!7"),
    ],
)
def test_label_stop_ends_rollouts_and_stays_in_their_text(stop, settled, first, written, judged, world, chars) -> None:
    seen = set()

    def watch(text: str, gold: str, finish_reason: str) -> Verdict:
        seen.add((text, finish_reason))
        return verify(text.rstrip(";"), gold, finish_reason)

    traces = [world.trace("p", first + end) for end in ("!7", "!8")]
    engine, section = Stopped(chars, written), SECTION.model_copy(update={"stop": settled})
    sample = SAMPLE.model_copy(update={"stop": stop})
    label_traces(PROBLEMS, traces, section, FixedLabeler(4, 0.9), Tools(chars, watch, sample, engine))
    assert (judged, "stop") in seen
    assert {r.stop for r in engine.requests} == {(*stop, *settled)}


@pytest.mark.parametrize(("kind", "looks"), [(BisectLabeler, 2), (FirstZeroLabeler, 4)])
def test_searches_find_the_pit_for_fewer_rollouts(kind, looks: int, world, chars) -> None:
    wrong, right = world.trace("p", "1;1;1;2;2;2;!8"), world.trace("p", "1;1;1;1;!7")
    result, engine = label([wrong, right], chars, labeler=kind(4, 0.9))
    steps = by_trace(result)
    assert [s.label for s in steps[wrong.trace_id]] == ["unlabelled"] * 3 + ["pit"] + ["unlabelled"] * 3
    assert {s.label for s in steps[right.trace_id]} == {"unlabelled"}
    assert steps[wrong.trace_id][3].labeler == kind.name
    assert (steps[wrong.trace_id][3].n, steps[wrong.trace_id][3].successes) == (4, 0)
    assert sum(r.n for r in engine.requests) == result.counts.asked == 4 * len(engine.requests)
    assert len(engine.requests) <= looks + 1


class Scoring(ExactPolicy):
    """log p of the gold answer is the policy's own chance, in the first token."""

    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.pairs: list[tuple[str, str]] = []

    def score(self, pairs):
        texts = [(self.tokenizer.decode(a), self.tokenizer.decode(b)) for a, b in pairs]
        self.pairs += texts
        return [
            [math.log(CHANCE.get(a.removesuffix("!")[-2:], 0.5) + 1e-3), *[0.0] * (len(b) - 1)]
            for (a, _), (_, b) in zip(texts, pairs, strict=True)
        ]


class Listening(OracleLabeler):
    """Keeps its tasks."""

    needs = frozenset({"beliefs"})

    def start(self, tasks) -> None:
        super().start(tasks)
        self.tasks: list[Task] = list(tasks)


def test_beliefs_are_scored_once_for_each_prefix(world, chars) -> None:
    traces = [world.trace("p", t) for t in ("1;2;!8", "1;1;!7", "1;2;!8")]
    section, engine = LabelSection(labeler="belief", split="chain", belief="!"), Scoring(chars)
    labeler = Listening(lambda problem, prefix: 1.0)
    result, _ = label(traces, chars, section, labeler, engine)
    # The prompt, "1;", two second steps, and two ends: EOS is not in the way of the answer.
    assert engine.pairs == [
        ("9?!", "7"), ("9?1;!", "7"), ("9?1;2;!", "7"), ("9?1;2;!8!", "7"), ("9?1;1;!", "7"), ("9?1;1;!7!", "7"),
    ]  # fmt: skip
    assert result.counts.scored_tokens == sum(len(a) + len(b) for a, b in engine.pairs)
    assert result.counts.generated_tokens == 0
    a, b, c = (t.beliefs for t in labeler.tasks)
    assert a == c == pytest.approx([math.log(p + 1e-3) for p in (0.5, 1.0, 0.0, 0.5)])
    assert len(b) == len(labeler.tasks[1].steps) + 1

    # A trace that fills the context has none; the others do.
    label([world.trace("p", "1;1;1;!7"), world.trace("p", "2;!8")], chars, section, labeler, Scoring(chars), context=9)
    assert [t.beliefs is None for t in labeler.tasks] == [True, False]
    with pytest.raises(ValueError, match="reads beliefs: it needs an engine"):
        label_traces(PROBLEMS, traces, section, labeler, Tools(chars, verify, SAMPLE))


def test_the_gold_answer_of_a_reference_solution_is_scored(world, chars) -> None:
    problem = Problem("p", "test", "train", "mit", "p?", "1+1=2\n#### 7")
    engine = Scoring(chars)
    traces = [world.trace("p", "1;!7"), world.trace("p", "2;!8")]
    section = LabelSection(labeler="belief", split="chain", belief="!")
    labeler = Listening(lambda problem, prefix: 1.0)
    label_traces({"p": problem}, traces, section, labeler, Tools(chars, verify, SAMPLE, engine))
    assert {gold for _, gold in engine.pairs} == {"7"}


def test_belief_labels_without_a_rollout(world, chars) -> None:
    traces = random_traces(world, 120)
    section = LabelSection(labeler="belief", split="chain", belief="!")
    result, engine = label(traces, chars, section, open_labeler(section), Scoring(chars))
    assert (result.rollouts, engine.requests, result.counts.asked) == ([], [], 0)
    assert {s.labeler for s in result.steps} == {"belief"}
    assert all(s.n == 0 and s.value_low <= s.value <= s.value_high for s in result.steps)


def test_consensus_through_the_driver(world, chars) -> None:
    """fixed and bisect in one stream: what both ask is drawn once."""
    traces = [world.trace("p", "1;1;2;!8"), world.trace("p", "1;1;!7")]
    section = LabelSection(split="chain", labeler="consensus", agree=("fixed", "bisect"), k=4)
    result, engine = label(traces, chars, section, open_labeler(section))
    assert len({chars.decode(r.prompt_token_ids) for r in engine.requests}) == len(engine.requests)
    assert result.counts.reused > 0
    # "1;" is good for fixed alone; the fall after the third step is seen by both.
    assert [s.label for s in result.steps[:4]] == ["unlabelled", "neutral", "pit", "neutral"]


@pytest.mark.parametrize(
    ("values", "advantages", "message"),
    [
        (lambda v: v[:-1], lambda a: a, "labeler fixed: 2 values and 3 advantages for the 3 steps of trace"),
        (lambda v: [exact(1.7), *v[1:]], lambda a: a, "labeler fixed: value 1.7 of step 0 of trace"),
        (lambda v: [exact(math.nan), *v[1:]], lambda a: a, "labeler fixed: value nan of step 0 of trace"),
    ],
)
def test_a_labeler_that_answers_nonsense_is_stopped(values, advantages, message: str, world, chars) -> None:
    class Odd(FixedLabeler):
        def values(self, trace):
            return values(super().values(trace))

        def advantages(self, trace):
            return advantages([None] * 3)

    with pytest.raises(ValueError, match=message):
        label([world.trace("p", "1;1;!7"), world.trace("p", "1;2;!8")], chars, labeler=Odd(4, 0.9))


@pytest.mark.parametrize("ask", [Ask(2, 0, 1), Ask(0, 9, 1), Ask(0, -2, 1)])
def test_an_ask_for_what_is_not_there_is_stopped(ask: Ask, world, chars) -> None:
    class Lost(FixedLabeler):
        def ask(self):
            return [ask]

    with pytest.raises(ValueError, match=r"labeler fixed asks for step .*: no such step"):
        label([world.trace("p", "1;!7"), world.trace("p", "1;!8")], chars, labeler=Lost(4, 0.9))


def test_a_labeler_that_never_stops_asking_is_named(world, chars, monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(FixedLabeler):
        def ask(self):
            return [Ask(0, 0, 1)]

    monkeypatch.setattr("negrl.labeling.driver._MOST_ROUNDS", 30)
    with pytest.raises(InputError, match=r"^label.labeler: fixed has asked 30 times for rollouts and does not stop;"):
        label([world.trace("p", "1;!7"), world.trace("p", "1;!8")], chars, labeler=Greedy(4, 0.9))


class Onlooker(CountingLabeler):
    """Asks once from the prompt, and keeps what it was told."""

    name = "onlooker"
    needs = frozenset({"rollouts", "branches", "facts"})

    def start(self, tasks: Sequence[Task]) -> None:
        super().start(tasks)
        self.asked = False
        self.seen = []

    def ask(self) -> list[Ask]:
        asks = [] if self.asked else [Ask(0, 0, 2)]
        self.asked = True
        return asks

    def tell(self, outcomes) -> None:
        self.seen += outcomes


@pytest.mark.parametrize(
    ("text", "left", "met"),
    [
        ("1+2=3;3*2=6;!7", 2, 2),  # the same trace
        ("2+1=3;3*2=6;!7", -1, 2),  # in other words
        ("2+1=3;3*2=6;!8", -1, 1),  # and with another answer
        ("3*2=6;1+2=3;!7", -1, 2),  # in another order
        ("1+2=3;3*2=5;!8", 0, 0),
        ("2+1=4;3*2=6;!8", -1, -1),  # a wrong result is not the right one
        ("2+1=4;1+2=3;3*2=6;!7", -1, -1),  # and stays said
    ],
)
def test_samples_meet_a_trace_again_where_they_have_worked_out_the_same(text, left, met, world, chars) -> None:
    trace, other = world.trace("p", "1+2=3;3*2=6;!7"), world.trace("p", text)

    def facts(problem: Problem, response: str) -> list[Fact]:
        ends = list(itertools.accumulate(len(line) + 1 for line in response.split(";")))
        lines = response.partition("!")[0].split(";")
        return [Fact(end, read_facts(line, "")[0].key) for end, line in zip(ends, lines, strict=False) if line]

    labeler = Onlooker(0.9)
    label([trace, other], chars, labeler=labeler, v0={"p": exact(0.5)}, facts=facts)
    (branch,) = labeler.tasks[0].samples
    assert (branch.left, branch.met, branch.n) == (left, met, 1)
    mine = next(o for o in labeler.seen if o.trace == 0)
    assert sum(b.n for b in mine.branches) == 2 and all(b.followed >= 0 for b in mine.branches)


def test_traces_of_earlier_rounds_are_evidence_and_get_no_labels(world, chars) -> None:
    """Two wrong traces say nothing of their steps; with the right ones of the round before, V_0 is in the band."""
    now = [world.trace("p", "1;3;!8"), world.trace("p", "2;3;!8")]
    before = [world.trace("p", "1;4;!7"), world.trace("p", "1;3;!7"), world.trace("q", "1;4;!8")]
    section = LabelSection(labeler="adaptive", split="chain", budget_tokens=0)
    tools = Tools(chars, verify, SampleSection(max_tokens=20))
    alone = label_traces(PROBLEMS, now, section, open_labeler(section), tools)
    assert alone.counts.labelled == 0
    beside = label_traces(PROBLEMS, now, section, open_labeler(section), tools, earlier=before)
    assert beside.counts.labelled == 2 and set(by_trace(beside)) == {trace.trace_id for trace in now}
    falls = [by_trace(beside)[trace.trace_id][0].advantage for trace in now]
    assert falls[1] < falls[0]  # "1;" was there in both right ones
