"""Samples to problems: known answers."""

import math
import random
from itertools import combinations_with_replacement

import pytest

from negrl.budget import GROUP, allocate, believe
from negrl.budget.allocation import DISCOUNT, PER_PROBLEM, Belief


def some_beliefs(count: int, seed: int = 0) -> dict[str, Belief]:
    draw = random.Random(seed)
    return {f"p{i}": Belief(draw.randint(0, 6), draw.randint(0, 6)) for i in range(count)}


def test_a_belief_is_the_posterior_on_jeffreys_prior() -> None:
    assert Belief().mean == 0.5 and Belief(3, 1).mean == pytest.approx(3.5 / 5)
    # E sqrt(p (1 - p)) of a Beta(1/2, 1/2) is B(1, 1) / B(1/2, 1/2) = 1 / pi
    assert Belief().spread == pytest.approx(1 / math.pi)
    assert Belief(1e6, 1e6).spread == pytest.approx(0.5, abs=1e-4)
    assert Belief(8, 0).spread < Belief(4, 0).spread < Belief(3, 1).spread < Belief(2, 2).spread


def test_four_that_agree_leave_the_band_and_fewer_do_not() -> None:
    assert [Belief(n, 0).band for n in (2, 3, 4)] == ["band", "solved", "solved"]
    assert [Belief(0, n).band for n in (2, 3, 4)] == ["band", "hopeless", "hopeless"]
    assert Belief(3, 1).band == Belief(1, 3).band == Belief().band == "band"


def test_older_rounds_count_less_and_those_without_samples_make_unsure() -> None:
    found = believe(["a", "b"], [{"a": (4, 4)}, {"a": (1, 2), "b": (0, 1)}])
    assert found["a"].right == pytest.approx(4 * DISCOUNT + 1) and found["a"].wrong == 1
    assert found["b"] == Belief(0, 1)
    solved = {"a": (4, 4)}
    assert believe(["a"], [solved])["a"].band == "solved"
    assert believe(["a"], [solved, {}, {}, {}])["a"].band == "band"  # looked at again


@pytest.mark.parametrize("samples", [2, 3, 7, 50, 333, 1000])
def test_the_samples_are_all_given_and_no_more(samples: int) -> None:
    beliefs = some_beliefs(100)
    given = allocate(samples, beliefs, 0, 1)
    assert sum(given.counts.values()) == samples and min(given.counts.values()) >= 1
    inside = [n for p, n in given.counts.items() if given.bands[p] == "band"]
    assert len(inside) >= 1 and (samples < 4 or min(inside) >= GROUP)
    assert given.bands.keys() == beliefs.keys()


def test_the_order_of_the_problems_plays_no_part_and_the_round_does() -> None:
    beliefs = some_beliefs(60)
    turned = dict(reversed(beliefs.items()))
    assert allocate(90, beliefs, 0, 1).counts == allocate(90, turned, 0, 1).counts
    assert allocate(90, beliefs, 0, 1).counts != allocate(90, beliefs, 0, 2).counts


def test_solved_and_hopeless_problems_get_little() -> None:
    beliefs = {f"solved{i}": Belief(6, 0) for i in range(40)}
    beliefs |= {f"hopeless{i}": Belief(0, 6) for i in range(20)}
    beliefs |= {f"half{i}": Belief(2, 2) for i in range(10)}
    counts = allocate(150, beliefs, 0, 1).counts
    per_kind = {kind: [n for p, n in counts.items() if p.startswith(kind)] for kind in ("solved", "hopeless", "half")}
    assert per_kind["solved"] == [1] * 10 and per_kind["hopeless"] == [1] * 5
    assert sum(per_kind["half"]) == 135 and max(per_kind["half"]) - min(per_kind["half"]) <= 1


def test_where_nothing_is_in_the_band_all_get_some() -> None:
    counts = allocate(20, {f"p{i}": Belief(9, 0) for i in range(10)}, 0, 1).counts
    assert counts == {f"p{i}": 2 for i in range(10)}
    few = {**{f"p{i}": Belief(9, 0) for i in range(10)}, "half": Belief(2, 2)}
    counts = allocate(40, few, 0, 1).counts
    assert len(counts) == 11 and counts["half"] == max(counts.values()) < 16


def test_where_samples_are_few_problems_are_drawn_at_random() -> None:
    beliefs = {f"p{i}": Belief(1, 1) for i in range(100)}
    rounds = [allocate(80, beliefs, 0, number).counts for number in range(30)]
    assert all(set(counts.values()) == {PER_PROBLEM} and len(counts) == 20 for counts in rounds)
    assert len({problem for counts in rounds for problem in counts}) > 95


def test_the_band_shares_as_neyman_does() -> None:
    """At the same total no other division in whole numbers has a smaller variance of the mean."""
    beliefs = {"a": Belief(1, 1), "b": Belief(1, 3), "c": Belief(2, 8)}
    spread = [b.spread for b in beliefs.values()]
    given = allocate(14, beliefs, 0, 1).counts

    def variance(counts: tuple[int, ...]) -> float:
        return sum(s * s / n for s, n in zip(spread, counts, strict=True))

    every = [(x, y - x, 14 - y) for x, y in combinations_with_replacement(range(1, 14), 2) if x < y]
    allowed = [c for c in every if min(c) >= GROUP]
    assert variance(tuple(given[p] for p in beliefs)) == pytest.approx(min(variance(c) for c in allowed))
    assert given["a"] >= given["b"] > given["c"]
