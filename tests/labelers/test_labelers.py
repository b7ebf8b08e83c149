from __future__ import annotations

import random

import pytest

from negrl.errors import InputError
from negrl.labelers import LABELERS, Ask, LabelerSpec, Opening, Outcome, Task, _Declared, open_labeler
from negrl.labelers.base import CountingLabeler
from negrl.labelers.bisect import BisectLabeler
from negrl.labelers.consensus import ConsensusLabeler
from negrl.labelers.first_zero import FirstZeroLabeler
from negrl.labelers.fixed import FixedLabeler
from negrl.labelers.oracle import OracleLabeler
from negrl.labelers.search import SearchLabeler
from negrl.options import Options, _combined
from negrl.recipe import LabelSection
from negrl.records import CORRECT, Problem
from negrl.steps.credit import label_steps
from negrl.steps.split import Span
from negrl.steps.values import Difference, Estimate, difference, estimate, exact

PROBLEM = Problem("p", "test", "train", "mit", "1+1?", "2")


def task(steps: int, verdict: str = "incorrect") -> Task:
    return Task(PROBLEM, verdict, estimate(4, 8, 0.9), [Span(i, i + 1, f"{i};") for i in range(steps)])


def test_fixed_asks_once_for_every_step_but_the_last() -> None:
    labeler = FixedLabeler(8, 0.9)
    labeler.start([task(3), task(1), task(2)])
    assert labeler.ask() == [Ask(0, 0, 8), Ask(0, 1, 8), Ask(2, 0, 8)]
    assert labeler.ask() == []
    labeler.start([task(2)])
    assert labeler.ask() == [Ask(0, 0, 8)]


def test_fixed_values_and_advantages() -> None:
    labeler = FixedLabeler(8, 0.9)
    labeler.start([task(3), task(3, "correct")])
    labeler.ask()
    labeler.tell([Outcome(0, 0, 8, 6), Outcome(0, 1, 8, 1), Outcome(1, 0, 0, 0), Outcome(1, 1, 7, 7)])
    six, one = estimate(6, 8, 0.9), estimate(1, 8, 0.9)
    assert labeler.values(0) == [six, one, exact(0.0)]
    v0 = estimate(4, 8, 0.9)
    assert labeler.advantages(0) == [difference(six, v0), difference(one, six), difference(exact(0.0), one)]
    seven = estimate(7, 7, 0.9)
    assert labeler.values(1) == [None, seven, exact(1.0)]
    assert labeler.advantages(1) == [None, None, difference(exact(1.0), seven)]


def test_outcomes_of_one_prefix_add_up() -> None:
    labeler = FixedLabeler(8, 0.9)
    labeler.start([task(2)])
    labeler.tell([Outcome(0, 0, 8, 6), Outcome(0, -1, 8, 8)])
    labeler.tell([Outcome(0, 0, 4, 1)])
    assert labeler.values(0)[0] == estimate(7, 12, 0.9)


def test_oracle_reads_the_text_so_far_and_asks_nothing() -> None:
    seen = []

    def value(problem: Problem, prefix: str) -> float:
        seen.append((problem.problem_id, prefix))
        return 1.0 if prefix == "0;" else 0.0

    labeler = open_labeler(LabelSection(labeler="oracle"), value)
    assert isinstance(labeler, OracleLabeler)
    labeler.start([task(3)])
    assert labeler.ask() == []
    assert labeler.values(0) == [exact(1.0), exact(0.0), exact(0.0)]
    assert [a.value for a in labeler.advantages(0)] == [0.5, -1.0, 0.0]
    assert seen == [("p", "0;"), ("p", "0;1;")]
    assert (labeler.advantages(0)[1].low, labeler.advantages(0)[1].high) == (-1.0, -1.0)


def test_open_labeler() -> None:
    fixed = open_labeler(LabelSection(labeler="fixed", k=5, confidence=0.8))
    assert isinstance(fixed, FixedLabeler)
    assert (fixed.k, fixed.confidence) == (5, 0.8)
    with pytest.raises(InputError, match="oracle needs a world"):
        open_labeler(LabelSection(labeler="oracle"))


