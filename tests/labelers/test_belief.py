"""Calibrated beliefs, on value paths that are known because they are made here."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random

import numpy as np
import pytest

from negrl.labelers import open_labeler
from negrl.labelers.base import Branch, Task
from negrl.labelers.belief.labeler import BeliefLabeler, ridge_logistic
from negrl.recipe import LabelSection
from negrl.records import CORRECT, INCORRECT, Problem
from negrl.steps.split import Span
from negrl.steps.values import estimate, exact

STEPS, TRACES = 4, 12


def world(problems: int, noise: float, seed: int = 0) -> tuple[list[Task], list[list[float]]]:
    """Tasks, and the true values of their steps. A problem has two ways to begin, one twice as good; after
    each step the value stays or jumps. log p(gold) is a bent, noisy reading of the true value."""
    rng = random.Random(seed)
    tasks, truths = [], []
    for p in range(problems):
        v0 = rng.uniform(0.2, 0.8)
        problem = Problem(f"p{p}", "test", "train", "mit", "", "1")
        starts = [min(1.0, 4 * v0 / 3), min(1.0, 4 * v0 / 3) / 2]
        drawn = []
        for _ in range(TRACES):
            way = rng.random() < 0.5
            value = starts[way]
            path = [value]
            for _ in range(STEPS - 2):
                if rng.random() < 0.3:
                    value = float(rng.random() < value)
                path.append(value)
            drawn.append((way, path, rng.random() < value))
        right = sum(r for _, _, r in drawn)
        for i, (way, path, r) in enumerate(drawn):
            others = [(w == way, ok) for j, (w, _, ok) in enumerate(drawn) if j != i]
            samples = tuple(
                Branch(left, len(group), sum(group))
                for left, group in (
                    (-1, [ok for same, ok in others if not same]),
                    (0, [ok for same, ok in others if same]),
                )
                if group
            )
            beliefs = [min(0.0, 1.5 * (v - 1.2) + rng.gauss(0, noise)) for v in (v0, *path, float(r))]
            spans = [Span(k, k + 1, f"{k};") for k in range(STEPS)]
            verdict = CORRECT if r else INCORRECT
            tasks.append(Task(problem, verdict, estimate(right, TRACES, 0.9), spans, None, samples, beliefs))
            truths.append(path)
    return tasks, truths


def fitted(labeler: BeliefLabeler, count: int) -> np.ndarray:
    return np.array([[e.value for e in labeler.values(t)[:-1]] for t in range(count)])


@pytest.fixture(scope="module")
def calibrated() -> tuple[BeliefLabeler, list[Task], np.ndarray]:
    tasks, truths = world(150, noise=0.2)
    labeler = BeliefLabeler(0.9)
    labeler.start(tasks)
    return labeler, tasks, np.array(truths)


def test_values_are_calibrated_and_nearer_than_v0(calibrated) -> None:
    labeler, tasks, truth = calibrated
    assert labeler.ask() == []
    values = fitted(labeler, len(tasks))
    for low in np.arange(0, 1, 0.2):
        inside = (values >= low) & (values < low + 0.2)
        assert inside.sum() > 50
        assert truth[inside].mean() == pytest.approx(values[inside].mean(), abs=0.06)
    v0 = np.array([[t.v0.value] for t in tasks])
    assert ((values - truth) ** 2).mean() < 0.4 * ((v0 - truth) ** 2).mean()


def test_intervals_hold_what_they_promise(calibrated) -> None:
    labeler, tasks, truth = calibrated
    estimates = [e for t in range(len(tasks)) for e in labeler.values(t)[:-1]]
    hits = np.array([e.low <= v <= e.high for e, v in zip(estimates, truth.ravel(), strict=True)]).reshape(truth.shape)
    assert 0.87 < hits[:, 0].mean() < 0.99  # of shared prefixes
    assert 0.8 < hits.mean() < 0.99  # here only the first steps are shared: for the others it is a guess
    assert all((e.n, e.successes) == (0, 0) for e in estimates)
    assert np.mean([e.high - e.low for e in estimates]) < 0.75
    # rho is the measured share of p(1 - p): about what the true values say of the shared prefixes.
    values = fitted(labeler, len(tasks))[:, 0]
    real = ((values - truth[:, 0]) ** 2).sum() / (values * (1 - values)).sum()
    assert labeler.rho == pytest.approx(real, abs=0.08)


def test_a_traces_own_verdict_is_only_in_its_last_value(calibrated) -> None:
    labeler, tasks, _ = calibrated
    flipped = [dataclasses.replace(tasks[0], verdict=CORRECT if tasks[0].verdict == INCORRECT else INCORRECT)]
    other = BeliefLabeler(0.9)
    other.start(flipped + tasks[1:])
    before, after = labeler.values(0), other.values(0)
    assert [e.value for e in before[:-1]] == [e.value for e in after[:-1]]
    assert {before[-1], after[-1]} == {exact(0.0), exact(1.0)}
    moved = [t for t in range(len(tasks)) if labeler.values(t)[0].value != other.values(t)[0].value]
    assert moved  # it did teach the other problems something
    assert all(tasks[t].problem.problem_id != tasks[0].problem.problem_id for t in moved)


def test_beliefs_that_say_nothing_leave_the_value_at_v0() -> None:
    tasks, _ = world(150, noise=20.0)
    labeler = BeliefLabeler(0.9)
    labeler.start(tasks)
    values = fitted(labeler, len(tasks))
    assert np.abs(np.diff(values, axis=1)).mean() < 0.03  # no advantages out of nothing
    few = BeliefLabeler(0.9)
    few.start(tasks[:1])
    others = tasks[0].samples
    n, right = sum(b.n for b in others), sum(b.successes for b in others)
    assert few.values(0)[0].value == pytest.approx((right + 0.5) / (n + 1))
    assert few.rho == 1.0  # nothing known of the spread


def test_a_task_without_beliefs_stays_unlabelled(calibrated) -> None:
    _, tasks, _ = calibrated
    labeler = BeliefLabeler(0.9)
    labeler.start([tasks[0], dataclasses.replace(tasks[1], beliefs=None), *tasks[2:]])
    assert labeler.values(1) == labeler.advantages(1) == [None] * STEPS
    assert labeler.values(2)[0] is not None
    one_step = dataclasses.replace(tasks[0], steps=tasks[0].steps[:1], beliefs=[-1.0, -0.5])
    labeler.start([one_step])
    assert labeler.values(0) == [exact(float(one_step.verdict == CORRECT))]


def test_best_of_raises_values_and_keeps_their_order(calibrated) -> None:
    plain, tasks, _ = calibrated
    labeler = BeliefLabeler(0.9, best_of=5)
    labeler.start(tasks)
    for one, five in zip(plain.values(0)[:-1], labeler.values(0)[:-1], strict=True):
        assert (five.value, five.low) == (
            pytest.approx(1 - (1 - one.value) ** 5),
            pytest.approx(1 - (1 - one.low) ** 5),
        )
    v0 = estimate(tasks[0].v0.successes, tasks[0].v0.n, 0.9, 5)
    assert labeler.advantages(0)[0].value == pytest.approx(labeler.values(0)[0].value - v0.value)


def test_uncalibrated_beliefs_are_the_values(calibrated) -> None:
    """GRPO-VPS: A is the change of p(gold | prefix), from the prompt on; the last step's value is the verdict."""
    _, tasks, _ = calibrated
    labeler = BeliefLabeler(0.9, calibrated=False)
    assert labeler.needs == {"beliefs"}
    labeler.start([tasks[0], dataclasses.replace(tasks[1], beliefs=None)])
    believed = [math.exp(b) for b in tasks[0].beliefs[:-1]] + [float(tasks[0].verdict == CORRECT)]
    assert [v.value for v in labeler.values(0)] == pytest.approx(believed[1:])
    changes = [after - before for before, after in itertools.pairwise(believed)]
    assert [a.value for a in labeler.advantages(0)] == pytest.approx(changes)
    assert (labeler.values(0)[0].low, labeler.values(0)[0].high) == (0.0, 1.0)  # how good it is, nobody knows
    assert all(a.low < 0 < a.high for a in labeler.advantages(0)[:-1])
    assert labeler.values(1) == labeler.advantages(1) == [None] * STEPS
    best = BeliefLabeler(0.9, best_of=3, calibrated=False)
    best.start(tasks[:1])
    assert best.values(0)[0].value == pytest.approx(1 - (1 - believed[1]) ** 3)


