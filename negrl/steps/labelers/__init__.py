"""Labelers by name. Adding one: a module here, and a line in `open_labeler`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from negrl.errors import InputError
from negrl.steps.labelers.base import Ask, Labeler, Outcome, Task
from negrl.steps.labelers.fixed import FixedLabeler
from negrl.steps.labelers.none import NoLabeler
from negrl.steps.labelers.oracle import OracleLabeler

if TYPE_CHECKING:
    from negrl.recipe import LabelSection
    from negrl.records import Problem

__all__ = ["Ask", "FixedLabeler", "Labeler", "NoLabeler", "OracleLabeler", "Outcome", "Task", "open_labeler"]


def open_labeler(section: LabelSection, value: Callable[[Problem, str], float] | None = None) -> Labeler:
    """The recipe's labeler. `value` is the world's oracle, where the problems have one.

    Raises:
        InputError: the recipe asks for the oracle and there is none.
    """
    if section.labeler == "oracle":
        if value is None:
            raise InputError("label.labeler: oracle needs a world with an exact step checker (problems.source: chain)")
        return OracleLabeler(value)
    if section.labeler == "none":
        return NoLabeler()
    return FixedLabeler(section.k, section.confidence)
