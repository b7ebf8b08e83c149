"""Labelers by name. Adding one: a module here, a line in `open_labeler`, and its name in the recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from negrl.errors import InputError
from negrl.labelers.base import Ask, Branch, Labeler, Outcome, Task
from negrl.labelers.bisect import BisectLabeler
from negrl.labelers.consensus import ConsensusLabeler
from negrl.labelers.first_zero import FirstZeroLabeler
from negrl.labelers.fixed import FixedLabeler
from negrl.labelers.none import NoLabeler
from negrl.labelers.oracle import OracleLabeler

if TYPE_CHECKING:
    from negrl.recipe import LabelSection
    from negrl.records import Problem

__all__ = [
    "Ask", "BisectLabeler", "Branch", "ConsensusLabeler", "FirstZeroLabeler", "FixedLabeler", "Labeler", "NoLabeler",
    "OracleLabeler", "Outcome", "Task", "needs_beliefs", "needs_policy", "needs_rollouts", "open_labeler",
]  # fmt: skip

_BY_ROLLOUTS = {"adaptive", "fixed", "bisect", "first_zero"}


def needs_rollouts(section: LabelSection) -> bool:
    """Does the recipe's labeler ask for rollouts?"""
    return not _BY_ROLLOUTS.isdisjoint(section.members)


def needs_beliefs(section: LabelSection) -> bool:
    """Does the recipe's labeler read log p(gold answer | prefix)?"""
    return "belief" in section.members or ("adaptive" in section.members and section.belief is not None)


def needs_policy(section: LabelSection) -> bool:
    """Does the recipe's labeler need the policy in an engine, for rollouts or beliefs?"""
    return needs_rollouts(section) or needs_beliefs(section)


def open_labeler(section: LabelSection, value: Callable[[Problem, str], float] | None = None) -> Labeler:
    """The recipe's labeler. `value` is the world's oracle, where the problems have one.

    Raises:
        InputError: the recipe asks for the oracle and there is none.
    """
    name = section.labeler
    if name == "consensus":
        # Two that are to agree must not have it from each other: beside belief, adaptive goes without it.
        prior = None if "belief" in section.agree else section.belief
        first, second = (
            open_labeler(section.model_copy(update={"labeler": n, "belief": prior if n == "adaptive" else None}), value)
            for n in section.agree
        )
        return ConsensusLabeler(first, second, section)
    if name == "adaptive":
        from negrl.labelers.adaptive import AdaptiveLabeler

        return AdaptiveLabeler(section)
    if name == "belief":
        from negrl.labelers.belief import BeliefLabeler

        return BeliefLabeler(section.confidence, section.best_of)
    if name == "prm":
        from negrl.labelers.prm import PrmLabeler

        return PrmLabeler(section.confidence, section.best_of)
    if name == "arithmetic":
        from negrl.labelers.arithmetic import ArithmeticLabeler

        return ArithmeticLabeler()
    if name == "oracle":
        if value is None:
            raise InputError("label.labeler: oracle needs a world with a step checker (problems.source: chain, ...)")
        return OracleLabeler(value)
    if name == "none":
        return NoLabeler()
    if name == "bisect":
        return BisectLabeler(section.k, section.confidence, section.best_of)
    if name == "first_zero":
        return FirstZeroLabeler(section.k, section.confidence, section.best_of)
    return FixedLabeler(section.k, section.confidence, section.best_of)
