"""The recipe's `verify` section: which answers are right."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from negrl.errors import nearest
from negrl.options import Section, unkeyed
from negrl.verify.extract import EXTRACTORS


class VerifySection(Section):
    extract: str = "auto"
    """Where the answer stands: auto (any explicit mark), boxed, hash, answer_line, answer_is, last_number, chain,
    path, conclusion."""
    conclusion: bool = False
    """Where nothing is marked, read the last sentence if exactly one value can be its answer (method `conclusion`).
    `negrl verify` and `negrl evaluate` do; for training a marked answer is asked for."""
    unevaluated: Literal["accept", "undecided"] = "undecided"
    """Of an answer with an integral, sum, product, limit or binomial that the gold answer has not."""
    timeout: float = Field(5.0, gt=0)
    """Seconds for one equivalence check; then its worker process is killed and the verdict is undecided."""
    memory_mb: int = Field(1024, ge=256)
    """Memory of one worker process: a check that needs more is undecided."""
    workers: int = unkeyed(1, ge=1)
    """Worker processes for the checks that need math-verify."""

    @field_validator("extract", mode="before")
    @classmethod
    def _known(cls, extract: Any) -> Any:
        known = ["auto", *EXTRACTORS]
        if extract not in known:
            raise ValueError(f"unknown way '{extract}'{nearest(str(extract), known)}; one of {', '.join(known)}")
        return extract
