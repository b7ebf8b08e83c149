"""Mistakes a user can mend: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Something the user gave is wrong. The message is one line that names the file, key or row,
    what was expected and, where there is one, the nearest right thing."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the candidate closest to `name`, or an empty string."""
    match = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f" (did you mean '{match[0]}'?)" if match else ""
