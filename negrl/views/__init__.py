"""What a trainer reads: training tables derived from labelled traces.

Adding a view is a new module with a `build(inputs, options) -> View`, and a line in `VIEWS`.
Undecided traces are in none of them: not right, and never a negative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from negrl.errors import InputError, nearest
from negrl.methods import Options
from negrl.records import AdvantageRow, PreferenceRow, PromptRow, SftRow, StepValueRow, UnaryRow
from negrl.views import advantage, outcome, preference, process_reward, prompts, rft, sft, step_preference, unary
from negrl.views.inputs import View, ViewInputs

__all__ = ["VIEWS", "View", "ViewInputs", "ViewSpec", "build_view"]


@dataclass(frozen=True, slots=True)
class ViewSpec:
    build: Callable[[ViewInputs, Options], View[Any]]
    row_type: type


VIEWS: dict[str, ViewSpec] = {
    "sft": ViewSpec(sft.build, SftRow),
    "rft": ViewSpec(rft.build, SftRow),
    "preference": ViewSpec(preference.build, PreferenceRow),
    "step_preference": ViewSpec(step_preference.build, PreferenceRow),
    "unary": ViewSpec(unary.build, UnaryRow),
    "advantage": ViewSpec(advantage.build, AdvantageRow),
    "outcome": ViewSpec(outcome.build, AdvantageRow),
    "process_reward": ViewSpec(process_reward.build, StepValueRow),
    "prompts": ViewSpec(prompts.build, PromptRow),
}


def build_view(name: str, inputs: ViewInputs, options: Options) -> View[Any]:
    """Build the table that a method trains on; `options` are the method's own.

    Raises:
        InputError: no view of that name.
    """
    if name not in VIEWS:
        raise InputError(f"unknown view '{name}'{nearest(name, VIEWS)}; one of {', '.join(VIEWS)}")
    return VIEWS[name].build(inputs, options)
