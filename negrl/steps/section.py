"""The parts of the recipe's `label` section that say what a step is and what it weighs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from negrl.options import Section


class SplitSection(Section):
    """How a response is cut into steps."""

    split: str = "newline"
    """Where a step ends: newline, blank_line, sentence, semicolon, chain, pattern, or a splitter of a plugin."""
    min_chars: int = Field(1, ge=1)
    """Shorter steps are merged with a neighbor."""
    max_steps: int = Field(32, ge=1)
    """A response with more steps than this has neighboring steps grouped."""


class CreditSection(Section):
    """How advantages become labels and weights."""

    dead_zone: float = Field(0.2, ge=0, lt=1)
    """Advantages no larger than this get no weight, whatever their interval."""
    require_significance: bool = False
    """Also drop advantages whose interval contains 0."""
    value_band: tuple[float, float] = (0.1, 0.9)
    """Keep only traces of problems whose V_0 lies in this band."""
    after_pit: Literal["drop", "keep"] = "drop"
    """Steps after the pit of a wrong trace: no weight, or weight as measured."""
    shuffle: bool = False
    """A control: deals the weights of a round's steps out among them at random, which must not help (step_advantage,
    with anchor 0; pits are forgotten, so there are no step pairs)."""

    @field_validator("value_band")
    @classmethod
    def _rising(cls, band: tuple[float, float]) -> tuple[float, float]:
        low, high = band
        if not 0 <= low < high <= 1:
            raise ValueError(f"expected two rising numbers in [0, 1], not [{low}, {high}]")
        return band
