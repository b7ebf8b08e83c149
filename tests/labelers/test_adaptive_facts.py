"""`merge: facts` against a made policy: every step is worded in one of a few ways that change nothing."""

import dataclasses
import random

import numpy as np
import pytest

from negrl.labelers.adaptive.facts import learn_discount
from negrl.labelers.adaptive.labeler import AdaptiveLabeler
from negrl.labelers.base import Branch, Task
from negrl.recipe import LabelSection
from negrl.records import CORRECT, INCORRECT, Problem
from negrl.steps.split import Span
from negrl.steps.values import exact

STEPS, WORDINGS = 5, 4


class World:
    """Trees like those of test_adaptive.py: "a" or "b" at each place, and a "b" may spoil the answer. The words say
    the same in WORDINGS ways; where `words_matter`, half of the wordings spoil the answer instead."""

    def __init__(self, trees: int = 60, traces: int = 12, known_p: bool = True, words_matter: bool = False):
        self.tasks: list[Task] = []
        self.truth: list[list[float]] = []
        rng = random.Random(0)
        for tree in range(trees):
            chance = [rng.choice([0.5, 0.7, 0.9]) for _ in range(STEPS)]
            harm = [rng.choice([0.0, 0.0, 0.9]) for _ in range(STEPS)]

            def survival(said, i, harm=harm):
                step, word = said[i]
                return 1 - harm[i] if (word % 2 if words_matter else step == "b") else 1.0

            def value(said, chance=chance, harm=harm, survival=survival):
                worth = float(np.prod([survival(said, i) for i in range(len(said))]))
                for c, h in list(zip(chance, harm, strict=True))[len(said) :]:
                    bad = 0.5 if words_matter else 1 - c
                    worth *= 1 - bad * h
                return worth

            drawn = []
            for _ in range(traces):
                said = [("a" if rng.random() < c else "b", rng.randrange(WORDINGS)) for c in chance]
                right = all(rng.random() < survival(said, i) for i in range(STEPS))
                drawn.append((said, right))
            share = sum(right for _, right in drawn) / traces
            if not 0.1 <= share <= 0.9:
                continue
            for t, (said, right) in enumerate(drawn):
                others = [meeting(said, right, *other) for u, other in enumerate(drawn) if u != t]
                logps = [
                    float(np.log((c if step == "a" else 1 - c) / WORDINGS))
                    for c, (step, _) in zip(chance, said, strict=True)
                ]
                self.tasks.append(
                    Task(
                        Problem(str(tree), "tree", "train", "none", "?", "1"), CORRECT if right else INCORRECT,
                        exact(share), [Span(4 * i, 4 * i + 4, f"{s}{w}") for i, (s, w) in enumerate(said)],
                        logps if known_p else None, tuple(others),
                    )
                )  # fmt: skip
                values = [value(said[:i]) for i in range(STEPS)]
                self.truth.append(list(np.diff([*values, float(right)])))

    def labeler(self, merge: str) -> AdaptiveLabeler:
        labeler = AdaptiveLabeler(LabelSection(labeler="adaptive", budget_tokens=0, merge=merge))
        labeler.start(self.tasks)
        assert labeler.ask() == []
        return labeler

    def error(self, labeler: AdaptiveLabeler) -> float:
        errors = [
            a.value - b for t, truth in enumerate(self.truth) for a, b in zip(labeler.advantages(t), truth, strict=True)
        ]
        return float(np.sqrt(np.mean(np.square(errors))))


def meeting(said, right, other, other_right) -> Branch:
    """Where one other trace leaves this one by words, and where it last meets it by what was said."""
    left = next((i for i in range(STEPS) if said[i] != other[i]), STEPS) - 1
    same = next((i for i in range(STEPS) if said[i][0] != other[i][0]), STEPS) - 1
    met = same if same < STEPS - 1 or right == other_right else STEPS - 2
    return Branch(left, 1, int(other_right), met)


@pytest.mark.parametrize("known_p", [True, False])
def test_siblings_in_other_words_are_worth_something(known_p: bool) -> None:
    world = World(known_p=known_p)
    facts, tokens = world.labeler("facts"), world.labeler("tokens")
    assert len(world.tasks) > 200
    assert facts.discount is not None and facts.discount > 0.7 and tokens.discount is None
    assert world.error(facts) < 0.75 * world.error(tokens)


def test_their_intervals_cover() -> None:
    world = World()
    labeler = world.labeler("facts")
    inside = [
        a.low - 0.01 <= b <= a.high + 0.01
        for t, truth in enumerate(world.truth)
        for a, b in zip(labeler.advantages(t), truth, strict=True)
    ]
    assert 0.85 <= np.mean(inside) <= 0.99


def test_where_the_words_matter_facts_are_discounted_and_do_no_harm() -> None:
    world = World(words_matter=True)
    facts = world.labeler("facts")
    assert facts.discount is not None and facts.discount < 0.3
    assert world.error(facts) < 1.05 * world.error(world.labeler("tokens"))


def test_tokens_do_not_look_at_facts_and_facts_that_nobody_shares_change_nothing() -> None:
    world = World(20)
    before = world.labeler("tokens")
    blind = World(20)
    blind.tasks = [
        dataclasses.replace(t, samples=tuple(dataclasses.replace(b, met=-1) for b in t.samples)) for t in blind.tasks
    ]
    assert learn_discount(blind.tasks) == 0
    for merge in ("tokens", "facts"):
        after = blind.labeler(merge)
        for t in range(len(world.tasks)):
            assert after.advantages(t) == before.advantages(t) and after.values(t) == before.values(t)


def test_the_discount_decides_what_a_sibling_in_other_words_counts(monkeypatch) -> None:
    world = World(30)
    errors = []
    for d in (0.0, 0.5, 1.0):
        monkeypatch.setattr("negrl.labelers.adaptive.labeler.learn_discount", lambda tasks, d=d: d)
        errors.append(world.error(world.labeler("facts")))
    assert errors[0] == pytest.approx(world.error(world.labeler("tokens")), abs=1e-6)
    assert errors[0] > errors[1] > errors[2]


def test_labels_are_the_same_again() -> None:
    one, other = World(12).labeler("facts"), World(12).labeler("facts")
    assert [one.advantages(t) for t in range(20)] == [other.advantages(t) for t in range(20)]


def test_the_setting_is_part_of_the_key_only_where_it_is_set() -> None:
    def key(**options) -> dict:
        section = LabelSection(labeler="adaptive", **options)
        return section.values_key(AdaptiveLabeler(section), imported=False)

    assert "merge" not in key() and key(merge="tokens") == key()
    assert key(merge="facts")["merge"] == "facts"
