r"""Minerva's OCW courses (Lewkowycz et al. 2022, arXiv:2206.14858): 272 university problems in science and
economics; the gold is the \boxed{} of the solution (the hub's copy has it as a column)."""

from __future__ import annotations

from typing import Any

from negrl.evaluate.benchmarks.base import Benchmark, Row, Source, either, optional
from negrl.evaluate.benchmarks.math import TRAIN
from negrl.files import gold_value
from negrl.verify.boxes import boxed


def read(row: dict[str, Any], where: str) -> Row:
    solution = optional(row, "solution")
    gold = gold_value(row.get("answer") or boxed(solution or ""), "answer", where)
    return Row(either(row, ("problem", "question"), where), gold, solution, subject=optional(row, "type"))


MINERVA = Benchmark(
    name="minerva",
    title="Minerva (OCW courses)",
    license="CC BY-NC-SA (MIT OpenCourseWare; non-commercial)",
    source=Source(272, "math-ai/minervamath", "test", ("minerva_math.jsonl.gz",), read),
    shots=TRAIN,
    note="Numbers are compared exactly, not to a few percent as some do for this set.",
)
