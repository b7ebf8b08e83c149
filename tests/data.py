"""The real data beside the checkout. CI has it; without it the tests that read it skip."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def read_rows(name: str) -> list[dict[str, Any]]:
    """The rows of a .jsonl.gz in DATA."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in shared/data")
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]
