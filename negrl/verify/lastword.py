r"""Is a marked answer what its sentence says?

Not if it is an instruction ("put it in \boxed{43}"), a condition ("if the answer is 43, ..."), somebody else's word
("Bob says \boxed{43}"), negated, or a part of more (2 \cdot \boxed{43}, half of \boxed{43}). Each check looks at a
bounded window. What comes after the answer's sentence is for retraction.py.
"""

from __future__ import annotations

import re

_WINDOW = 240
_OPENERS = "$*_`'\"(:\\[{~" + "".join(c for c in map(chr, range(0x3001)) if c.isspace())
"""What may stand between a word and the mark that it is about."""
_SENTENCE = re.compile(r"[.;!?][$)*]{0,2}(?=\s)|\n(?=[^\n]*[A-Za-z]{2})")
_EXAMPLES = tuple(
    word + end for word in ("for example", "for instance", "e.g.", "such as", "example") for end in ("", ",")
)
_INSTRUCTION = re.compile(
    r"\b(?:put|place|write|enclose|give|provide|box|express|present|format|report|state|submit|enter|wrap"
    r"|insert|return|show|(?<!this )(?<!the )(?<!final )(?<!our )(?<!my )answer"
    r"|should|must|please|remember|expected|goes|use|needs?)\b[^,.;\n]{0,160}?"
    r"(?<!\\)\b(?:in|inside|within|into|like|using|use|format|e\.g\.,?|say)\Z",
    re.DOTALL,
)
_INSTRUCTED = ("in", "inside", "within", "into", "like", "using", "use", "format", "e.g.", "e.g.,", "say")
_CONDITION = re.compile(r"\b(?:if|unless|suppose|supposing|assum(?:e|ing)|imagine|whether)\b")
_CONDITIONS = ("if", "unless", "suppos", "assum", "imagine", "whether")
_CONCLUDED = re.compile(r"[,:]|\b(?:then|we (?:get|have|find|obtain|see)|gives?|yields?|tells us|implies|it follows)\b")
_NEGATION = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|instead of|rather than|unlike|without)|n't)"
    r"(?:\s+(?:be|equal(?:\s+to)?|just|simply|necessarily|really|actually|the (?:final )?answer))?\Z"
    r"|\b(?:no es|est pas|nicht|kein\w{0,3}|non \u00e8|n\u00e3o \u00e9|\u043d\u0435)\Z|(?:不是|并非)\Z"
)
_NEGATIONS = (
    "not", "never", "neither", "nor", "cannot", "of", "than", "unlike", "without", "n't", "be", "equal", "to",
    "just", "simply", "necessarily", "really", "actually", "answer", "es", "pas", "nicht", "kein", "keine",
    "keinen", "keiner", "\u00e8", "\u00e9", "\u043d\u0435", "不是", "并非",
)  # fmt: skip
_WRONGS = ("wrong", "incorrect", "false", "bad", "mistaken", "naive", "tempting")
_WRONG = re.compile(
    r"\b(?:wrong|incorrect|false|bad|mistaken|naive|tempting)\s+(?:final\s+)?(?:answer|result|value"
    r"|guess)\b[^.;\n]{0,60}\Z"
)
_RELATIVE = re.compile(
    r"\b(?:(?:half|third|quarter|fourth|root|squares?|cubes?|reciprocal|inverse|negative|multiples?|powers?"
    r"|divisors) of|twice|double|triple|thrice|half|far from|anything but|hardly"
    r"|(?:larger|smaller|greater|less|more|fewer|bigger|higher|lower) than"
    r"|answer is (?:not |probably |maybe |perhaps )?(?:at most|at least|below|above|under|over|between|near))\Z"
)
_RELATIVES: tuple[str, ...] = (
    " of",
    "twice",
    "double",
    "triple",
    "thrice",
    "half",
    "to",
    "from",
    "but",
    "than",
    "hardly",
    "most",
    "least",
)
_RELATIVES += ("below", "above", "under", "over", "between", "near")
_NOT_OURS = {
    "says": r"(?<!problem )(?<!question )\bsays\b[^.,]{0,40}\Z",
    "would say": r"\bwould say\b",
    "say": r"\bto say\Z",
    "said": r"(?<!problem )(?<!question )(?<!be )(?<!is )\bsaid\b[^.,]{0,40}\Z",
    "claim": r"(?<!\bi )(?<!\bwe )\bclaim(?:s|ed)\b[^.,]{0,40}\Z",
    "belie": r"(?<!\bi )(?<!\bwe )\bbelieve[sd]\b[^.,]{0,40}\Z",
    "think": r"\bthinks\b|\b(?:might|may|could|would|don't|not|never) think\b",
    "thought": r"\b(?:he|she|they|once|first|i|initially) thought\b",
    "guess": r"\b(?:guesses|guessed|my guess|a guess)\b",
    "argue": r"\bargue[sd]\b",
    "insist": r"\binsist(?:s|ed)\b",
    "wrote": r"(?<!\bwe )\bwrote\b",
    "expect": r"\b(?:might|may|could|would) expect\b",
    "tempt": r"\btempt(?:ing|ed)\b",
    "mistake": r"\bmistake\b",
    "misconception": r"\bmisconception\b",
    "according to": r"\baccording to\b",
    "previous": r"\bprevious (?:answer|reply)\b|\bpreviously,? i\b",
    "intermediate": r"\bintermediate (?:answer|result|value)\b",
    "so far": r"\bso far\b",
    "true that": r"\b(?:not|n't|never) true that\b",
    "false": r"\bfalse that\b",
    "doubt": r"(?<!no )(?<!without )\bdoubt\b",
    "nobody": r"\bnobody\b",
    "no one": r"\bno one\b",
    "n't": r"n't (?:believe|say|claim)\b",
    "had": r"(?:\A|[.,;] )had (?:we|i|he|she|they|it|you)\b",
    "white": r"\\color\s?\{white\}",
}
_ELSEWHERE = tuple((sign, re.compile(pattern)) for sign, pattern in _NOT_OURS.items())
"""Whose word it is, or whether it holds at all; each pattern is searched only where its sign occurs."""
_PART_BEFORE = re.compile(
    r"(?:[0-9}]\.?|\\(?:neq?|not\s*=)(?![a-z])\s*|[0-9a-zA-Z)}]\s*/\s*|[\^_]\s*\{?|(?:[=(,\[{$]|\\\("
    r"|\\\[)\s*-\s*|(?:\A|\s)-|\\(?:cdot|times|div|sqrt|frac|left\()\s*\{?|\}\s*\{|[0-9)}]\s*[-+]\s*)\Z"
)
_PART_AFTER = re.compile(
    r"\}?\s*(?:\^(?!\s*\{?\s*\\circ)|\\(?:cdot|times|div|pm|frac|sqrt|pi)(?![a-z])|[+/]\s*[0-9\\a-z(]"
    r"|-\s*[0-9]|-\s*[b-zB-HJ-Z](?![A-Za-z'.])|\*\s*[0-9]|!\s*[=^]|=\s*-?\$?[0-9][0-9.,]*(?![0-9a-zA-Z^*]|\s*[-+\\]))"
    r"|\}?(?:[0-9]|\.[0-9])"
)
_CHANGED = re.compile(
    r"[\s$)\]}\\.*]*(?:(?:squared|cubed|minus|plus|divided by)\b|\\?%\s*of\s*[$\\(]*[0-9]|percent of [$\\(]*[0-9]"
    r"|times (?:as|the|that)\b)"
)
_MORE = re.compile(r"[\s$)\]}\\.*]*(?:more|less|fewer|greater|smaller) than\b")
_SCALED = re.compile(
    r"[\s$*~}]*(?:\\[)\],; ])?[\s$*]*(?:\\text\s*\{\s*)?(?P<word>(?:hundred|thousand|million|billion|trillion"
    r"|quadrillion|dozen"
    r"|gross|lakh|crore|score|tenth|hundredth|thousandth|millionth|half|halves|third|fourth|quarter|fifth"
    r"|sixth|percentage point"
    r"|basis point|dollar|cent|euro|pound|pence|yen|rupee)s?)\b",
    re.IGNORECASE,
)
_CONDITION_AFTER = re.compile(r"[^.\n]{0,60}?\b(?:if|only if|unless|provided|assuming)\b", re.IGNORECASE)


