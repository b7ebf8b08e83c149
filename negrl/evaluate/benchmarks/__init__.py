"""Math benchmarks by name. Each is one short file that declares a `Benchmark`."""

from __future__ import annotations

from negrl.errors import InputError
from negrl.evaluate.benchmarks.base import BENCHMARKS, Benchmark, Row, Source

__all__ = ["BENCHMARKS", "Benchmark", "Row", "Source", "pick"]


def pick(names: str) -> list[Benchmark]:
    """The benchmarks of a comma-separated list, in its order, each once.

    Raises:
        InputError: a name is unknown (says the nearest), or there is none.
    """
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not wanted:
        raise InputError(f"--benchmark: expected one or more of {', '.join(BENCHMARKS)}")
    try:
        return [BENCHMARKS.get_or_refuse(name) for name in wanted]
    except ValueError as error:
        raise InputError(f"--benchmark: {error}") from None
