"""Find the answer in a response. Every way of finding it is explicit and has a name.

Text inside <think>...</think>, a comment or a code block does not count (visible.py); a <think> that never closes
means that there is no answer. A marked answer must also be the last word (lastword.py): one that is taken back or
contradicted afterwards has the reason `conflict`. Nothing here guesses: `auto` tries the explicit markers (boxed,
hash, answer_line, answer_is) and never falls back to `last_number`, because a number picked out of prose is often
not the answer and would turn a right trace into a negative. To use `last_number`, ask for it by name. `conclusion`
reads the last sentence (conclusion.py); it has to be enabled and ranks below every mark.
All scans are linear in the length of the text, because a model wrote it and it may be hostile.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from negrl.verify import lastword, numbers, retraction
from negrl.verify.boxes import Span, box_spans, box_start, boxed, contents, has_box
from negrl.verify.conclusion import conclusion
from negrl.verify.visible import unquoted, visible

_HASH = re.compile(r"####[ \t]*([^\n]*)")
_ANSWER_LINE = re.compile(r"[ \t]*A:[ \t]*([^\n]*)")
_ANSWER_IS = re.compile(
    r"\banswers?\b[*_]{0,2}(?:[^\n.:=]{0,60}?\b(?:is|are|equals)\b(?:[ \t]*:)?|[ \t]*[:=])[*_]{0,2}", re.IGNORECASE
)
_CONDITIONAL = re.compile(
    r"\b(?:if|unless|when|whether|would|could|might|may|depends|wrong|incorrect|not)\b", re.IGNORECASE
)
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|\*\*([^*\n]+)\*\*", re.DOTALL)
_JOINT = re.compile(r"\s*(?:,\s*(?:and|or)|,|and|or)\s+(?=[$\\*])")
_SENTENCE_END = re.compile(r"[.;!?](?=\s|$)|\n")
_NUMBER = re.compile(r"(?:(?<![\w.)}])-)?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?|(?<![\w.])-?\.\d+")
_NODE = re.compile(r"[1-9][0-9]{1,2}")
_NEW_CLAUSE = re.compile(
    r"[.!?\n](?=\s|\Z)|\b(?:but|wait|no|not|actually|so|thus|hence|therefore|correct|simply|equivalently|namely)"
)
_BESIDE = 100
_MOST_MARKS = 32
"""Of one kind that are looked at, from the last one backwards; and formulas joined in one answer."""
_MAX_ANSWER = 10_000
"""In characters. A longer tail cannot be an answer; only its start is kept, to show why."""


def hash_mark(text: str) -> str | None:
    """What follows the last `####` on its line (GSM8K)."""
    span = _hash_span(text)
    return text[slice(*span)].strip() or None if span else None


def _hash_span(text: str) -> Span | None:
    start = text.rfind("####")
    match = _HASH.match(text, start) if start >= 0 else None
    return match.span(1) if match else None


def answer_line(text: str) -> str | None:
    """The last line `A: x` (the GSM8K model solutions)."""
    span = _line_span(text)
    return text[slice(*span)].strip() or None if span else None


def _line_span(text: str) -> Span | None:
    at = text.rfind("A:")
    while at >= 0:
        line = text.rfind("\n", 0, at) + 1
        if match := _ANSWER_LINE.match(text, line):
            return match.span(1)
        at = text.rfind("A:", 0, line)
    return None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def answer_is(text: str) -> str | None:
    """What follows the last "answer is ..." or "Answer: ...": the formulas or bold texts right after it, else the
    rest of the sentence."""
    last = _last(_ANSWER_IS, text)
    return None if last is None else _said(text, last.end())[0]


def _said(text: str, start: int) -> tuple[str | None, int]:
    """What is said after "answer is", which ends at `start`; and where that ends."""
    whole = text[start : start + _MAX_ANSWER]
    tail = whole.lstrip(" \t\n:")
    start += len(whole) - len(tail)
    found: list[str] = []  # one formula, or several that are joined by "and", "or" or a comma
    joint: re.Match[str] | None = _MATH.match(tail)
    end = 0
    while joint and len(found) < _MOST_MARKS:
        found.append(next(g for g in joint.groups() if g is not None).strip())
        end = joint.end()
        between = _JOINT.match(tail, end)
        joint = _MATH.match(tail, between.end()) if between else None
    if found:
        return ", ".join(filter(None, found)) or None, start + end
    stop = _SENTENCE_END.search(tail)
    return tail[: stop.start() if stop else None].strip(" \t*_") or None, start + (stop.start() if stop else len(tail))


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
    "conclusion": Extractor(conclusion, "\nThe answer is "),
}
"""By the name that `verify.extract` takes, beside "auto"."""


def text_before(method: str) -> str | None:
    """What stands before an answer that `method` (a name of EXTRACTORS, or "auto") finds."""
    return EXTRACTORS["hash" if method == "auto" else method].before


class Found(NamedTuple):
    """What a response answers. `reason` says why the answer is not to be compared, or why there is none."""

    answer: str | None = None
    method: str | None = None
    reason: str | None = None


NO_ANSWER, CONFLICT, PART = "no_answer", "conflict", "unparsable"
_NONE = Found(None, None, NO_ANSWER)
_MARKS = ("boxed", "hash", "answer_line", "answer_is")


def find(text: str, method: str, conclude: bool = False) -> Found:
    """The answer of a whole response.

    Args:
        method: a name of EXTRACTORS, or "auto". Several joined boxes come back under the name "boxes".
        conclude: read the last sentence where nothing is marked.
    """
    outside = visible(text)
    if outside is None:
        return _NONE
    if method not in ("auto", "conclusion", *_MARKS):
        answer = EXTRACTORS[method].find(outside)
        return _NONE if answer is None else Found(answer[:_MAX_ANSWER], method)
    outside = unquoted(outside)
    found = _marked(outside, method)
    if found is None and (method == "conclusion" or (conclude and method == "auto")):
        rejected = method == "auto" and (has_box(outside) or (_may_say(outside) and _ANSWER_IS.search(outside)))
        answer = None if rejected else conclusion(outside)
        if answer is None:
            return _NONE
        marked = hash_mark(outside) or answer_line(outside)  # on a line before the last
        if marked and numbers.parse(marked) and retraction.contradicts(answer, marked):
            return Found(answer[:_MAX_ANSWER], "conclusion", CONFLICT)
        return Found(answer[:_MAX_ANSWER], "conclusion")
    return found or _NONE


def extract(text: str, method: str) -> tuple[str, str] | None:
    """The answer and the name of the method that found it, or None: no mark, or one that is not the last word."""
    found = find(text, method)
    return (
        None
        if found.reason is not None or found.answer is None or found.method is None
        else (found.answer, found.method)
    )


def _marked(text: str, method: str) -> Found | None:
    """The last answer with the clearest mark."""
    if method in ("auto", "boxed") and has_box(text):
        start_of = functools.partial(box_start, text)
        spans = box_spans(text, lambda span: lastword.asserted(text, start_of(span[0])))
        if spans:
            return _from_boxes(text, spans, start_of(spans[-1][0]))
        if method == "boxed" or not _only_quoted_boxes(text):
            return None  # an empty or unfinished box is no answer, whatever else the text says
    # "#### 2. Next step" may be a heading, "A: ..." an option: as answers they stand on the last line.
    skipped = text.rstrip().rfind("\n") + 1 if method == "auto" else 0
    rest = text[skipped:]
    for name, sign, span in _LINE_MARKS:
        if sign in rest and method in ("auto", name) and (at := span(rest)):
            start, end = at[0] + skipped, at[1] + skipped
            if answer := text[start:end].strip():
                return _checked(text, answer, name, start, end)
            if method == name:
                return None
    return _from_words(text) if method in ("auto", "answer_is") else None


_LINE_MARKS = (("hash", "####", _hash_span), ("answer_line", "A:", _line_span))


def _may_say(text: str) -> bool:
    return "nswer" in text or "NSWER" in text


def _only_quoted_boxes(text: str) -> bool:
    """Are all boxes closed and filled, but none of them the answer?"""
    return bool(box_spans(text))


def _from_boxes(text: str, spans: list[Span], start: int) -> Found:
    texts = contents(text, spans)
    answer, name = ", ".join(texts)[:_MAX_ANSWER], "boxed" if len(texts) == 1 else "boxes"
    end = spans[-1][1] + (text[spans[-1][1] : spans[-1][1] + 1] == "}")
    if _box_beside(text, start, texts):
        return Found(answer, name, CONFLICT)
    if len(spans) == 1:
        if lastword.part_of_more(text, start, end):
            return Found(answer, name, PART)
        if word := lastword.word_after(text, end):
            answer = rf"{answer} \text{{ {word}}}"
    return _checked(text, answer, name, start, end)


def _box_beside(text: str, start: int, texts: Sequence[str]) -> bool:
    r"""Does a box with another content stand shortly before, in the same clause: \boxed{44} and also \boxed{43}?"""
    near = text[max(0, start - _BESIDE) : start]
    at = near.rfind("\\boxed")
    if at < 0:
        return False
    spans = box_spans(near[at:])
    if len(spans) != 1 or not lastword.asserted(text, start - len(near) + at):
        return False
    other = near[at:][slice(*spans[0])].strip()
    if other in texts or not any(retraction.contradicts(answer, other) for answer in texts):
        return False
    between = near[at + spans[0][1] :].strip(" \n$}()\\[]")
    return bool(between) and _NEW_CLAUSE.search(between) is None  # next to one another, the later one counts


def _from_words(text: str) -> Found | None:
    if not _may_say(text):
        return None
    for match in itertools.islice(reversed(deque(_ANSWER_IS.finditer(text), maxlen=_MOST_MARKS)), None):
        if _CONDITIONAL.search(match.group()) or lastword.negated(text, match.end()):
            continue
        if not lastword.asserted(text, match.start()):
            continue
        answer, end = _said(text, match.end())
        if answer is None or (lastword.condition_after(text, end) and text[end : end + 1] not in ".\n"):
            return None
        return _checked(text, answer, "answer_is", match.start(), end)
    return None


def _checked(text: str, answer: str, name: str, start: int, end: int) -> Found:
    """The answer, unless it is not the last word."""
    answer, later = answer[:_MAX_ANSWER], retraction.after(text, end)
    if later and (
        retraction.taken_back(later)
        or retraction.other_value(answer, later)
        or any(retraction.contradicts(answer, other) for other in _values(later))
    ):
        return Found(answer, name, CONFLICT)
    if name == "answer_is" and ("####" in text[:start] or "A:" in text[:start]):
        earlier = (hash_mark(text[:start]), None if "B:" in text else answer_line(text[:start]))
        if any(retraction.contradicts(answer, other) for other in earlier if other and numbers.parse(other)):
            return Found(answer, name, CONFLICT)
    return Found(answer, name)


def _values(later: str) -> Iterator[str]:
    """What other marks in the text after the answer say."""
    if "\\boxed" in later or "\\fbox" in later:
        yield from contents(later, box_spans(later, lambda span: lastword.asserted(later, box_start(later, span[0]))))
    for found in (hash_mark(later), answer_line(later)):
        if found:
            yield found
    if _may_say(later):
        for match in itertools.islice(_ANSWER_IS.finditer(later), _MOST_MARKS):
            if (found := _said(later, match.end())[0]) and " by " not in match.group():
                yield found


@functools.lru_cache(maxsize=1024)
def gold_answer(gold: str) -> str:
    """The answer in a gold column. A whole reference solution is searched for the same explicit markers (boxed,
    #### and A:); anything else is the answer itself."""
    for name in ("boxed", "hash", "answer_line"):
        answer = EXTRACTORS[name].find(gold)
        if answer is not None:
            return answer
    return gold.strip()