def asserted(text: str, start: int) -> bool:
    """Is a mark that starts at `start` asserted by its sentence: no instruction, example, condition, negation, and
    nobody else's word?"""
    before = text[max(0, start - _WINDOW) : start]
    cut = 0
    for match in _SENTENCE.finditer(before):
        cut = match.end()
    sentence = before[cut:].lower().replace("\u2019", "'")
    said = sentence.rstrip(_OPENERS)
    if not said:
        return not _example(before)
    if said.endswith(_INSTRUCTED) and _INSTRUCTION.search(said):
        return False
    if _example(before) or _negated(said) or (said.endswith(_RELATIVES) and _RELATIVE.search(said)):
        return False
    if any([sign in said and pattern.search(said) for sign, pattern in _ELSEWHERE]):
        return False
    if not any([word in sentence for word in _CONDITIONS]):
        return True
    conditions = [match.end() for match in _CONDITION.finditer(sentence)]
    return not conditions or _CONCLUDED.search(sentence[conditions[-1] :]) is not None


def _example(before: str) -> bool:
    return before.rstrip(_OPENERS).lower().endswith(_EXAMPLES)


def _negated(said: str) -> bool:
    if said.endswith(_NEGATIONS) and _NEGATION.search(said):
        return True
    return any([word in said for word in _WRONGS]) and _WRONG.search(said) is not None


def negated(text: str, end: int) -> bool:
    """Is what follows said not to be the answer, or to be a wrong one?"""
    said = text[max(0, end - _WINDOW) : end].lower().replace("\u2019", "'").rstrip(_OPENERS)
    return _negated(said) or (said.endswith(_RELATIVES) and _RELATIVE.search(said) is not None)


def condition_after(text: str, end: int) -> bool:
    """Does the sentence go on with an "if"?"""
    return _CONDITION_AFTER.match(text[end : end + 80]) is not None


def part_of_more(text: str, start: int, end: int) -> bool:
    r"""Is a box (from \boxed to after its brace) a factor, an exponent or another part of an expression?"""
    before, after = text[max(0, start - 40) : start], text[end : end + 40]
    if _PART_BEFORE.search(before) or _PART_AFTER.match(after) or _CHANGED.match(after):
        return True
    return before.rstrip(_OPENERS).endswith(" is") and _MORE.match(after) is not None


def word_after(text: str, end: int) -> str:
    """The number word or currency right after a box: "million" in \\boxed{43} million; else ""."""
    match = _SCALED.match(text[end : end + 60])
    return match["word"] if match else ""
