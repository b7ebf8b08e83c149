"""How large rounds are, what they say of the policy, and when there is none left."""

import random
import statistics

import pytest

from negrl.budget import Allocation, Band, Drawn, Round, allocate, believe, left, next_size, parse_budget, pass_rate
from negrl.budget.rounds import FEWEST_ROUNDS, LEAST, PATIENCE, USUAL, stop_reason

NAMES = [f"p{i}" for i in range(100)]


def a_round(rates: dict[str, float], samples: int, before: list[Round], seed: int, tokens: int = 10) -> Round:
    """As a policy with these pass rates would draw it."""
    draw = random.Random(seed)
    given = allocate(samples, believe(list(rates), [one.counts for one in before]), seed, len(before) + 1)
    drawn = {}
    for problem, n in given.counts.items():
        drawn[problem] = Drawn(n, n, sum(draw.random() < rates[problem] for _ in range(n)), n * tokens)
    return Round(given, drawn, 0, 0)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ("2M", 2_000_000),
        ("500k", 500_000),
        ("1.5m", 1_500_000),
        (180000, 180000),
        ("180_000", 180000),
        ("auto", "auto"),
    ],
)
def test_amounts(given: object, tokens: object) -> None:
    assert parse_budget(given) == tokens


@pytest.mark.parametrize("given", ["lots", 0, "-5", True, "2 miles", 0.2, [], "nan"])
def test_what_is_no_amount_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="expected a number of tokens, as 500k or 2M, or auto"):
        parse_budget(given)


@pytest.mark.parametrize("budget", [3_000, 20_000, 60_000])
def test_the_rounds_add_up_to_the_budget(budget: int) -> None:
    """Samples of 10 tokens: not one more than the budget pays for, and less than a quarter of a round unspent."""
    rates = {name: 0.5 for name in NAMES}
    rounds: list[Round] = []
    while samples := next_size(budget, rounds, NAMES, max_tokens=20):
        assert stop_reason(budget, rounds, NAMES, 20) is None
        rounds.append(a_round(rates, samples, rounds, seed=1))
    spent = sum(one.tokens for one in rounds)
    assert spent <= budget and left(budget, rounds) == budget - spent <= rounds[-1].tokens / 4
    assert len(rounds) >= FEWEST_ROUNDS and stop_reason(budget, rounds, NAMES, 20) == "the budget is spent"


def test_a_budget_is_divided_into_rounds_that_are_large_enough() -> None:
    assert next_size("auto", [], NAMES, 20) == USUAL
    assert next_size(16 * 300 * 20, [], NAMES, 20) == 300
    assert next_size(16 * 100 * 20, [], NAMES, 20) == LEAST
    assert next_size(800 * 20, [], NAMES, 20) == 800 // FEWEST_ROUNDS


def test_rollouts_count_as_tokens() -> None:
    one = a_round({name: 0.5 for name in NAMES}, 400, [], seed=0)
    with_rollouts = Round(one.allocation, one.drawn, 100, 4000)
    assert with_rollouts.tokens == 8000 and left(10_000, [with_rollouts]) == 2000
    # 20 tokens a sample with the rollouts that go with it
    assert next_size(10_000, [with_rollouts] * 3, NAMES, 20) == 0
    assert next_size(14_000, [with_rollouts], NAMES, 20) == 6000 // 20 // (FEWEST_ROUNDS - 1)


def test_the_pass_rate_of_a_whole_round_is_the_mean_over_problems() -> None:
    bands: dict[str, Band] = {"a": "band", "b": "band"}
    found = pass_rate(Allocation({"a": 2, "b": 4}, bands), {"a": (1, 2), "b": (4, 4)})
    assert found.mean == pytest.approx(0.75)
    assert found.error == pytest.approx((0.25 / 1 / 4) ** 0.5)  # p (1 - p) / (n - 1) of a, none of b


def test_the_pass_rate_is_unbiased_where_solved_problems_are_seldom_asked() -> None:
    """Problems that look solved are asked less often because of what they did; the estimate must not mind. The error
    that it states is the one that it has."""
    rates = {name: 0.9 if i < 60 else 0.4 if i < 90 else 0.05 for i, name in enumerate(NAMES)}
    truth = statistics.fmean(rates.values())
    found = []
    for seed in range(300):
        first = a_round(rates, 400, [], seed=seed)
        second = a_round(rates, 400, [first], seed=1000 + seed)
        found.append(pass_rate(second.allocation, second.counts))
    means = [one.mean for one in found]
    spread = statistics.stdev(means)
    assert statistics.fmean(means) == pytest.approx(truth, abs=3 * spread / 300**0.5)
    assert statistics.fmean(one.error for one in found) == pytest.approx(spread, rel=0.2)


def test_auto_goes_on_while_the_policy_improves_and_ends_when_it_does_not() -> None:
    rounds: list[Round] = []
    ended = None
    while ended is None:
        level = min(0.7, 0.4 + 0.1 * len(rounds))  # rises for three rounds, then stays
        rates = {name: level for name in NAMES}
        rounds.append(a_round(rates, next_size("auto", rounds, NAMES, 20), rounds, seed=len(rounds)))
        ended = stop_reason("auto", rounds, NAMES, 20)
    assert 3 + PATIENCE < len(rounds) <= 12
    assert ended.startswith(f"no rise of the pass rate over {PATIENCE} rounds")


def test_auto_ends_where_all_is_solved() -> None:
    rates = {name: 1.0 for name in NAMES}
    rounds = [a_round(rates, 512, [], seed=0)]
    assert stop_reason("auto", rounds, NAMES, 20) == "0 of 100 problems are left to learn from"
