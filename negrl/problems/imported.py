"""Existing traces in place of sampled ones: a JSON lines file with prompts and responses.

A row: {"question": "...", "ground_truth": "...", "6b_finetuning": {"solution": "...", "is_correct":
false}}. Each response column makes one trace of the row's problem. The same prompt may be in several
rows. A gold column that holds a whole GSM8K-style solution (last line `#### x` or `A: x`) gives the
gold answer and the reference solution.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import model_validator

from negrl.errors import InputError
from negrl.files import column, gold_value, read_rows, text_value
from negrl.options import Section
from negrl.problems.gsm8k import split_answer
from negrl.problems.templates import fill
from negrl.records import Json, Problem, stable_id


class TracesSection(Section):
    """Existing traces in place of sampled ones. Column names may be dotted paths."""

    path: str
    prompt: str = "prompt"
    response: str | list[str] = "response"
    """One column, or several: each becomes a trace of the row's problem."""
    gold: str = "gold"
    label: str | list[str] | None = None
    """The file's own right/wrong column(s), compared with our verdicts in the report."""
    license: str = "unknown"
    template: str = "{prompt}"

    @model_validator(mode="after")
    def _as_many_labels(self) -> TracesSection:
        if self.label is not None and len(self.labels) != len(self.responses):
            raise ValueError(f"traces.label names {len(self.labels)} columns, traces.response {len(self.responses)}")
        return self

    @property
    def responses(self) -> list[str]:
        return [self.response] if isinstance(self.response, str) else self.response

    @property
    def labels(self) -> list[str]:
        return [] if self.label is None else [self.label] if isinstance(self.label, str) else self.label


@dataclass(frozen=True, slots=True)
class ImportedTrace:
    """A response of the file. `file_label` is the file's own verdict, if it has one; `column` and `line` say where
    the response was."""

    problem_id: str
    response: str
    file_label: bool | None
    column: str
    line: int


def load(section: TracesSection) -> tuple[list[Problem], list[ImportedTrace]]:
    """The distinct problems of the file in order of appearance, and all its traces in file order.

    Raises:
        InputError: names the file and the line or column that is wrong: bad JSON, a missing column,
            a prompt without gold or with two different ones, a response or label of the wrong type.
    """
    fill(section.template, "", "traces.template")
    problems: dict[str, Problem] = {}
    traces: list[ImportedTrace] = []
    labels: list[str | None] = list(section.labels) or [None] * len(section.responses)
    for line, row in read_rows(section.path, what="traces"):
        where = f"{section.path}:{line}"
        problem = _problem(row, section, where, line)
        first = problems.setdefault(problem.problem_id, problem)
        if first.gold != problem.gold:
            raise InputError(
                f"{section.path}: the prompt of line {line} has gold {problem.gold!r:.60}, "
                f"but {first.gold!r:.60} on line {first.meta['line']}"
            )
        for name, label in zip(section.responses, labels, strict=True):
            response = text_value(column(row, name, where), name, where)
            file_label = None if label is None else _label(column(row, label, where), label, where)
            traces.append(ImportedTrace(problem.problem_id, response, file_label, name, line))
    return list(problems.values()), traces


def _problem(row: dict[str, Any], section: TracesSection, where: str, line: int) -> Problem:
    prompt = text_value(column(row, section.prompt, where), section.prompt, where)
    if not prompt.strip():
        raise InputError(f"{where}: column '{section.prompt}' is empty")
    gold_text = gold_value(column(row, section.gold, where), section.gold, where)
    solution, gold = split_answer(gold_text) or (None, gold_text)
    if solution == f"#### {gold}":
        solution = None  # the column held the marked answer and nothing else
    return Problem(
        problem_id=stable_id("imported", prompt),
        source=f"imported:{Path(section.path).name}",
        split="train",
        license=section.license,
        prompt=fill(section.template, prompt, "traces.template"),
        gold=gold,
        solution=solution,
        meta=Json(line=line),
    )


def _label(value: Any, name: str, where: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise InputError(f"{where}: column '{name}' must be true or false, not {value!r:.40}")
