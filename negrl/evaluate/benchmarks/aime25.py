"""AIME 2025, I and II: 30 problems, the answers whole numbers from 0 to 999."""

from __future__ import annotations

from negrl.evaluate.benchmarks.aime24 import LICENSE, NOTE, read
from negrl.evaluate.benchmarks.base import Benchmark, Source
from negrl.evaluate.benchmarks.math import TRAIN

AIME25 = Benchmark(
    name="aime25",
    title="AIME 2025",
    license=LICENSE,
    source=Source(30, "yentinglin/aime_2025", "train", ("aime25.jsonl",), read),
    shots=TRAIN,
    note=NOTE,
)
