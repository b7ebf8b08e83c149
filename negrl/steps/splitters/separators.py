"""Splitters that cut after a separator: lines, paragraphs, semicolons, and the steps of the world `chain`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from negrl.steps.splitters.base import Splitter


def _after(separator: str) -> Callable[[str, Any], Iterator[int]]:
    pattern = re.compile(separator)
    return lambda text, settings: (match.end() for match in pattern.finditer(text))


# A run of newlines is one separator. Lines with nothing but spaces belong to the run.
NEWLINE = Splitter("newline", _after(r"\n(?:[^\S\n]*\n)*"), help="A step is a line.")
BLANK_LINE = Splitter("blank_line", _after(r"\n(?:[^\S\n]*\n)+"), help="A step is a paragraph.")
SEMICOLON = Splitter("semicolon", _after(r";"), help="A step ends with a semicolon.")
CHAIN = Splitter("chain", _after(r";"), help="The steps of the world chain, which end with a semicolon.")
