"""SVAMP (Patel et al. 2021, arXiv:2103.07191): 1,000 one-step word problems with distracting facts. The hub's
copy is split in two, of which both are used, as is done elsewhere."""

from __future__ import annotations

from typing import Any

from negrl.evaluate.benchmarks.base import Benchmark, Row, Source, either, number, optional
from negrl.evaluate.benchmarks.gsm8k import GSM8K, TRAIN
from negrl.files import column


def read(row: dict[str, Any], where: str) -> Row:
    question = f"{either(row, ('Body',), where)} {either(row, ('Question',), where)}"
    kind = optional(row, "Type")
    subject = kind.replace("Divison", "Division") if kind else None  # misspelt in one row
    return Row(question, number(column(row, "Answer", where), "Answer", where), subject=subject)


SVAMP = Benchmark(
    name="svamp",
    title="SVAMP",
    license="MIT",
    source=Source(1000, "ChilleD/SVAMP", "train+test", ("svamp.jsonl.gz",), read),
    template=GSM8K.template,
    stop=GSM8K.stop,
    shots=TRAIN,
)
