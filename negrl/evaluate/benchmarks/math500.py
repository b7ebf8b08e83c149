"""MATH-500 (Lightman et al. 2023, arXiv:2305.20050): the 500 test problems of MATH that PRM800K holds out."""

from __future__ import annotations

from negrl.evaluate.benchmarks.base import Benchmark, Source
from negrl.evaluate.benchmarks.math import LICENSE, TRAIN, read

MATH500 = Benchmark(
    name="math500",
    title="MATH-500",
    license=LICENSE,
    source=Source(500, "HuggingFaceH4/MATH-500", "test", ("math500.jsonl",), read),
    shots=TRAIN,
    note="PRM800K's training data holds the other 4,500 test problems of MATH, not these.",
)
