"""Labelers, by name: each puts values and advantages on the steps of traces.

A new one is a module here that declares a `LabelerSpec`: its name, its options, what it needs and how it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from negrl.labelers.base import Ask, Branch, Labeler, LabelerSpec, Opening, Outcome, Task
from negrl.records import Problem
from negrl.registry import Registry

__all__ = ["LABELERS", "Ask", "Branch", "Labeler", "LabelerSpec", "Opening", "Outcome", "Task", "open_labeler"]

LABELERS: Registry[LabelerSpec] = Registry("labeler", LabelerSpec, "negrl.labelers")
"""By the name that `label.labeler` takes."""


def open_labeler(section: Any, value: Callable[[Problem, str], float] | None = None) -> Labeler:
    """The labeler that a `LabelSection` (negrl/labeling) names.

    Args:
        value: the world's oracle, where the problems have one.

    Raises:
        InputError: the labeler cannot be opened with these settings or for these problems.
    """
    return _open(section.labeler, section, value)


def _open(name: str, section: Any, value: Callable[[Problem, str], float] | None) -> Labeler:
    def part(other: str, **changes: Any) -> Labeler:
        return _open(other, section.model_copy(update=changes), value)

    spec = LABELERS[name]
    labeler = spec.open(Opening(_Declared(spec, section), value, part))
    if labeler.name != name:
        raise ValueError(f"labeler {name} calls itself {labeler.name}, which is what its steps would be labeled with")
    return labeler


class _Declared:
    """The settings that a labeler declares, and no others."""

    def __init__(self, spec: LabelerSpec, section: Any):
        self._name, self._section = spec.name, section
        self._readable = {*spec.options.model_fields, *spec.reads, "confidence"}
        if unknown := self._readable - set(type(section).model_fields):
            raise AttributeError(f"labeler {self._name} reads {unknown.pop()}, which is not a key of the label section")

    def __getattr__(self, name: str) -> Any:
        if name not in self._readable:
            raise AttributeError(
                f"labeler {self._name} reads label.{name} but does not declare it: add it to its `options` or `reads`, "
                "so that it becomes part of the stage's key"
            )
        return getattr(self._section, name)
