"""One line of a `ledger` solution: written in one of several wordings, and read back whatever its wording."""

from __future__ import annotations

import re
from dataclasses import dataclass

WORDINGS = 3
"""Ana has 12 + 7 = 19 apples. / So Ana has 12 + 7 = 19 apples. / 12 + 7 = 19, so Ana has 19 apples."""
_NUMBER = r"-?[0-9]{1,18}"
_SUM = rf"(?P<a>{_NUMBER}) (?P<op>[-+*/]|max|min) (?P<b>{_NUMBER}) = (?P<result>{_NUMBER})"
_HEAD_FIRST = re.compile(rf"(?P<so>So )?(?P<head>.*?) {_SUM} (?P<tail>.*)")
_SUM_FIRST = re.compile(rf"{_SUM}, so (?P<head>.*?) (?P<said>{_NUMBER}) (?P<tail>.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """`{head} {a} {op} {b} = {result} {tail}`, and the result as the words say it."""

    head: str
    a: int
    op: str
    b: int
    result: int
    said: int
    tail: str


def write_line(head: str, a: int, op: str, b: int, result: int, tail: str, wording: int = 0) -> str:
    """A line in the wording of that index."""
    worked = f"{a} {op} {b} = {result}"
    if wording == 0:
        return f"{head} {worked} {tail}"
    head = head.replace("Together", "together")
    return f"So {head} {worked} {tail}" if wording == 1 else f"{worked}, so {head} {result} {tail}"


def read_line(text: str) -> Line | None:
    """A line of any wording, its head as it stands at the beginning of a line; None if it is no such line."""
    match = _SUM_FIRST.fullmatch(text) or _HEAD_FIRST.fullmatch(text)
    if match is None:
        return None
    found = match.groupdict()
    head, said = found["head"], found.get("said") or found["result"]
    if found.get("so") or "said" in found:
        head = head.replace("together", "Together")
    a, b, result = (int(found[name]) for name in ("a", "b", "result"))
    return Line(head, a, found["op"], b, result, int(said), found["tail"])
