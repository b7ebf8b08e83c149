"""GSM8K (Cobbe et al. 2021, arXiv:2110.14168): 1,319 grade-school word problems; the gold follows ####."""

from __future__ import annotations

from typing import Any

from negrl.errors import InputError
from negrl.evaluate.benchmarks.base import Benchmark, Row, Source, either
from negrl.problems.gsm8k import split_answer


def read(row: dict[str, Any], where: str) -> Row:
    parts = split_answer(either(row, ("answer",), where))
    if parts is None:
        raise InputError(f"{where}: problem without gold: 'answer' must end in '#### <number>'")
    return Row(either(row, ("question",), where), parts[1], parts[0])


TRAIN = Source(7473, "openai/gsm8k", "train", ("gsm8k_train.jsonl.gz",), read, ("main",))

GSM8K = Benchmark(
    name="gsm8k",
    title="GSM8K",
    license="MIT",
    source=Source(1319, "openai/gsm8k", "test", ("gsm8k_test.jsonl.gz",), read, ("main",)),
    # As in the recipes (problems.template), so that a model is asked as it was trained.
    template="Question: {prompt}\nAnswer:\n",
    stop=("\nQuestion:",),
    shots=TRAIN,
)
