"""An amount of tokens as a recipe has it: 180000, 500k, 1.5M, or auto."""

from __future__ import annotations

import re
from typing import Any, Literal

AUTO: Literal["auto"] = "auto"
Budget = int | Literal["auto"]

_SIZES = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "b": 1_000_000_000}
_AMOUNT = re.compile(r"(\d[\d_,]*(?:\.\d+)?)\s*([kmgb]?)", re.IGNORECASE)


def parse_budget(given: Any) -> Budget:
    """Tokens, or "auto".

    Raises:
        ValueError: it is neither, or less than one token.
    """
    text = str(given).strip()
    if text.lower() == AUTO:
        return AUTO
    found = None if isinstance(given, bool) else _AMOUNT.fullmatch(text)
    amount = 0 if found is None else round(float(re.sub("[_,]", "", found[1])) * _SIZES[found[2].lower()])
    if amount < 1:
        raise ValueError(f"expected a number of tokens, as 500k or 2M, or auto; not {given!r}")
    return amount
