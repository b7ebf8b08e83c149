"""The posterior over value paths: against Monte Carlo on the generative model that its docstring states."""

import numpy as np
import pytest

from negrl.labelers.adaptive.posterior import _GRID, _JUMP, PathPosterior


def posterior(p, right, *, best_of=1, evidence=()):
    p = np.atleast_2d(np.array(p, np.float32))
    n, m = p.shape
    made = PathPosterior(p, np.full(n, m), np.full(n, right), np.ones(n, np.float32), best_of)
    for path, left, count, successes in evidence:
        made.add(path, left, count, successes)
    return made


def paths(made, confidence=0.9, covariance=False):
    return made.paths(np.arange(len(made.steps)), confidence, 0.2, covariance)


def draw_paths(rng, p, last, size):
    """`size` value paths (V_0 ... V_M) and their U_1 ... U_M, drawn from the prior that nothing was learned for."""
    weights = np.ones(_GRID)
    weights[[0, -1]] = 2
    values, others = [np.full(size, last)], []
    for chance in reversed(p):
        after = values[-1]
        fresh = rng.choice(np.linspace(0, 1, _GRID), size, p=weights / weights.sum())
        other = np.where(rng.random(size) < _JUMP, fresh, after)
        others.append(other)
        values.append(chance * after + (1 - chance) * other)
    return np.array(values[::-1]), np.array(others[::-1])


@pytest.mark.parametrize("p", [(0.0, 0.0, 0.0), (0.5, 0.1, 0.9), (0.3, 1.0, 0.02)])
@pytest.mark.parametrize("last", [0.0, 1.0])
@pytest.mark.parametrize("best_of", [1, 5])
def test_the_posterior_is_bayes_rule(p, last, best_of):
    evidence = [(0, -1, 7, 4), (0, 0, 3, 3), (0, 1, 5, 1)]
    found = paths(posterior([p], last == 1, best_of=best_of, evidence=evidence), covariance=True)
    rng = np.random.default_rng(0)
    values, others = draw_paths(rng, p, last, 400_000)
    weight = np.ones(values.shape[1])
    for (_, left, n, successes), step in zip(evidence, (0, 1, 2), strict=True):
        u = np.clip(others[left + 1], 1e-4, 1 - 1e-4)
        assert left + 1 == step
        if p[step] < 1:  # nothing leaves a certain step
            weight *= u**successes * (1 - u) ** (n - successes)
    weight /= weight.sum()
    best = 1 - (1 - values) ** best_of
    change = np.diff(best, axis=0)
    assert found.value[0] == pytest.approx(best @ weight, abs=0.02)
    assert found.advantage[0] == pytest.approx(change @ weight, abs=0.02)
    sd = np.sqrt(change**2 @ weight - (change @ weight) ** 2)
    assert found.advantage_sd[0] == pytest.approx(sd, abs=0.02 if best_of == 1 else 0.08)  # the grid is coarse there
    assert found.hurts[0] == pytest.approx((change < -0.2) @ weight, abs=0.06)
    assert found.helps[0] == pytest.approx((change > 0.2) @ weight, abs=0.06)
    if best_of == 1:
        centered = values - (values @ weight)[:, None]
        expected = (centered[:-1] * weight) @ np.diff(centered, axis=0).T
        assert found.covariance[0] == pytest.approx(expected, abs=0.01)


def test_the_step_that_was_certain_has_no_advantage_and_p_bounds_it():
    made = posterior([(0.9, 1.0, 0.5)], False, evidence=[(0, -1, 20, 20), (0, 1, 4, 4)])
    found = paths(made)
    assert found.advantage[0, 1] == found.advantage_low[0, 1] == found.advantage_high[0, 1] == 0
    assert abs(found.advantage_low[0, 0]) <= 0.1 + 1e-6
    assert found.advantage[0, 2] < -0.3


def test_evidence_moves_the_value_to_where_it_belongs():
    sure = [(0, 0, 200, 180), (0, 1, 200, 0)]
    found = paths(posterior([(0.0, 0.0, 0.0)], False, evidence=sure))
    # p = 0: V_1 is where samples leave before step 2, V_2 before step 3
    assert found.value[0, 1] == pytest.approx(0.9, abs=0.03)
    assert found.value[0, 2] == pytest.approx(0.0, abs=0.02)
    assert found.advantage[0, 1] == pytest.approx(-0.9, abs=0.04)
    assert found.hurts[0, 1] > 0.999
    assert found.advantage_low[0, 1] < -0.9 < found.advantage_high[0, 1] + 0.03


