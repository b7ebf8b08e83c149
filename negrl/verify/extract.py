"""Find the answer in a response. Every way of finding it is explicit and has a name.

Text inside <think>...</think> does not count; a <think> that never closes means that there is no answer.
Nothing here guesses: `auto` tries the explicit markers (boxed, hash, answer_line, answer_is) and never falls
back to `last_number`, because a number picked out of prose is often not the answer and would turn a right
trace into a negative. To use `last_number`, ask for it by name.
All scans are linear in the length of the text, because a model wrote it and it may be hostile.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\boxed\s+(?P<bare>[0-9]+)|\\.|[{}]", re.DOTALL)
_BETWEEN_BOXES = re.compile(r"[\s$.\\()\[\]]*(?:,|and|or|,\s*and|,\s*or)?[\s$\\()\[\]]*")
_HASH = re.compile(r"####[ \t]*([^\n]*)")
_ANSWER_LINE = re.compile(r"^[ \t]*A:[ \t]*([^\n]*)", re.MULTILINE)
_ANSWER_IS = re.compile(
    r"\banswers?\b[*_]{0,2}(?:[^\n.:=]{0,60}?\b(?:is|are|equals)\b(?:[ \t]*:)?|[ \t]*[:=])[*_]{0,2}", re.IGNORECASE
)
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|\*\*([^*\n]+)\*\*", re.DOTALL)
_JOINT = re.compile(r"\s*(?:,\s*(?:and|or)|,|and|or)\s+(?=[$\\*])")
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)|\n")
_NUMBER = re.compile(r"(?:(?<![\w.)}])-)?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?|(?<![\w.])-?\.\d+")
_NODE = re.compile(r"[1-9][0-9]{1,2}")
_MAX_BOXES = 32
_MAX_ANSWER = 10_000
"""In characters. A longer tail cannot be an answer; only its start is kept, to show why."""


def boxed(text: str) -> str | None:
    r"""The last non-empty \boxed{...}, with braces nested to any depth; several are joined as in `boxes`."""
    values = boxes(text)
    return ", ".join(values) or None


def boxes(text: str) -> list[str]:
    r"""The last non-empty \boxed{...}, and those joined to it by nothing but a comma, "and" or "or".

    A box inside a box belongs to the outer one. When the last box never closes there is none.
    """
    if not _has_box(text):
        return []
    open_braces: list[int] = []  # start of the content for a box, -1 for a plain brace
    closed: list[tuple[int, int]] = []  # closed boxes (content start, content end), outermost only
    last_opened = -1
    for match in _BOX_TOKEN.finditer(text):
        token = match.group()
        if match["bare"]:
            closed.append(match.span("bare"))
        elif token == "{":
            open_braces.append(-1)
        elif token[-1] == "{" and len(token) > 2:
            open_braces.append(match.end())
            last_opened = match.end()
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start >= 0:
                while closed and closed[-1][0] > start:
                    closed.pop()
                closed.append((start, match.start()))
    closed = [(a, b) for a, b in closed if text[a:b].strip()]
    if not closed or (last_opened > closed[-1][1] and not _is_empty_box(text, last_opened)):
        return []
    group = [closed[-1]]
    for before in reversed(closed[-_MAX_BOXES:-1]):
        gap = text[before[1] + 1 : group[-1][0]]
        gap = gap[: gap.rfind("\\")]
        joined = len(gap) < 40 and _BETWEEN_BOXES.fullmatch(gap) and re.search(r",|and|or", gap)
        if not joined:
            break
        group.append(before)
    return list(dict.fromkeys(text[a:b].strip() for a, b in reversed(group)))


def _has_box(text: str) -> bool:
    return "\\boxed" in text or "\\fbox" in text


def _is_empty_box(text: str, start: int) -> bool:
    """`start` is just after the opening brace."""
    return text[start:].lstrip()[:1] == "}"


def hash_mark(text: str) -> str | None:
    """What follows the last `####` on its line (GSM8K)."""
    start = text.rfind("####")
    match = _HASH.match(text, start) if start >= 0 else None
    return match.group(1).strip() or None if match else None


def answer_line(text: str) -> str | None:
    """The last line `A: x` (the GSM8K model solutions)."""
    found = _ANSWER_LINE.findall(text)
    return found[-1].strip() or None if found else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def answer_is(text: str) -> str | None:
    """What follows the last "answer is ..." or "Answer: ...": the formulas or bold texts right after it, else the
    rest of the sentence."""
    last = _last(_ANSWER_IS, text)
    if last is None:
        return None
    tail = text[last.end() : last.end() + _MAX_ANSWER].lstrip(" \t\n:")
    found: list[str] = []  # one formula, or several joined by "and", "or" or a comma
    joint: re.Match[str] | None = _MATH.match(tail)
    while joint and len(found) < _MAX_BOXES:
        found.append(next(g for g in joint.groups() if g is not None).strip())
        between = _JOINT.match(tail, joint.end())
        joint = _MATH.match(tail, between.end()) if between else None
    if found:
        return ", ".join(filter(None, found)) or None
    end = _SENTENCE_END.search(tail)
    return tail[: end.start() if end else None].strip(" \t*_") or None


def last_number(text: str) -> str | None:
    """The last number of the text, with its sign, $ or %."""
    last = _last(_NUMBER, text)
    return last.group().rstrip(",") if last else None


def chain(text: str) -> str | None:
    """The chain world: the digits after the last `!`, at the very end of the response."""
    tail = text[text.rfind("!") + 1 :].strip() if "!" in text else ""
    return tail if tail.isdigit() and tail.isascii() else None


def path(text: str) -> str | None:
    """The stargraph world: the nodes of `10;37;52`, which all have two digits or all three, as one number (103752),
    so that paths are compared exactly, like numbers."""
    nodes = text.strip().split(";")
    return "".join(nodes) if all(_NODE.fullmatch(n) and len(n) == len(nodes[0]) for n in nodes) else None


@dataclass(frozen=True, slots=True)
class Extractor:
    """A way to find the answer. `before`: what stands before an answer that it finds, None where that is not one
    text: a belief (labeler `belief`) is read after it."""

    find: Callable[[str], str | None]
    before: str | None


EXTRACTORS: dict[str, Extractor] = {
    "boxed": Extractor(boxed, "\n\\boxed{"),
    "hash": Extractor(hash_mark, "\n#### "),
    "answer_line": Extractor(answer_line, "\nA: "),
    "answer_is": Extractor(answer_is, "\nThe answer is "),
    "last_number": Extractor(last_number, "\nThe answer is "),
    "chain": Extractor(chain, "!"),
    "path": Extractor(path, None),
}
"""By the name that `verify.extract` takes, beside "auto"."""


def text_before(method: str) -> str | None:
    """What stands before an answer that `method` (a name of EXTRACTORS, or "auto") finds."""
    return EXTRACTORS["hash" if method == "auto" else method].before


def visible(text: str) -> str | None:
    """The text outside <think>...</think>; None when the last <think> never closes. A lone </think>
    ends a block that the prompt opened."""
    if "think>" not in text:
        return text
    if text.rfind("<think>") > text.rfind("</think>"):
        return None
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    return text[text.rfind("</think>") + len("</think>") :] if "</think>" in text else text


def extract(text: str, method: str) -> tuple[str, str] | None:
    """The answer and the name of the method that found it, or None.

    Args:
        text: a whole response.
        method: a name of EXTRACTORS, or "auto". Several joined boxes come back under the name "boxes".
    """
    outside = visible(text)
    if outside is None:
        return None
    if method in ("auto", "boxed") and _has_box(outside):
        found = boxes(outside)  # an empty or unfinished box means no answer, whatever else the text says
        return (", ".join(found)[:_MAX_ANSWER], "boxed" if len(found) == 1 else "boxes") if found else None
    if method != "auto":
        answer = EXTRACTORS[method].find(outside)
        return None if answer is None else (answer[:_MAX_ANSWER], method)
    # "#### 2. Next step" may be a heading and "A: ..." an option; as answers they are on the last line.
    last_line = outside.rstrip().rpartition("\n")[2]
    for name in ("hash", "answer_line", "answer_is"):
        answer = EXTRACTORS[name].find(last_line if name in ("hash", "answer_line") else outside)
        if answer is not None:
            return answer[:_MAX_ANSWER], name
    return None


def gold_answer(gold: str) -> str:
    """The answer in a gold column. A whole reference solution is searched for the same explicit markers (boxed,
    #### and A:); anything else is the answer itself."""
    for name in ("boxed", "hash", "answer_line"):
        answer = EXTRACTORS[name].find(gold)
        if answer is not None:
            return answer
    return gold.strip()
