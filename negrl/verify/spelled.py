"""Whole numbers in words: "twelve", "one hundred and five", "twenty-five thousand"."""

from __future__ import annotations

import re

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
SMALL = {word: number for number, word in enumerate(_SMALL.split())}
_ROUND = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
TENS = {word: 20 + 10 * index for index, word in enumerate(_ROUND)}

_ONE_TO_NINE = "|".join(list(SMALL)[1:10])
_UNDER_100 = rf"(?:(?:{'|'.join(TENS)})(?:[ -](?:{_ONE_TO_NINE})\b)?|(?:{'|'.join(SMALL)})\b)"
_UNDER_1000 = rf"(?:(?:{_ONE_TO_NINE}|a) hundred(?:(?: and)? {_UNDER_100})?|{_UNDER_100})"
_SPELLED = re.compile(rf"{_UNDER_1000}(?: thousand(?:,? (?:and )?{_UNDER_1000})?)?(?![A-Za-z])", re.IGNORECASE)


def in_digits(text: str) -> str:
    """A text that starts with a number below a million in words, with these words replaced by digits."""
    match = _SPELLED.match(text)
    if match is None:
        return text
    total = current = 0
    for word in re.findall("[a-z]+", match.group().lower()):
        if word == "thousand":
            total, current = total + current * 1000, 0
        elif word == "hundred":
            current = max(current, 1) * 100
        else:
            current += SMALL.get(word) or TENS.get(word, 0)
    return f"{total + current}{text[match.end() :]}"