def search(labeler: SearchLabeler, paths: list[list[int]], tasks: list[Task] | None = None) -> list[list[int]]:
    """Answer every look with the path's successes (-1: nothing). Returns the steps looked at, by trace."""
    labeler.start(tasks or [task(len(path)) for path in paths])
    seen: list[list[int]] = [[] for _ in paths]
    while asks := labeler.ask():
        outcomes = []
        for ask in asks:
            assert ask.count == labeler.k
            successes = paths[ask.trace][ask.step_index]
            seen[ask.trace].append(ask.step_index)
            outcomes.append(Outcome(ask.trace, ask.step_index, 0 if successes < 0 else ask.count, max(successes, 0)))
        labeler.tell(outcomes)
    return seen


def labels(labeler: CountingLabeler, trace: int, section: LabelSection | None = None) -> list[str]:
    values, advantages = labeler.values(trace), labeler.advantages(trace)
    return label_steps(values, advantages, labeler.tasks[trace].verdict, section or LabelSection())


def test_bisect_halves_and_labels_the_step_that_it_finds() -> None:
    labeler = BisectLabeler(8, 0.9)
    #                            pit at 5                   at 0         last step        one step
    seen = search(labeler, [[7, 4, 6, 3, 2, 0, 0, 0], [0, 0, 0, 0], [4, 4, 4, 4], [0]])
    assert seen == [[3, 5, 4], [1, 0], [1, 2], []]
    assert [labeler.found(t) for t in range(4)] == [5, 0, 3, 0]
    assert labels(labeler, 0) == ["unlabelled"] * 5 + ["pit"] + ["unlabelled"] * 2
    assert labels(labeler, 1) == ["pit", "unlabelled", "unlabelled", "unlabelled"]
    assert labels(labeler, 2) == ["unlabelled"] * 3 + ["pit"]
    assert labels(labeler, 3) == ["pit"]
    # Counted values stand where they were counted; V_0 is before the first step.
    assert labeler.values(0)[3:6] == [estimate(3, 8, 0.9), estimate(2, 8, 0.9), estimate(0, 8, 0.9)]
    assert labeler.values(0)[6] is None
    assert labeler.advantages(0)[5] == difference(estimate(0, 8, 0.9), estimate(2, 8, 0.9))
    assert labeler.advantages(1)[0] == difference(estimate(0, 8, 0.9), estimate(4, 8, 0.9))


def test_first_zero_stops_at_the_first_pit() -> None:
    labeler = FirstZeroLabeler(4, 0.9)
    seen = search(labeler, [[4, 2, 0, 3, 0], [0, 0], [1, 2, 2]])
    assert seen == [[0, 1, 2], [0], [0, 1]]
    assert [labeler.found(t) for t in range(3)] == [2, 0, 2]
    assert labels(labeler, 0) == ["unlabelled", "unlabelled", "pit", "unlabelled", "unlabelled"]
    assert labels(labeler, 1) == ["pit", "unlabelled"]
    assert labels(labeler, 2) == ["unlabelled", "unlabelled", "pit"]
    assert labeler.values(0)[:3] == [estimate(4, 4, 0.9), estimate(2, 4, 0.9), estimate(0, 4, 0.9)]
    assert labeler.values(0)[3] is None


@pytest.mark.parametrize("kind", [BisectLabeler, FirstZeroLabeler])
def test_searches_leave_right_traces_alone(kind: type[SearchLabeler]) -> None:
    labeler = kind(8, 0.9)
    assert search(labeler, [[4, 0, 4]], [task(3, CORRECT)]) == [[]]
    assert labeler.found(0) is None
    assert labeler.values(0) == labeler.advantages(0) == [None] * 3
    # ... also when told of a prefix that a wrong trace shares.
    labeler.tell([Outcome(0, 1, 8, 0)])
    assert labels(labeler, 0) == ["unlabelled"] * 3


@pytest.mark.parametrize("kind", [BisectLabeler, FirstZeroLabeler])
def test_the_pit_is_the_found_step_or_none(kind: type[SearchLabeler]) -> None:
    """Any path of counts: never another step, and none only where the fall is within the dead zone."""
    rng, pits = random.Random(3), 0
    for _ in range(300):
        path = [rng.choice([0, 0, 1, 2, 3, 5, 8]) for _ in range(rng.randrange(1, 12))]
        labeler = kind(8, 0.9)
        (seen,) = search(labeler, [path])
        assert len(seen) == len(set(seen))
        if kind is BisectLabeler:
            assert len(seen) <= len(path).bit_length()
        found = labeler.found(0)
        assert found is not None
        before = path[found - 1] / 8 if found else 0.5
        names = labels(labeler, 0)
        assert names[found] == ("pit" if before > 0.2 else "neutral")
        assert set(names[:found] + names[found + 1 :]) <= {"unlabelled"}
        pits += names[found] == "pit"
    assert pits > 100


