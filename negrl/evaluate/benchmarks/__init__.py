"""Math benchmarks by name, one short file each. A new one is a file and a line here."""

from __future__ import annotations

from negrl.errors import InputError, nearest
from negrl.evaluate.benchmarks.aime24 import AIME24
from negrl.evaluate.benchmarks.aime25 import AIME25
from negrl.evaluate.benchmarks.amc23 import AMC23
from negrl.evaluate.benchmarks.base import Benchmark, Row, Source
from negrl.evaluate.benchmarks.gsm8k import GSM8K
from negrl.evaluate.benchmarks.math import MATH
from negrl.evaluate.benchmarks.math500 import MATH500
from negrl.evaluate.benchmarks.minerva import MINERVA
from negrl.evaluate.benchmarks.olympiadbench import OLYMPIADBENCH
from negrl.evaluate.benchmarks.svamp import SVAMP

__all__ = ["BENCHMARKS", "Benchmark", "Row", "Source", "pick"]

BENCHMARKS = {b.name: b for b in (GSM8K, SVAMP, MATH500, MATH, AIME24, AIME25, AMC23, MINERVA, OLYMPIADBENCH)}


def pick(names: str) -> list[Benchmark]:
    """The benchmarks of a comma-separated list, in its order, each once.

    Raises:
        InputError: a name is unknown (says the nearest), or there is none.
    """
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in wanted:
        if name not in BENCHMARKS:
            raise InputError(
                f"--benchmark: unknown benchmark '{name}'{nearest(name, BENCHMARKS)}; one of {', '.join(BENCHMARKS)}"
            )
    if not wanted:
        raise InputError(f"--benchmark: expected one or more of {', '.join(BENCHMARKS)}")
    return [BENCHMARKS[name] for name in wanted]
