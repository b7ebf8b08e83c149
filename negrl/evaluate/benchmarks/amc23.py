"""AMC 12 2023 (A and B): the 40 problems whose answer is a number, without their options."""

from __future__ import annotations

from typing import Any

from negrl.evaluate.benchmarks.aime24 import LICENSE
from negrl.evaluate.benchmarks.base import Benchmark, Row, Source, either, number
from negrl.evaluate.benchmarks.math import TRAIN
from negrl.files import column


def read(row: dict[str, Any], where: str) -> Row:
    return Row(either(row, ("question", "problem"), where), number(column(row, "answer", where), "answer", where))


AMC23 = Benchmark(
    name="amc23",
    title="AMC 2023",
    license=LICENSE,
    source=Source(40, "math-ai/amc23", "test", ("amc23.jsonl",), read),
    shots=TRAIN,
    note="40 problems: use --n 16 or more; the interval stays wide.",
)
