r"""MATH (Hendrycks et al. 2021, arXiv:2103.03874): the 5,000 test problems, levels 1-5, seven subjects; the gold
is the last \boxed{} of the solution."""

from __future__ import annotations

import re
from typing import Any

from negrl.evaluate.benchmarks.base import Benchmark, Row, Source, either, optional
from negrl.files import gold_value
from negrl.verify.boxes import boxed

LICENSE = "MIT (contested: the problem texts are AoPS's, DMCA January 2025)"
SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
    "precalculus",
)  # fmt: skip


def read(row: dict[str, Any], where: str) -> Row:
    """A row of MATH or MATH-500. The hub's MATH has no answer column, writes "Level 5" and names subjects `type`."""
    solution = either(row, ("solution",), where)
    gold = gold_value(row.get("answer") or boxed(solution), "answer", where)
    level = re.sub(r"[^0-9]", "", optional(row, "level") or "") or None
    return Row(
        either(row, ("problem",), where), gold, solution, level, optional(row, "subject") or optional(row, "type")
    )


def read_shot(row: dict[str, Any], where: str) -> Row:
    """A training row; two of them have an empty box and so no gold. They are of no use as examples either way."""
    if not (row.get("answer") or boxed(either(row, ("solution",), where))):
        return Row(either(row, ("problem",), where), "", None)
    return read(row, where)


TRAIN = Source(7500, "EleutherAI/hendrycks_math", "train", ("math_train.jsonl.gz",), read_shot, SUBJECTS)

MATH = Benchmark(
    name="math",
    title="MATH",
    license=LICENSE,
    source=Source(
        5000, "EleutherAI/hendrycks_math", "test", ("math500.jsonl", "math_test_minus500.jsonl.gz"), read, SUBJECTS
    ),
    shots=TRAIN,
)
