r"""GSM8K (Cobbe et al. 2021, MIT license): from local JSON lines files, or openai/gsm8k on the hub.

A row: {"question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many
clips in May. How many clips did Natalia sell altogether in April and May?", "answer": "Natalia sold
48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether in April and
May.\n#### 72"}. The calculator notes <<...>> are removed from the reference solution; the gold answer
is what follows ####, without thousands separators.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from negrl.errors import InputError
from negrl.files import column, read_rows, text_value
from negrl.problems.base import ProblemSet, ProblemsSection, Source
from negrl.problems.templates import fill
from negrl.records import Json, Problem, stable_id

HUB_ID = "openai/gsm8k"
_NOTE = re.compile(r"<<[^<>\n]*>>")
_FINAL = re.compile(r"(?:####|^A:)[ \t]*(\S[^\n]*?)\s*\Z", re.MULTILINE)
Rows = Iterable[tuple[str, dict[str, Any]]]


class Gsm8kProblems(ProblemsSection):
    path: str | None = None
    """A local JSON lines file (plain or .gz) to train on. Default: openai/gsm8k from the hub."""
    evaluate_path: str | None = None
    train: int | None = Field(None, ge=1)
    """Use only this many, from the start. Default: all."""
    evaluate: int | None = Field(None, ge=1)
    template: str = "Question: {prompt}\nAnswer:\n"


def split_answer(text: str) -> tuple[str, str] | None:
    """(solution that ends in `#### gold`, gold) of a GSM8K answer text; its last line may be written
    `#### x` or `A: x`. None for any other text."""
    match = _FINAL.search(text)
    if match is None:
        return None
    gold = match[1].replace(",", "")
    return f"{_NOTE.sub('', text[: match.start()])}#### {gold}", gold


def load(section: Gsm8kProblems) -> ProblemSet:
    """Training and held-out problems.

    Training comes from `path`, else from the hub's train split; held-out problems come from
    `evaluate_path`, else, with a local `path`, from its last `evaluate` rows (none if `evaluate` is
    not set: a local source never uses the network), else from the hub's test split.

    Raises:
        InputError: a file or row is wrong, a question comes twice, or the hub cannot be reached.
    """
    fill(section.template, "", "problems.template")
    held_out: list[Problem] = []
    train = _problems(_local(section.path) if section.path else _hub("train"), "train", section.template)
    if section.evaluate_path or not section.path:
        rows = _local(section.evaluate_path) if section.evaluate_path else _hub("test")
        held_out = _problems(rows, "evaluate", section.template)[: section.evaluate]
    elif section.evaluate:
        if section.evaluate >= len(train):
            raise InputError(
                f"problems.evaluate: {section.evaluate} held-out problems leave none of the {len(train)} "
                f"in {section.path} for training"
            )
        train, last = train[: -section.evaluate], train[-section.evaluate :]
        held_out = [dataclasses.replace(p, split="evaluate") for p in last]
    known = {p.problem_id for p in train}
    if shared := [p for p in held_out if p.problem_id in known]:
        raise InputError(
            f"{section.evaluate_path or HUB_ID}: {len(shared)} held-out problems are training problems too, "
            f"the first at {shared[0].meta['where']}"
        )
    return ProblemSet(train[: section.train], held_out)


def _problems(rows: Rows, split: str, template: str) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for where, row in rows:
        question = text_value(column(row, "question", where), "question", where).strip()
        parts = split_answer(text_value(column(row, "answer", where), "answer", where))
        if parts is None:
            raise InputError(f"{where}: problem without gold: 'answer' must end in '#### <number>'")
        problem_id = stable_id("gsm8k", question)
        if problem_id in seen:
            raise InputError(f"{where}: the same question as {seen[problem_id]}")
        seen[problem_id] = where
        solution, gold = parts
        problems.append(
            Problem(
                problem_id=problem_id,
                source="gsm8k",
                split=split,
                license="MIT",
                prompt=fill(template, question, "problems.template"),
                gold=gold,
                solution=solution,
                meta=Json(where=where),
            )
        )
    return problems


def _local(path: str) -> Rows:
    return [(f"{path}:{number}", row) for number, row in read_rows(path)]


def _hub(split: str) -> Rows:
    """One split from the hub (or from its cache on this machine)."""
    import datasets
    import httpx

    try:
        table = datasets.load_dataset(HUB_ID, "main", split=split)
    # OSError covers a missing data set, offline mode and a full disk; datasets says ValueError when
    # only other configurations are cached.
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise InputError(
            f"{HUB_ID}: could not be loaded from the hub ({type(error).__name__}); give a local copy as "
            f"problems.{'path' if split == 'train' else 'evaluate_path'}"
        ) from None
    return [(f"{HUB_ID}/{split}:{index + 1}", dict(row)) for index, row in enumerate(table)]


SOURCE = Source("gsm8k", Gsm8kProblems, load)
