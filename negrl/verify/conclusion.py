r"""The value that a response ends with, where nothing is marked: "Therefore, Lara read 128 pages on the first day."

Only the last sentence counts, and only if exactly one value can be its answer: what it puts in bold, else its one
formula or the right side of its one equation, else its one number. Two values, a hedge or a question: none.
"""

from __future__ import annotations

import re

from negrl.verify import numbers
from negrl.verify.clean import clean, has_prose

_TAIL = 1500
_LONGEST = 400
_END = re.compile(
    r"(?<![0-9A-Z.])[.!?](?=[\s*_)\"']|\Z)(?!\s*[a-z])|(?<=[0-9])[.!?](?=\s+[A-Z*#(\\$]|\s*\Z)|\n"
    r"|(?<=\])\s(?=\s*(?:Therefore|Thus|So|Hence|Finally|This|In total)\b)"
)
_HEDGE = re.compile(
    r"\?|\b(?:if|unless|maybe|perhaps|possibl[ey]|might|may|could|approximately|about|around|nearly|almost"
    r"|roughly|estimate\w*"
    r"|suppose|assum\w+|let|wait|actually|however|(?:is|are|was|were|do|does) not|cannot|not (?=[$\\(*]*[0-9]"
    r"|enough|possible|equal)|unknown"
    r"|wrong|incorrect|contradict\w*|check|verif\w+|example|either|neither|next|step [0-9]+|continue|to find"
    r"|undefined|or more|or less"
    r"|impossible|at (?:least|most)|between|consider)\b|(?:is|are|ca|wo|do|does|was)n['\u2019]t\b|\\approx"
    r"|\\neq|\u2248",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\?|\b(?:if|unless|maybe|perhaps|possibly|might|may|could|approximately|about|roughly|suppose|assum\w+"
    r"|let|wait|actually|however|but"
    r"|not|cannot|wrong|incorrect|check|verif\w+|example|next|step [0-9]+|continue|impossible)\b"
    r"|n['\u2019]t\b|\\approx|\\neq|\u2248",
    re.IGNORECASE,
)
_MODIFIED = re.compile(
    r"\b(?:minus|plus|double|twice|triple|half|halves|than|prime|exceeds?|below|above|under|over|beyond|debt"
    r"|too (?:many|much)"
    r"|divid(?:e|es|ed|ing)|divisible|remainder when|multiply|compute|calculate|evaluate|still|some (?=[$*\\(]*[0-9])"
    r"|dozens?|another|need (?:the|to)|more\.?\Z)\b|\bmore[.!]?\s*\Z"
    r"|%\s+of (?:them|it|those)|\bpercent remain",
    re.IGNORECASE,
)
"""Words that make another value of the number beside them, or say something else of it."""
_PREDICATE = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|costs?)|[A-Za-z)]\s*=)\s*:?\s*(?P<value>\*\*[^*\n]{1,80}\*\*|\x00"
    r"|-?[$€£]?[\d.,]+(?:/\d+)?%?)[\s.!*]*\Z"
)
_TOTAL = re.compile(r"\ba total of (-?[$€£]?[\d.,]+)(?![\d/*^+-])", re.IGNORECASE)
_MATH = re.compile(r"\$\$(?P<a>[^$]+)\$\$|\$(?P<b>[^$\n]+)\$|\\\((?P<c>.+?)\\\)|\\\[(?P<d>.+?)\\\]", re.DOTALL)
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*")
_NUMBER = re.compile(
    r"(?<![\w.,/^])(?:-(?=[.\d$]))?[$€£]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
    r"|\.\d+)(?:/\d+)?(?:\s?%)?(?![\w^/*+=]|\s*[-+*/=^]\s*[\d(]|[.,]\d)"
)
_ANY_DIGIT = re.compile(r"\d")
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")