def test_the_setting_is_in_the_key_only_where_it_is_used() -> None:
    def key(**more):
        section = LabelSection(labeler="belief", split="chain", **more)
        return section.values_key(open_labeler(section, None), imported=False)

    assert "calibrated" not in key() and key(calibrated=True) == key()
    assert key(calibrated=False) == {**key(), "calibrated": False}


def test_ridge_logistic_finds_the_weights_and_shrinks_them() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(20_000, 2)), np.array([0.3, 1.0, -2.0])
    offset = rng.normal(size=len(x))
    right = (rng.random(len(x)) < 1 / (1 + np.exp(-(offset + w[0] + x @ w[1:])))).astype(float)
    ones = np.ones(len(x))
    assert ridge_logistic(x, right, offset, ones, 1.0) == pytest.approx(w, abs=0.1)
    # At the top the gradient is the ridge's pull.
    found = ridge_logistic(x, right, offset, ones, 500.0)
    p = 1 / (1 + np.exp(-(offset + found[0] + x @ found[1:])))
    assert x.T @ (right - p) == pytest.approx(500.0 * found[1:], rel=1e-5)
    apart = np.column_stack([ones, right * 2 - 1])[:, 1:]  # separable: still finite
    assert np.isfinite(ridge_logistic(apart, right, 0 * ones, ones, 1.0)).all()
