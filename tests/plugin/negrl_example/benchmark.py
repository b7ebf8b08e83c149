"""`two_digits`: four sums from a file, two_digits.jsonl, with rows like {"question": "17+25?", "answer": 42}."""

from typing import Any

from negrl.evaluate.benchmarks import Benchmark, Row
from negrl.evaluate.benchmarks import Source as Rows
from negrl.evaluate.benchmarks.base import either, number


def read(row: dict[str, Any], where: str) -> Row:
    return Row(either(row, ("question",), where), number(row.get("answer"), "answer", where))


BENCHMARK = Benchmark(
    name="two_digits",
    title="Sums of two digits",
    license="MIT",
    source=Rows(4, hub="", split="", files=("two_digits.jsonl",), read=read),
    template="{prompt}",
    stop=(),
    extract="chain",
)