def conclusion(text: str) -> str | None:
    """The one value of the last sentence, or None."""
    sentence = last_sentence(text)
    if sentence is None or len(sentence) > _LONGEST:
        return None
    if not _DOUBT.search(_MATH.sub(" ", sentence)) and (value := _predicate(sentence)) is not None:
        return value
    words = _MATH.sub(" ", sentence)
    if _HEDGE.search(words) or _MODIFIED.search(words):
        return None
    bold = [b.strip(" .:,$") if _value(b.strip(" .:,")) is None else b.strip(" .:,") for b in _BOLD.findall(sentence)]
    if bold:
        values = [v for v in map(_value, bold) if v is not None]
        if len(values) == 1 and len(bold) == 1:
            return values[0]
        if not (len(bold) == 1 and bold[0] == sentence.strip(" *.:,")):
            return None if values else _plain(re.sub(r"\*\*", "", sentence))
        sentence = bold[0]
    return _plain(sentence)


def _predicate(sentence: str) -> str | None:
    """What the sentence says that something is, at its very end: "the greatest n of the first 100 is **6**"."""
    formulas: list[str] = []

    def mask(match: re.Match[str]) -> str:
        formulas.append(next(g for g in match.groups() if g is not None))
        return "\x00"

    masked = _MATH.sub(mask, sentence.replace("\x00", ""))
    match = _PREDICATE.search(masked)
    if match is None:
        totals = _TOTAL.findall(masked)
        return totals[0].rstrip(".,") if len(totals) == 1 else None
    value = match["value"].strip("*").strip(" .,:")
    return (
        _value(formulas[-1] if value == "\x00" else value)
        if (value.count("\x00") < 2 and formulas[:1]) or "\x00" not in value
        else None
    )


def _plain(sentence: str) -> str | None:
    found: list[str] = []
    for match in _MATH.finditer(sentence):
        inner = next(g for g in match.groups() if g is not None)
        if (value := _value(inner)) is not None:
            found.append(value)
        elif _ANY_DIGIT.search(inner):
            return None
    rest = _MATH.sub(" \x00 ", sentence)
    for match in _NUMBER.finditer(rest):
        found.append(match.group())
    if _ANY_DIGIT.search(_NUMBER.sub(" ", rest)) and "=" not in rest:
        return None
    if "=" in rest:  # 5 + 3 = 8: what stands after the last sign
        tail = rest.rpartition("=")[2]
        numbers_there = _NUMBER.findall(tail)
        return (
            numbers_there[0]
            if len(numbers_there) == 1 and "\x00" not in rest and len(_ANY_DIGIT.findall(_NUMBER.sub(" ", tail))) == 0
            else None
        )
    return found[0] if len(found) == 1 else None


def _value(inner: str) -> str | None:
    """A formula (or bold text) as a value: itself, or what its equation ends with. None for a mere name."""
    inner = inner.strip(" .,:;*$").strip()
    if not inner or len(inner) > 200 or "?" in inner or r"\approx" in inner or r"\neq" in inner:
        return None
    inner = inner.replace(r"\(", "").replace(r"\)", "").strip()
    right = _EQUALS.split(inner)[-1].strip()
    if right != inner and not right:
        return None
    cleaned = clean(right)
    if numbers.parse(cleaned) is not None:
        return right
    if has_prose(cleaned) or not re.search(r"\d|\\(?:frac|sqrt|pi|infty)", cleaned):
        return None
    return right


def last_sentence(text: str) -> str | None:
    """The last sentence; of a longer text only the end is looked at."""
    tail = text[-_TAIL:].rstrip()
    parts: list[str] = []
    start = 0
    masked = _MATH.sub(lambda m: "x" * (len(m.group()) - 1) + ("]" if m.lastgroup in ("a", "d") else "x"), tail)
    for match in _END.finditer(masked):
        parts.append(tail[start : match.end()])
        start = match.end()
    parts.append(tail[start:])
    parts = [p.strip() for p in parts if re.search(r"\w", p)]
    if not parts or (len(parts) == 1 and len(text) > _TAIL):
        return None
    return parts[-1]
