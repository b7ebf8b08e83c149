"""The adaptive labeler against a made policy whose values are known: no model, real asks and outcomes."""

import dataclasses
import random

import numpy as np
import pytest

from negrl.labelers.adaptive.labeler import AdaptiveLabeler
from negrl.labelers.base import Branch, Outcome, Task
from negrl.labelers.fixed import FixedLabeler
from negrl.recipe import LabelSection
from negrl.records import CORRECT, INCORRECT, Problem
from negrl.steps.credit import label_steps
from negrl.steps.split import Span
from negrl.steps.values import Difference, exact

STEPS = 6


class Tree:
    """A policy that writes one of two steps at each of STEPS places. `chance[i]`: of writing "a" there;
    `harm[i]`: how likely "b" there spoils the answer for good."""

    def __init__(self, seed: int):
        rng = random.Random(seed)
        self.problem = Problem(str(seed), "tree", "train", "none", "?", "1")
        self.chance = [rng.choice([0.5, 0.7, 0.97, 1.0]) for _ in range(STEPS)]
        self.harm = [rng.choice([0.0, 0.0, 0.9]) for _ in range(STEPS)]

    def draw(self, begin: str, rng: random.Random) -> tuple[str, bool]:
        path = begin
        while len(path) < STEPS:
            path += "a" if rng.random() < self.chance[len(path)] else "b"
        return path, rng.random() < self.survival(path)

    def survival(self, path: str) -> float:
        return float(np.prod([1 - h for c, h in zip(path, self.harm, strict=False) if c == "b"]))

    def value(self, path: str) -> float:
        rest = [c + (1 - c) * (1 - h) for c, h in zip(self.chance, self.harm, strict=True)][len(path) :]
        return self.survival(path) * float(np.prod(rest))

    def logp(self, path: str, i: int) -> float:
        return float(np.log(self.chance[i] if path[i] == "a" else 1 - self.chance[i]))


def left_by(path: str, other: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(path, other, strict=True)) if a != b), STEPS) - 1


def branches(samples) -> tuple[Branch, ...]:
    """Of (left, right) pairs."""
    counts: dict[int, list[int]] = {}
    for left, right in samples:
        count = counts.setdefault(left, [0, 0])
        count[0] += 1
        count[1] += right
    return tuple(Branch(left, *count) for left, count in counts.items())


class World:
    """Traces of several trees, and what the driver would do with asks about them."""

    def __init__(self, trees: int, traces: int = 8, seed: int = 0, known_p: bool = True):
        rng = random.Random(seed)
        self.tasks, self.paths, self.of = [], [], []
        for tree in map(Tree, range(trees)):
            drawn = [tree.draw("", rng) for _ in range(traces)]
            right = sum(r for _, r in drawn)
            if not 0.1 <= right / traces <= 0.9:
                continue
            v0 = exact(right / traces)
            for t, (path, ok) in enumerate(drawn):
                others = [d for u, d in enumerate(drawn) if u != t]
                samples = branches((left_by(path, p) if known_p else -1, r) for p, r in others)
                logps = [tree.logp(path, i) for i in range(STEPS)] if known_p else None
                spans = [Span(4 * i, 4 * i + 4, c) for i, c in enumerate(path)]
                self.tasks.append(Task(tree.problem, CORRECT if ok else INCORRECT, v0, spans, logps, samples))
                self.paths.append(path)
                self.of.append(tree)
        self.tokens = self.rollouts = self.rounds = 0
        self.asked_at: set[tuple[str, str]] = set()
        self.rng = random.Random(seed + 1)

    def label(self, labeler):
        labeler.start(self.tasks)
        while asks := labeler.ask():
            self.rounds += 1
            wanted = {}
            for ask in asks:
                key = (self.of[ask.trace].problem.problem_id, self.paths[ask.trace][: ask.step_index + 1])
                wanted[key] = (self.of[ask.trace], max(ask.count, wanted.get(key, (None, 0))[1]))
            outcomes = []
            for (problem_id, begin), (tree, count) in wanted.items():
                self.asked_at.add((problem_id, begin))
                drawn = [tree.draw(begin, self.rng) for _ in range(count)]
                tokens = 4 * (STEPS - len(begin)) * count
                self.tokens, self.rollouts = self.tokens + tokens, self.rollouts + count
                for t, path in enumerate(self.paths):
                    if self.of[t].problem.problem_id == problem_id and path.startswith(begin):
                        left = branches((left_by(path, p), ok) for p, ok in drawn)
                        successes = sum(ok for _, ok in drawn)
                        outcomes.append(Outcome(t, len(begin) - 1, count, successes, tokens, left))
            labeler.tell(outcomes)
        return self

    def truth(self, t: int) -> list[float]:
        values = [self.of[t].value(self.paths[t][:i]) for i in range(STEPS)]
        return list(np.diff([*values, float(self.tasks[t].verdict == CORRECT)]))

    def errors(self, labeler) -> np.ndarray:
        return np.array(
            [
                [a.value - b for a, b in zip(labeler.advantages(t), self.truth(t), strict=True)]
                for t in range(len(self.tasks))
            ]
        )


