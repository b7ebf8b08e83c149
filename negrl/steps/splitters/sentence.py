r"""Where sentences end, in text with sums in it: not at 3.5, $1.50, Mr. Lee, e.g. this, 1. in a list, J. Smith,
an ellipsis, nor inside $...$, \(...\), \[...\]. The time is linear in the text's length."""

from __future__ import annotations

import re
from bisect import bisect_right

from negrl.steps.splitters.base import Splitter

_MARK = re.compile(
    r"""
    (?P<escaped>\\[^()\[\]\n])
  | (?P<math>\\[()\[\]]|\$\$?)
  | (?P<newline>\n(?:[^\S\n]*\n)*)
  | (?P<end>(?<![.!?\u2026])[.!?\u2026]+["'\u201d\u2019)\]*_}]*)(?=\s|\Z)(?![^\S\n]*\n)
    """,
    re.VERBOSE,
)
_CLOSES = {"\\(": "\\)", "\\[": "\\]", "$": "$", "$$": "$$"}
_LONGEST_MATH = 2000  # characters: an opening sign with no end that near is just a sign
_LOOK_BACK = 40  # characters: enough for the longest abbreviation and the word before it
_NEVER = frozenset(re.findall(r"\S+", "mr mrs ms dr prof st vs e.g i.e eg ie approx ca cf fig eq sec vol pp"))
"""Abbreviations that something always follows."""
_BEFORE_CAPITAL = frozenset(
    re.findall(r"\S+", "etc a.m p.m jr sr inc ltd co corp dept est avg min max hr hrs oz lb lbs ft sq")
)
"""Those that may end a sentence, if the next word begins like one."""
_LAST_WORD = re.compile(r"(?:^|(?<=[\s(\[\"'\u201c*_]))[^\W\d_]+(?:\.[^\W\d_]+)*\Z")
_LIST_NUMBER = re.compile(r"(?:^|\n)[ \t>#*_(-]{0,12}(?:[0-9]{1,3}|[A-Za-z]|[ivx]{1,4})\Z")
_INITIAL = re.compile(r"(?:^|[\n.!?]\s*|\b[A-Z][\w.'-]*\s+)(?:[A-Z]\.\s?)*[A-Z]\Z")

_NEXT_INITIAL = re.compile(r"\s?[A-Z]\.\s?[A-Z]")


def sentence_ends(text: str) -> list[int]:
    """Character offsets where a sentence or a line ends, rising. A line's end is after its newlines, a
    sentence's right after its stop: the space that follows belongs to the next."""
    marks = list(_MARK.finditer(text))
    closing = {sign: [m.start() for m in marks if m.group() == sign] for sign in set(_CLOSES.values())}
    ends: list[int] = []
    closed = 0  # inside mathematics until here
    for mark in marks:
        at, sign = mark.start(), mark.group()
        if at < closed or mark.lastgroup == "escaped":
            continue
        if mark.lastgroup == "math":
            closed = max(closed, _math_end(text, at, sign, closing))
        elif mark.lastgroup == "newline" or _is_end(text, mark):
            ends.append(mark.end())
    return ends


def _math_end(text: str, at: int, sign: str, closing: dict[str, list[int]]) -> int:
    """Where the mathematics that `sign` opens at `at` ends; 0 when it opens none."""
    if sign not in _CLOSES:
        return 0
    begin = at + len(sign)
    later = closing[_CLOSES[sign]]
    i = bisect_right(later, at)
    if i == len(later) or later[i] - at > _LONGEST_MATH:
        return 0
    end = later[i]
    if sign == "$":  # a currency sign, unless text touches both from inside: He has $5. She has $7.
        inside = text[begin:end]
        touching = inside[:1].strip() and inside[-1:].strip() and "\n" not in inside
        if not touching or text[end + 1 : end + 2].isdigit():
            return 0
    return end + len(_CLOSES[sign])


def _is_end(text: str, mark: re.Match[str]) -> bool:
    stop = mark["end"].rstrip("\"'\u201d\u2019)]*_}")
    if stop != ".":
        return not (stop.startswith("..") or "\u2026" in stop)  # ! and ? end, an ellipsis does not
    before = text[max(0, mark.start() - _LOOK_BACK) : mark.start()]
    following = text[mark.end() : mark.end() + 8].lstrip()[:1]
    if _LIST_NUMBER.search(before) and (mark.start() <= _LOOK_BACK or "\n" in before):
        return False
    word = _LAST_WORD.search(before)
    name = word.group().lower() if word else ""
    if name in _NEVER:
        return False
    if name == "no" and following.isdigit():  # No. 5
        return False
    if name in _BEFORE_CAPITAL or "." in name:  # U.S.
        return following.isupper() or not following
    initial = _INITIAL.search(before) or (len(name) == 1 and _NEXT_INITIAL.match(text, mark.end()))
    return not (following.isupper() and initial)


SENTENCE = Splitter("sentence", lambda text, settings: sentence_ends(text))
