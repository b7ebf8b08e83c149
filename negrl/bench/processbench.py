"""`negrl bench processbench`: does a labeler find the first wrong step of a solution?

ProcessBench (Zheng et al. 2024, arXiv:2412.06559): solutions already cut into steps, each with the index of
its first wrong step, or -1. A labeler's answer is the first step that it calls pit, bad or spurious, else
-1. Error accuracy is the share of exact answers among the solutions with a wrong step, correct accuracy
among those without, F1 their harmonic mean. Beside that: how often a step that was found is one.
"""

from __future__ import annotations

import random
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from negrl.bench.page import render
from negrl.bench.stats import CONFIDENCE, interval
from negrl.errors import InputError
from negrl.files import column, read_rows, text_value
from negrl.labelers import LABELERS, Task, open_labeler
from negrl.recipe import LabelSection
from negrl.records import CORRECT, INCORRECT, Problem
from negrl.steps.credit import label_steps
from negrl.steps.split import Span
from negrl.steps.values import exact, wilson
from negrl.store import write_atomic
from negrl.terminal import safe

if TYPE_CHECKING:
    from negrl.labelers import Labeler

_RESAMPLES = 2000
_FOUND = ("pit", "bad", "spurious")


@dataclass(frozen=True, slots=True)
class Row:
    """One solution. `label`: index of its first wrong step, -1 without one."""

    row_id: str
    problem: str
    steps: list[str]
    label: int
    final_answer_correct: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Counts over (label, predicted) pairs. Of the found: `exact` are the first wrong step, `later` come after
    it, `earlier` before it, `unfounded` are in solutions without a wrong step."""

    name: str
    ids: list[str]
    """Of the solutions, in the order of `pairs`."""
    pairs: list[tuple[int, int]]

    def count(self, wrong: bool, right: bool | None = None) -> int:
        """Solutions with (`wrong`) or without a wrong step; of those, the ones answered right or not."""
        return sum((label >= 0) == wrong and right in (None, label == found) for label, found in self.pairs)

    @property
    def exact(self) -> int:
        return sum(found >= 0 and found == label for label, found in self.pairs)

    @property
    def later(self) -> int:
        return sum(0 <= label < found for label, found in self.pairs)

    @property
    def earlier(self) -> int:
        return sum(0 <= found < label for label, found in self.pairs)

    @property
    def unfounded(self) -> int:
        return sum(label < 0 <= found for label, found in self.pairs)

    @property
    def found(self) -> int:
        return sum(found >= 0 for _, found in self.pairs)


def main(files: list[Path], labeler: str, out: Path | None) -> None:
    """Score a labeler on ProcessBench files, print the table and write it to `out`.

    Raises:
        InputError: a file or row is not ProcessBench's, or the labeler is unknown or needs a policy.
    """
    section, judge = _open(labeler)
    scores = []
    for file in files:
        rows = read(file)
        found = predict(rows, judge, section)
        pairs = [(row.label, p) for row, p in zip(rows, found, strict=True)]
        scores.append(Score(file.name.split(".")[0], [row.row_id for row in rows], pairs))
    if len(scores) > 1:
        ids, pairs = [i for s in scores for i in s.ids], [pair for s in scores for pair in s.pairs]
        scores.append(Score("all", ids, pairs))
    text = page(scores, labeler, files, out)
    print(text, end="")
    if out is not None:
        write_atomic(out, text.encode())


def _open(name: str) -> tuple[LabelSection, Labeler]:
    try:
        LABELERS.get_or_refuse(name)
    except ValueError as error:
        raise InputError(f"--labeler: {error}") from None
    section = LabelSection.model_validate({"labeler": name})
    labeler = open_labeler(section)
    if labeler.needs:
        raise InputError(
            f"--labeler {name}: it lets a policy finish the solutions and checks the answers, but ProcessBench "
            "files have no gold answers; without a policy: arithmetic, none"
        )
    return section, labeler


def read(file: Path) -> list[Row]:
    """The rows of a ProcessBench file.

    Raises:
        InputError: names the file and line, and the column that is wrong.
    """
    rows = []
    for line, raw in read_rows(file, what="solutions"):
        where = f"{file}:{line}"
        steps, label = column(raw, "steps", where), column(raw, "label", where)
        right = column(raw, "final_answer_correct", where)
        if not isinstance(steps, list) or not steps:
            raise InputError(f"{where}: column 'steps' must be a list of texts with at least one")
        steps = [text_value(step, "steps", where) for step in steps]
        if not isinstance(label, int) or isinstance(label, bool) or not -1 <= label < len(steps):
            raise InputError(
                f"{where}: column 'label' must be a step's index (0 to {len(steps) - 1}) or -1, not {label!r:.40}"
            )
        if not isinstance(right, bool):
            raise InputError(f"{where}: column 'final_answer_correct' must be true or false, not {right!r:.40}")
        problem = text_value(raw.get("problem", ""), "problem", where)
        rows.append(Row(str(raw.get("id", line)), problem, steps, label, right))
    return rows


def predict(rows: Sequence[Row], labeler: Labeler, section: LabelSection) -> list[int]:
    """For each solution the first step that the labeler, through credit, calls pit, bad or spurious; else -1.
    The steps are the file's own, one stand-in token each."""
    labeler.start(
        [
            Task(
                Problem(row.row_id, "processbench", "test", "apache-2.0", row.problem, ""),
                CORRECT if row.final_answer_correct else INCORRECT,
                exact(0.5),
                [Span(i, i + 1, step) for i, step in enumerate(row.steps)],
            )
            for row in rows
        ]
    )
    if labeler.ask():
        raise ValueError(f"{labeler.name} asks for rollouts")
    out = []
    for i, row in enumerate(rows):
        verdict = CORRECT if row.final_answer_correct else INCORRECT
        labels = label_steps(labeler.values(i), labeler.advantages(i), verdict, section)
        out.append(next((at for at, label in enumerate(labels) if label in _FOUND), -1))
    return out


def page(scores: Sequence[Score], labeler: str, files: Sequence[Path], out: Path | None) -> str:
    """The results as a page."""
    command = f"negrl bench processbench {shlex.join(map(str, files))} --labeler {labeler}"
    command += f" --out {shlex.quote(str(out))}" if out else ""
    last = scores[-1]
    others = [(safe(i, 60), a, b) for i, (a, b) in zip(last.ids, last.pairs, strict=True) if b >= 0 and a != b]
    return render("processbench.md", command=command, scores=scores, share=_share, f1=_f1, others=others)


def _share(part: int, whole: int) -> str:
    if not whole:
        return "–"
    low, high = wilson(part, whole, CONFIDENCE)
    return f"{part / whole:.1%} ({part} of {whole}) [{100 * low:.1f}, {100 * high:.1f}]"


def f1(error: float, correct: float) -> float:
    """The harmonic mean of the two accuracies; 0 where both are 0."""
    return 2 * error * correct / (error + correct) if error + correct else 0.0


def _f1(score: Score) -> str:
    """F1 in percent, with its interval by bootstrap over solutions with and without a wrong step."""
    groups = [[found == label for label, found in score.pairs if (label >= 0) == wrong] for wrong in (True, False)]
    if not all(groups):
        return "–"
    rng = random.Random(0)
    drawn = [f1(*(sum(rng.choices(g, k=len(g))) / len(g) for g in groups)) for _ in range(_RESAMPLES)]
    low, high = interval(drawn)
    value = f1(*(sum(g) / len(g) for g in groups))
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
