"""Steps that announce themselves: "Step 1:", "## Step 2", or whatever a regular expression of the recipe matches."""

from __future__ import annotations

import re

import pydantic

from negrl.options import Options
from negrl.steps.splitters.base import Splitter


class PatternOptions(Options):
    pattern: str = r"(?m)Step \d+[*_]*:|^[#>*_ \t-]*Step \d+\b"
    """A regular expression that matches where a step begins."""

    @pydantic.field_validator("pattern")
    @classmethod
    def _is_regex(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"'{pattern}' is not a regular expression: {error}") from None
        return pattern


def pattern_starts(text: str, settings: PatternOptions) -> list[int]:
    """Where the pattern matches, including the markdown before it: `## Step 2:`, `**Step 2:**`, `- Step 2:`."""
    found: list[int] = []
    before = 0  # the end of the previous match
    for match in re.finditer(settings.pattern, text):
        at = line = match.start()
        while line > before and text[line - 1] in "#*_>- \t":
            line -= 1
        if line == 0 or text[line - 1] == "\n":
            at = line
        else:
            while at > before and text[at - 1] in "*_":
                at -= 1
        found.append(at)
        before = match.end()
    return found


PATTERN = Splitter("pattern", pattern_starts, PatternOptions)
