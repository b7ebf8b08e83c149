"""AIME 2024, I and II: 30 problems, the answers whole numbers from 0 to 999."""

from __future__ import annotations

from typing import Any

from negrl.evaluate.benchmarks.base import INSTRUCTION, Benchmark, Row, Source, either, number
from negrl.evaluate.benchmarks.math import TRAIN
from negrl.files import column

LICENSE = "unclear (competition problems of the MAA; for evaluation only)"
NOTE = "30 problems: use --n 16 or more; the interval stays wide."


def read(row: dict[str, Any], where: str) -> Row:
    """A row of AIME 2024 or 2025; one local copy ends each problem with the instruction."""
    question = either(row, ("problem", "question", "prompt"), where).removesuffix(INSTRUCTION).strip()
    return Row(question, number(column(row, "answer", where), "answer", where))


AIME24 = Benchmark(
    name="aime24",
    title="AIME 2024",
    license=LICENSE,
    source=Source(30, "HuggingFaceH4/aime_2024", "train", ("aime24.jsonl",), read),
    shots=TRAIN,
    note=NOTE,
)