def adaptive(**settings) -> AdaptiveLabeler:
    return AdaptiveLabeler(LabelSection(labeler="adaptive", **settings))


@pytest.mark.parametrize(("known_p", "limit", "times"), [(True, 4, 16), (False, 16, 4)])
def test_it_beats_sixteen_rollouts_at_every_step_with_a_share_of_them(known_p, limit, times):
    fixed, labeler = FixedLabeler(16, 0.9), adaptive(max_rollouts=limit)
    dear = World(60, known_p=known_p).label(fixed)
    cheap = World(60, known_p=known_p).label(labeler)
    assert len(cheap.tasks) > 150
    assert cheap.tokens * times <= dear.tokens
    assert np.sqrt(np.mean(cheap.errors(labeler) ** 2)) < np.sqrt(np.mean(dear.errors(fixed) ** 2))


def test_its_intervals_cover():
    labeler = adaptive(max_rollouts=8)
    world = World(60).label(labeler)
    inside = [
        a.low - 1e-3 <= b <= a.high + 1e-3
        for t in range(len(world.tasks))
        for a, b in zip(labeler.advantages(t), world.truth(t), strict=True)
    ]
    assert 0.85 <= np.mean(inside) <= 0.99


def test_the_pit_is_found():
    labeler = adaptive(max_rollouts=32)
    world, hits, pits = World(60).label(labeler), 0, 0
    section = labeler.settings
    for t, task in enumerate(world.tasks):
        values = [exact(world.of[t].value(world.paths[t][: i + 1])) for i in range(STEPS - 1)]
        values.append(exact(float(task.verdict == CORRECT)))
        truth = label_steps(values, [Difference(a, a, a) for a in world.truth(t)], task.verdict, section)
        found = label_steps(labeler.values(t), labeler.advantages(t), task.verdict, section)
        if "pit" in truth:
            pits += 1
            hits += "pit" in found and found.index("pit") == truth.index("pit")
    assert pits > 50
    assert hits / pits > 0.85


def test_nothing_is_asked_where_nothing_can_change():
    steps = [Span(i, i + 1, str(i)) for i in range(4)]
    sure = Task(Tree(0).problem, INCORRECT, exact(0.5), steps, [-1e-4, -2.3, 0.0, 0.0], (Branch(0, 60, 60),))
    labeler = adaptive()
    labeler.start([sure])
    assert labeler.ask() == []
    advantages = labeler.advantages(0)
    assert abs(advantages[0].value) < 0.01
    assert advantages[1].high < -0.8
    assert [v.value for v in labeler.values(0)][1:] == pytest.approx([0, 0, 0], abs=0.01)


