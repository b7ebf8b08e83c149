"""Problems from any JSON lines file (plain or .gz) that has a prompt and a gold column.

A row: {"prompt": "What is 7*6?", "gold": "42"}. The prompt may be a list of messages, each with a
role and content; the gold may be a number. Column names come from the recipe, dotted paths allowed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pydantic import Field

from negrl.errors import InputError
from negrl.files import column, gold_value, read_rows, text_value
from negrl.problems.base import ProblemSet, ProblemsSection, Source
from negrl.problems.templates import fill
from negrl.records import Json, Message, Problem, stable_id


class JsonlProblems(ProblemsSection):
    path: str
    """JSON lines (plain or .gz)."""
    prompt: str = "prompt"
    gold: str = "gold"
    solution: str | None = None
    """Column with a reference solution, for SFT."""
    evaluate_path: str | None = None
    """Held-out problems. Default: the last `evaluate` of `path`, taken out of training."""
    train: int | None = Field(None, ge=1)
    evaluate: int | None = Field(None, ge=1)
    template: str = "{prompt}"
    license: str = "unknown"


def load(section: JsonlProblems) -> ProblemSet:
    """Training and held-out problems.

    Held-out problems come from `evaluate_path`, else they are the last `evaluate` rows of `path`.

    Raises:
        InputError: names the file, and the line or column, that is wrong: bad JSON, a missing column,
            a problem without gold, the same prompt twice, a held-out problem that is trained on.
    """
    train = _read(section.path, "train", section)
    held_out: list[Problem] = []
    if section.evaluate_path:
        held_out = _read(section.evaluate_path, "evaluate", section)[: section.evaluate]
        lines = {p.problem_id: p.meta["line"] for p in train}
        if shared := [p for p in held_out if p.problem_id in lines]:
            first = shared[0]
            raise InputError(
                f"{section.evaluate_path}: {len(shared)} held-out problems are in {section.path} too, the first at "
                f"line {first.meta['line']} (there line {lines[first.problem_id]})"
            )
    elif section.evaluate:
        if section.evaluate >= len(train):
            raise InputError(
                f"problems.evaluate: {section.evaluate} held-out problems leave none of the {len(train)} "
                f"in {section.path} for training"
            )
        train, last = train[: -section.evaluate], train[-section.evaluate :]
        held_out = [dataclasses.replace(p, split="evaluate") for p in last]
    return ProblemSet(train[: section.train], held_out)


def _read(path: str, split: str, section: JsonlProblems) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for line, row in read_rows(path):
        where = f"{path}:{line}"
        raw = column(row, section.prompt, where)
        messages = None
        if isinstance(raw, list):
            messages, prompt = _messages(raw, section, where)
            problem_id = stable_id("jsonl", [[m.role, m.content] for m in messages])
        else:
            text = text_value(raw, section.prompt, where)
            if not text.strip():
                raise InputError(f"{where}: column '{section.prompt}' is empty")
            prompt = fill(section.template, text, "problems.template")
            problem_id = stable_id("jsonl", prompt)
        if problem_id in seen:
            raise InputError(f"{path}: the same prompt on lines {seen[problem_id]} and {line}")
        seen[problem_id] = line
        gold = gold_value(column(row, section.gold, where), section.gold, where)
        solution = None if section.solution is None else column(row, section.solution, where)
        problems.append(
            Problem(
                problem_id=problem_id,
                source=f"jsonl:{Path(path).name}",
                split=split,
                license=section.license,
                prompt=prompt,
                gold=gold,
                messages=messages,
                solution=None if solution is None else text_value(solution, str(section.solution), where),
                meta=Json(line=line),
            )
        )
    return problems


def _messages(raw: list[Any], section: JsonlProblems, where: str) -> tuple[list[Message], str]:
    """The conversation with the template applied to its last user message, and that message."""
    messages: list[Message] = []
    for item in raw:
        if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
            raise InputError(f"{where}: column '{section.prompt}': each message needs 'role' and 'content'")
        role, content = (text_value(item[k], f"{section.prompt}.{k}", where) for k in ("role", "content"))
        messages.append(Message(role, content))
    users = [i for i, m in enumerate(messages) if m.role == "user" and m.content.strip()]
    if not users:
        raise InputError(f"{where}: column '{section.prompt}': no message of role 'user'")
    prompt = fill(section.template, messages[users[-1]].content, "problems.template")
    messages[users[-1]] = Message("user", prompt)
    return messages, prompt


SOURCE = Source("jsonl", JsonlProblems, load)