def test_samples_that_never_leave_the_path_are_no_evidence():
    alone, more = posterior([(0.5, 0.5)], True), posterior([(0.5, 0.5)], True, evidence=[(0, 1, 50, 50)])
    assert (paths(alone).value == paths(more).value).all()


def test_shorter_paths_stand_beside_longer_ones():
    p = np.array([[0.2, 0.7, 0.4], [0.2, 0.7, 0.0]], np.float32)
    both = PathPosterior(p, np.array([3, 2]), np.array([True, False]), np.ones(2, np.float32))
    alone = PathPosterior(p[1:, :2], np.array([2]), np.array([False]), np.ones(1, np.float32))
    both.add(1, 0, 5, 2)
    alone.add(0, 0, 5, 2)
    assert paths(both).value[1, :3] == pytest.approx(paths(alone).value[0], abs=1e-5)
    assert (paths(both).value[1, 2:] == 0).all()
    assert (paths(both).advantage[1, 2:] == 0).all()


def simulated(rng, n, m, jump, p, samples):
    """n paths from a world where a step matters with chance `jump`, the others being worth 0 or 0.9 then."""
    last = rng.random(n) < 0.5
    value, truth = last.astype(float), np.zeros((n, m + 1))
    truth[:, m] = value
    other = np.zeros((n, m))
    for i in reversed(range(m)):
        other[:, i] = np.where(rng.random(n) < jump, rng.choice([0.0, 0.9], n), value)
        value = p[:, i] * value + (1 - p[:, i]) * other[:, i]
        truth[:, i] = value
    made = PathPosterior(p, np.full(n, m), last, np.ones(n, np.float32))
    for path in range(n):
        for i in range(m):
            count = int(rng.integers(0, samples + 1))
            made.add(path, i - 1, count, int(rng.binomial(count, other[path, i])))
    return made, truth


@pytest.mark.parametrize("jump", [0.05, 0.3])
def test_intervals_cover_at_their_level_and_learning_finds_how_often_steps_matter(jump):
    rng = np.random.default_rng(1)
    p = rng.choice([0.0, 0.3, 0.8], (1500, 5)).astype(np.float32)
    made, truth = simulated(rng, 1500, 5, jump, p, samples=4)
    change = np.diff(truth, axis=1)
    untaught = np.sqrt(np.mean((paths(made).advantage - change) ** 2))
    made.learn(10)
    found = paths(made)
    error = np.sqrt(np.mean((found.advantage - change) ** 2))
    cover = np.mean((found.advantage_low - 1e-6 <= change) & (change <= found.advantage_high + 1e-6))
    assert error < untaught
    assert 0.85 <= cover <= 0.99
    # the learned chance at p = 0 and 0.3; at 0.8 there is little to learn it from
    assert made._jump[[0, 7]] == pytest.approx(jump, abs=0.08)


def test_weights_count_like_copies():
    p = np.array([[0.3, 0.3], [0.6, 0.2]], np.float32)
    right = np.array([False, True])
    heavy = PathPosterior(p, np.array([2, 2]), right, np.array([3, 1], np.float32))
    copies = PathPosterior(p[[0, 0, 0, 1]], np.full(4, 2), right[[0, 0, 0, 1]], np.ones(4, np.float32))
    heavy.add(0, -1, 6, 5)
    for i in range(3):
        copies.add(i, -1, 6, 5)
    heavy.learn(2)
    copies.learn(2)
    assert paths(heavy).value[0] == pytest.approx(paths(copies).value[0], abs=1e-5)


def test_a_hint_counts_like_samples_of_the_value_itself():
    hinted, plain = posterior([(0.0, 0.0)], False), posterior([(0.0, 0.0)], False)
    hinted.hints = np.array([[[0, 0], [30, 3], [0, 0]]], np.float32)
    plain.add(0, 0, 33, 30)  # p = 0: what leaves before step 2 is a sample of V_1
    assert paths(hinted).value == pytest.approx(paths(plain).value, abs=1e-4)
    both = paths(hinted, covariance=True), paths(plain, covariance=True)
    assert both[0].covariance == pytest.approx(both[1].covariance, abs=1e-4)
