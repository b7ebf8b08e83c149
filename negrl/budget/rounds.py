"""How many samples the next round has, and whether there is one.

The next token buys most from the newest policy, so a budget is divided into many small rounds. But a problem needs
several samples in a round, since it is by comparison with each other that they teach. So a small round asks only a part
of the problems: those that it can ask `PER_PROBLEM` times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from negrl.budget.allocation import Allocation, believe
from negrl.budget.amount import AUTO, Budget
from negrl.budget.passrate import pass_rate

ROUNDS = 16
"""Into which a budget is divided, unless they would be smaller than `LEAST`."""
LEAST, USUAL = 256, 512
"""Samples of a round: at the least, and where there is no limit."""
FEWEST_ROUNDS = 4
"""Into which a budget is divided that is too small for more."""
CONFIDENCE = 0.9
"""Of the one-sided bound by which `auto` sees a rise of the pass rate."""
PATIENCE = 4
"""Rounds over which `auto` looks for one."""
_MOST_ROUNDS = 64  # of auto
_HARDLY_ANY = 0.05  # the share of problems in the band at which auto ends


@dataclass(frozen=True, slots=True)
class Drawn:
    """The fresh samples of one problem in one round. `judged`: those that the verifier could judge."""

    samples: int
    judged: int
    right: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Round:
    """A round that is over. `drawn`: by problem id."""

    allocation: Allocation
    drawn: Mapping[str, Drawn]
    rollouts: int
    rollout_tokens: int

    @property
    def samples(self) -> int:
        return sum(one.samples for one in self.drawn.values())

    @property
    def sample_tokens(self) -> int:
        return sum(one.tokens for one in self.drawn.values())

    @property
    def tokens(self) -> int:
        return self.sample_tokens + self.rollout_tokens

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Problem id -> (right, judged)."""
        return {problem: (one.right, one.judged) for problem, one in self.drawn.items()}


def left(budget: Budget, rounds: Sequence[Round]) -> int | None:
    """Tokens that are not spent yet; None where there is no limit."""
    return None if budget == AUTO else max(0, budget - sum(one.tokens for one in rounds))


def next_size(budget: Budget, rounds: Sequence[Round], problems: Sequence[str], max_tokens: int) -> int:
    """Samples of the next round; 0 where the budget has nothing left for one.

    Args:
        rounds: those that are over.
        max_tokens: of a sample. Before the first round nothing else is known of how long they are.
    """
    if budget == AUTO:
        return USUAL
    remaining = left(budget, rounds) or 0
    price = rounds[-1].tokens / rounds[-1].samples if rounds else max_tokens
    affordable = math.floor(remaining / price)
    if rounds and affordable < rounds[-1].samples / 4:
        return 0  # a rest, since samples were shorter than those before
    wanted = max(LEAST, math.ceil(budget / price / ROUNDS))
    to_come = max(1, FEWEST_ROUNDS - len(rounds))
    size = min(wanted, max(affordable // to_come, min(2, affordable)))
    # Too little would be left for another round.
    return affordable if to_come == 1 and affordable - size < size / 2 else size


def stop_reason(budget: Budget, rounds: Sequence[Round], problems: Sequence[str], max_tokens: int) -> str | None:
    """Why there is no next round; None: there is one."""
    if budget != AUTO:
        return None if next_size(budget, rounds, problems, max_tokens) else "the budget is spent"
    beliefs = believe(problems, [one.counts for one in rounds])
    inside = sum(belief.band == "band" for belief in beliefs.values())
    if rounds and inside < _HARDLY_ANY * len(problems):
        return f"{inside} of {len(problems)} problems are left to learn from"
    if len(rounds) >= _MOST_ROUNDS:
        return f"{_MOST_ROUNDS} rounds, which is as many as auto takes"
    if len(rounds) > PATIENCE:
        now, before = (pass_rate(one.allocation, one.counts) for one in (rounds[-1], rounds[-1 - PATIENCE]))
        if now.rise_at_least(before, CONFIDENCE) <= 0:
            return (
                f"no rise of the pass rate over {PATIENCE} rounds ({before.mean:.3f} to {now.mean:.3f}, "
                f"one-sided {CONFIDENCE:.0%} interval)"
            )
    return None
