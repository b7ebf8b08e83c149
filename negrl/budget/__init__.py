"""A budget in tokens: how much of it a round takes, which problems its samples go to, and when to stop.

Pure arithmetic on counts: the same counts give the same decisions, so a run that was killed decides again as it did.
"""

from negrl.budget.allocation import GROUP, Allocation, Band, allocate, believe
from negrl.budget.amount import AUTO, Budget, parse_budget
from negrl.budget.passrate import PassRate, pass_rate
from negrl.budget.rounds import Drawn, Round, left, next_size, stop_reason

__all__ = [
    "AUTO",
    "GROUP",
    "Allocation",
    "Band",
    "Budget",
    "Drawn",
    "PassRate",
    "Round",
    "allocate",
    "believe",
    "left",
    "next_size",
    "parse_budget",
    "pass_rate",
    "stop_reason",
]