def test_a_search_that_cannot_look_finds_nothing() -> None:
    """-1: no room for a rollout. What lies to the left may still be found."""
    labeler = BisectLabeler(8, 0.9)
    seen = search(labeler, [[4, 4, -1, -1, -1, 0], [4, 0, -1, -1, -1, 0]])
    assert seen == [[2, 0, 1], [2, 0, 1]]
    assert [labeler.found(t) for t in range(2)] == [None, 1]
    assert labels(labeler, 0) == ["unlabelled"] * 6
    labeler = FirstZeroLabeler(4, 0.9)
    assert search(labeler, [[4, -1, 0]]) == [[0, 1]]
    assert labeler.found(0) is None
    assert labels(labeler, 0) == ["unlabelled"] * 3


def test_best_of_values_are_in_the_differences_too() -> None:
    labeler = FixedLabeler(8, 0.9, best_of=5)
    labeler.start([task(3), task(3)])
    labeler.tell([Outcome(0, 0, 8, 2), Outcome(0, 1, 8, 1), Outcome(1, 0, 8, 2), Outcome(1, 1, 4, 1)])
    two, one, v0 = (estimate(s, 8, 0.9, 5) for s in (2, 1, 4))
    assert two.value == pytest.approx(1 - 6 / 56)  # C(6, 5) / C(8, 5)
    assert labeler.values(0) == [two, one, exact(0.0)]
    assert labeler.advantages(0) == [difference(two, v0), difference(one, two), difference(exact(0.0), one)]
    assert labeler.values(1) == [two, None, exact(0.0)]  # 4 counts can't show the best of 5


class Scripted:
    """Says what it is told to, and asks once."""

    def __init__(self, advantages: list[float | None], asks: list[Ask], needs: set[str]):
        self.name, self.needs, self.said, self.told = "scripted", frozenset(needs), asks, []
        self.a = [None if a is None else Difference(a, a - 0.1, a + 0.1) for a in advantages]

    def start(self, tasks) -> None: ...

    def ask(self) -> list[Ask]:
        asks, self.said = self.said, []
        return asks

    def tell(self, outcomes) -> None:
        self.told += outcomes

    def values(self, trace: int) -> list[Estimate | None]:
        return [None if a is None else exact(0.5) for a in self.a]

    def advantages(self, trace: int) -> list[Difference | None]:
        return list(self.a)


def test_consensus_keeps_what_both_say() -> None:
    plus, minus, zero, unknown = 0.5, -0.5, 0.1, None
    rows = [
        (plus, 0.4, True), (minus, -0.3, True), (zero, 0.0, True), (zero, unknown, True), (unknown, -0.1, True),
        (plus, minus, False), (plus, zero, False), (zero, minus, False), (plus, unknown, False),
        (unknown, minus, False), (unknown, unknown, False),
    ]  # fmt: skip
    one = Scripted([r[0] for r in rows], [Ask(0, 0, 2)], {"branches"})
    other = Scripted([r[1] for r in rows], [Ask(0, 0, 4), Ask(0, 1, 1)], {"beliefs"})
    labeler = ConsensusLabeler(one, other, LabelSection())
    labeler.start([task(len(rows))])
    assert labeler.needs == {"branches", "beliefs"}
    assert labeler.ask() == [Ask(0, 0, 2), Ask(0, 0, 4), Ask(0, 1, 1)]
    assert labeler.ask() == []
    outcome = Outcome(0, 0, 4, 1)
    labeler.tell([outcome])
    assert one.told == other.told == [outcome]
    for (a, b, kept), said in zip(rows, labeler.advantages(0), strict=True):
        first = a if a is not None else b
        assert (said.value if said else None) == (first if kept else None)
    # Values stay where advantages go: the pit rule looks for the lowest of them.
    assert labeler.values(0)[:-1] == [exact(0.5)] * (len(rows) - 1)
    assert labeler.values(0)[-1] is None


def test_consensus_reads_significance_where_the_recipe_does() -> None:
    doubtful, sure = Scripted([-0.5], [], set()), Scripted([-0.5], [], set())
    doubtful.a = [Difference(-0.5, -1.0, 0.1)]
    tasks = [task(1)]
    for strict, kept in ((False, True), (True, False)):
        labeler = ConsensusLabeler(sure, doubtful, LabelSection(require_significance=strict))
        labeler.start(tasks)
        assert (labeler.advantages(0)[0] is not None) == kept