def test_the_limits_are_kept():
    for limit in (1, 5, 12):
        world = World(12).label(adaptive(max_rollouts=limit))
        assert world.rollouts <= limit * len(world.tasks)
    free = World(12).label(adaptive(max_rollouts=32))
    world = World(12).label(adaptive(max_rollouts=32, budget_tokens=free.tokens // 3))
    assert 0 < world.tokens <= free.tokens // 3
    assert World(12).label(adaptive(budget_tokens=0)).tokens == 0


def test_no_room_is_not_asked_twice():
    world, labeler, seen = World(12), adaptive(), []
    labeler.start(world.tasks)
    while asks := labeler.ask():
        seen += [(world.of[a.trace], world.paths[a.trace][: a.step_index + 1]) for a in asks]
        told = []
        for a in asks:
            begin = world.paths[a.trace][: a.step_index + 1]
            same = [t for t, p in enumerate(world.paths) if p.startswith(begin) and world.of[t] is world.of[a.trace]]
            told += [Outcome(t, a.step_index, 0, 0) for t in same]
        labeler.tell(told)
    assert seen
    assert len(seen) == len(set(seen))


def test_equal_traces_get_equal_values_and_one_ask():
    world = World(30)
    labeler = adaptive(max_rollouts=4)
    labeler.start(world.tasks)
    asks = labeler.ask()
    places = [(world.of[a.trace].problem.problem_id, world.paths[a.trace][: a.step_index + 1]) for a in asks]
    assert len(places) == len(set(places))
    same = [
        (a, b)
        for a in range(len(world.tasks))
        for b in range(a)
        if world.of[a] is world.of[b] and world.paths[a] == world.paths[b]
        and world.tasks[a].verdict == world.tasks[b].verdict
    ]  # fmt: skip
    assert same
    for a, b in same:
        assert labeler.advantages(a) == labeler.advantages(b)


def test_the_first_guess_costs_nothing_and_no_trace_is_no_error():
    labeler = adaptive()
    labeler.start([])
    assert labeler.ask() == []
    world = World(12)
    labeler.start(world.tasks)
    assert len(labeler.values(0)) == STEPS
    assert labeler.values(0)[-1].value == float(world.tasks[0].verdict == CORRECT)


def test_beliefs_that_know_something_help_and_the_rest_do_no_harm():
    def error(spread: float | None) -> float:
        world = World(80)
        rng = np.random.default_rng(3)
        for t, task in enumerate(world.tasks):
            values = [world.of[t].value(world.paths[t][:i]) for i in range(STEPS + 1)]
            logits = np.log(np.clip(values, 0.02, 0.98) / (1 - np.clip(values, 0.02, 0.98)))
            noisy = logits + rng.normal(0, spread or 0, STEPS + 1)
            world.tasks[t] = dataclasses.replace(task, beliefs=list(-np.log1p(np.exp(-noisy))))
        labeler = adaptive(budget_tokens=0, belief=None if spread is None else "!")
        return float(np.sqrt(np.mean(world.label(labeler).errors(labeler) ** 2)))

    without, good, useless = error(None), error(0.5), error(50.0)
    assert good < 0.95 * without
    assert useless < 1.05 * without


@pytest.mark.parametrize(("known_p", "least", "most"), [(True, 0, 0.1), (False, 0.5, 1.5)])
def test_worthwhile_rollouts_bring_more_per_token_than_samples(known_p, least, most):
    """Where chances say nearly all, hardly any are bought; where they are not known, about as many tokens as the traces
    have. Either way the squared advantages that training reads grow about as fast as their price, or faster."""
    free, bought = adaptive(budget_tokens=0), adaptive(rollouts="worthwhile")
    before, after = World(60, known_p=known_p).label(free), World(60, known_p=known_p).label(bought)
    own = sum(4 * len(path) for path in after.paths)
    assert least <= after.tokens / own <= most and before.tokens == 0
    signal = [sum(a.value**2 for t in range(len(w.tasks)) for a in w_of.advantages(t)) for w, w_of in
              ((before, free), (after, bought))]  # fmt: skip
    assert signal[1] / (own + after.tokens) > 0.95 * signal[0] / own
    assert np.mean(after.errors(bought) ** 2) < np.mean(before.errors(free) ** 2)


def test_no_trace_to_label_asks_for_nothing():
    labeler = adaptive(rollouts="worthwhile")
    labeler.start([])
    assert labeler.ask() == []
