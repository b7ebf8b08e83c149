"""The recipe's `train` section, and those like it: each arm, `policy.start`, `policy.build.train`."""

from __future__ import annotations

import math
from typing import Any, Literal

import pydantic
from pydantic import Field, field_validator, model_validator

from negrl.budget import Budget, parse_budget
from negrl.errors import nearest
from negrl.methods import METHODS

WAYS = ("replace", "accumulate")


class TrainSection(pydantic.BaseModel):
    """`method`, the method's own options, and any field of the TRL config that it trains with."""

    model_config = pydantic.ConfigDict(extra="allow", use_attribute_docstrings=True)

    method: str = "step_advantage"
    rounds: int | None = Field(None, ge=1)
    budget: Budget | None = Field(None, exclude_if=lambda v: v is None)
    """Tokens to generate, as 500k or 2M, samples and rollouts together; or auto: as long as the pass rate on the
    training problems rises. It decides the number of rounds and the samples and rollouts of each (docs/budget.md)."""
    # Left out of a dump where it is not set: dumps are part of the stages' keys.
    earlier_rounds: Literal["replace", "accumulate"] | float | None = Field(None, exclude_if=lambda v: v is None)
    """Rows of earlier rounds: `replace` (default) drops them, `accumulate` keeps all of them, a number keeps at most
    that many per new row, newest rounds first."""

    @field_validator("earlier_rounds", mode="before")
    @classmethod
    def _known_way(cls, value: Any) -> Any:
        if value is None or value in WAYS:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
            return float(value)
        near = nearest(value, WAYS) if isinstance(value, str) else ""
        raise ValueError(
            f"expected replace, accumulate or a number above 0 (old rows per new one), not {value!r}{near}"
        )

    @field_validator("budget", mode="before")
    @classmethod
    def _an_amount(cls, value: Any) -> Any:
        return None if value is None else parse_budget(value)

    @model_validator(mode="after")
    def _known_fields(self) -> TrainSection:
        method = METHODS.get_or_refuse(self.method)
        method.check_fields(self.fields, others=("rounds", "budget", "earlier_rounds"))
        if self.budget is not None and not method.reads_traces:
            why = "samples while it trains" if method.online else "samples nothing"
            raise ValueError(f"budget: {self.method} {why}; leave it out")
        if self.budget is not None and self.rounds is not None:
            raise ValueError("budget: it decides the number of rounds; leave rounds out")
        if self.keeps_earlier and not method.reads_traces:
            why = "samples anew at every step" if method.online else "reads the same rows in every round"
            raise ValueError(f"earlier_rounds: {self.method} {why}; leave it out")
        return self

    @property
    def keeps_earlier(self) -> bool:
        """Does a round also train on rows of earlier ones?"""
        return self.earlier_rounds not in (None, "replace")

    @property
    def fields(self) -> dict[str, Any]:
        """Everything but `method`, `rounds`, `budget` and `earlier_rounds`: method options and TRL config fields."""
        return dict(self.model_extra or {})

    def over(self, other: TrainSection) -> TrainSection:
        """This section on top of `other`'s fields (those that this method knows)."""
        method = METHODS[self.method]
        known = method.known_fields()
        inherited = {k: v for k, v in other.fields.items() if k in known}
        earlier, budget = self.earlier_rounds, self.budget
        if earlier is None and method.reads_traces:
            earlier = other.earlier_rounds
        if budget is None and self.rounds is None and method.reads_traces:
            budget = other.budget
        return TrainSection(
            method=self.method,
            rounds=None if budget is not None else self.rounds or other.rounds,
            budget=budget,
            earlier_rounds=earlier,
            **{**inherited, **self.fields},
        )