def test_consensus_of_real_labelers_hears_what_it_did_not_ask() -> None:
    """The oracle asks nothing, bisect little, fixed everything."""
    section = LabelSection(labeler="consensus", agree=("fixed", "oracle"), k=4)
    labeler = open_labeler(section, lambda problem, prefix: float(prefix == "0;"))
    labeler.start([task(3)])
    labeler.ask()
    labeler.tell([Outcome(0, 0, 4, 4), Outcome(0, 1, 4, 0)])
    assert [a.value if a else None for a in labeler.advantages(0)] == [0.5, -1.0, 0.0]

    both = open_labeler(LabelSection(labeler="consensus", agree=("bisect", "fixed"), k=8))
    both.start([task(4)])
    outcomes = [Outcome(0, i, 8, s) for i, s in enumerate([7, 4, 0])]
    assert len(both.ask()) == 1 + 3
    both.tell(outcomes)
    assert both.ask() == []  # what fixed asked answered all that bisect wanted to know
    assert [a is not None for a in both.advantages(0)] == [False, False, True, True]


def test_what_labelers_need() -> None:
    def needs(**fields: object) -> set[str]:
        return set(open_labeler(LabelSection(**fields), lambda problem, prefix: 1.0).needs)

    for name in ("fixed", "bisect", "first_zero"):
        assert needs(labeler=name) == {"rollouts"}
    assert needs(labeler="adaptive") == {"rollouts", "branches"}
    assert needs(labeler="oracle") == {"world"}
    assert needs(labeler="prm", prm="x") == {"rewards"}
    for name in ("arithmetic", "none"):
        assert needs(labeler=name) == set()
    assert needs(labeler="belief") == {"beliefs", "branches"}
    assert needs(labeler="adaptive", belief="!") == {"rollouts", "branches", "beliefs"}
    assert needs(labeler="consensus", agree=("arithmetic", "oracle")) == {"world"}
    assert needs(labeler="consensus", agree=("arithmetic", "belief")) == {"beliefs", "branches"}
    assert needs(labeler="consensus", agree=("bisect", "oracle")) == {"rollouts", "world"}


def test_open_labeler_opens_every_labeler() -> None:
    for name in LABELERS:
        required = {"prm": "x"} if name == "prm" else {}
        assert open_labeler(LabelSection(labeler=name, **required), lambda problem, prefix: 1.0).name == name
    searching = open_labeler(LabelSection(labeler="bisect", k=6, best_of=5))
    assert (searching.k, searching.best_of) == (6, 5)
    # Two that are to agree must not have it from each other.
    pair = open_labeler(LabelSection(labeler="consensus", agree=("adaptive", "belief"), belief="!"))
    assert pair.first.needs == {"rollouts", "branches"}
    prior = open_labeler(LabelSection(labeler="consensus", agree=("adaptive", "arithmetic"), belief="!"))
    assert prior.first.needs == {"rollouts", "branches", "beliefs"}


def test_a_labeler_reads_what_it_declares_and_no_more() -> None:
    """A setting that is read without being declared would not be in the stage's key: other values would be reused."""
    spec = LabelerSpec("careless", lambda opening: opening.settings.dead_zone)
    with pytest.raises(AttributeError, match=r"labeler careless reads label\.dead_zone but does not declare it"):
        spec.open(Opening(_Declared(spec, LabelSection()), None, open_labeler))


def test_an_option_must_not_hide_a_common_key() -> None:
    class Options_(Options):
        confidence: float = 0.5

    with pytest.raises(TypeError, match="'confidence' is taken by LabelSection"):
        _combined(LabelSection, (Options_,))


def test_prm_and_beliefs_do_not_go_together() -> None:
    with pytest.raises(InputError, match="prm and beliefs can't be read together"):
        open_labeler(LabelSection(labeler="consensus", agree=("prm", "belief"), prm="x", belief="!"))


def test_a_declaration_with_a_slip_is_refused() -> None:
    with pytest.raises(AttributeError, match="labeler careless reads dead_zne, which is not a key"):
        _Declared(LabelerSpec("careless", lambda opening: None, reads=("dead_zne",)), LabelSection())
