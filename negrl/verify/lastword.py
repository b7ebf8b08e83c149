r"""Is a marked answer what the response says in the end?

Not if it is an instruction ("put it in \boxed{43}"), a condition ("if the answer is 43, ..."), negated, a part of a
larger expression (2 \cdot \boxed{43}), or taken back or contradicted by what follows. Each check looks at a bounded
window or runs once over the text.
"""

from __future__ import annotations

import re

from negrl.verify import numbers
from negrl.verify.clean import clean, flat, has_prose
from negrl.verify.conclusion import conclusion, last_sentence

_WINDOW = 240
_MATH_START = r"[\s$*_`'\"(:\\\[{~]*\Z"
_SENTENCE = re.compile(r"[.;!?](?=\s)|\n(?=[^\n]*[A-Za-z]{2})")
_INSTRUCTION = re.compile(
    r"\b(?:put|place|write|enclose|give|provide|box|express|present|format|report|state|submit|enter|wrap"
    r"|insert|return|show|answer"
    r"|should|must|please|remember|expected|goes|use|needs?)\b[^,.;\n]{0,160}?"
    rf"(?<!\\)\b(?:in|inside|within|into|like|using|use|format|e\.g\.,?|say){_MATH_START}",
    re.IGNORECASE | re.DOTALL,
)
_EXAMPLE = re.compile(rf"\b(?:for example|for instance|e\.g\.|such as|example),?{_MATH_START}", re.IGNORECASE)
_CONDITION = re.compile(r"\b(?:if|unless|suppose|supposing|assum(?:e|ing)|imagine|whether)\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|instead of|rather than|unlike|without)|n['\u2019]t)"
    rf"(?:\s+(?:be|equal(?:\s+to)?|just|simply|necessarily|really|actually|the (?:final )?answer))?{_MATH_START}"
    r"|\b(?:wrong|incorrect|false|bad|mistaken|naive|tempting)\s+(?:final\s+)?(?:answer|result|value"
    r"|guess)\b[^.;\n]{0,60}\Z",
    re.IGNORECASE,
)
_PART_BEFORE = re.compile(
    r"(?:[0-9}]\.?|\\(?:neq?|not\s*=)(?![a-z])\s*|[0-9a-zA-Z)}]\s*/\s*|[\^_]\s*\{?|(?:[=(,\[{$]|\\\("
    r"|\\\[)\s*-\s*|(?:\A|\s)-|\\(?:cdot|times|div|sqrt|frac|left\()\s*\{?|\}\s*\{|[0-9)}]\s*[-+]\s*)\Z"
)
_PART_AFTER = re.compile(
    r"\}?\s*(?:\^(?!\s*\{?\s*\\circ)|\\(?:cdot|times|div|pm|frac|sqrt|pi)(?![a-z])|[+/]\s*[0-9\\a-z(]"
    r"|-\s*[0-9]|\*\s*[0-9]|!\s*[=^]|=\s*-?\$?[0-9][0-9.,]*(?![0-9a-zA-Z^*]|\s*[-+\\]))"
    r"|\}?(?:[0-9]|\.[0-9])"
)
_SCALED = re.compile(
    r"[\s$*~}]*(?:\\[)\],; ])?[\s$*]*(?:\\text\s*\{\s*)?(?P<word>(?:hundred|thousand|million|billion|trillion"
    r"|quadrillion|dozen"
    r"|gross|lakh|crore|score|tenth|hundredth|thousandth|millionth|half|halves|third|fourth|quarter|fifth"
    r"|sixth|percentage point"
    r"|basis point|dollar|cent|euro|pound|pence|yen|rupee)s?)\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"\b(?:wait\b|oops\b|hmm+\b|scratch that|correction\b|i meant\b|on second thoughts?|(?:made|my"
    r"|was) (?:\w+ )?(?:mistaken?|error)\b|an? (?:mistake|error)\b(?! to)"
    r"|wrong\b|incorrect\b|(?:not|n['\u2019]t) (?:right|correct|true\b|the (?:final |right |correct )?answer)"
    r"|sorry\b|apolog"
    r"|(?:ignore|disregard|forget) (?:that|this|it|the|my|what|all|everything)\b|reconsider|never ?mind"
    r"|retract|kidding\b|joking\b"
    r"|turn(?:s|ed) out to be (?=[$\\(*-]*[0-9])|in fact,? (?=[$\\(*-]*[0-9])|should (?:have|get"
    r"|be) (?=[$\\(*-]*[0-9])|i (?:lied|doubt)\b|not sure\b|unsure\b|try again|start over|should (?:have been"
    r"|instead|really)\b"
    r"|(?:is|equals|be|are) actually\b|actually (?:is|equals|be|are|it|i|that)\b|rather[,:]"
    r"|answers?\b[^.\n]{0,40}\b(?:is|are|be)(?: not\b|n['\u2019]t\b)|(?:is|was)(?: not|n['\u2019]t) [$\\(*-]*[0-9])"
    r"|(?:^|[.!?,;(\n])\s*(?:actually|no)\b\s?[,.!:]",
    re.IGNORECASE | re.MULTILINE,
)
_ASKED = re.compile(r"[\s$*)\]}\\]*\?")
_CONDITION_AFTER = re.compile(r"[^.\n]{0,60}?\b(?:if|only if|unless|provided|assuming)\b", re.IGNORECASE)
_OR_ELSE = re.compile(
    r"[\s$*)\]}\\.,]*(?:or|versus|vs\.?|->|=>|\u2192|\\to|\\(?:Right|long\w*)arrow)\s+(?:else |maybe "
    r"|perhaps )?[$\\(*]*-?[0-9]",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"(?:\A|[.!?\n])\W{0,9}(?:(?:so|thus|hence|therefore|finally|then|but|and|or|well),?\s+)?(?:it|that|this"
    r"|the (?:total|sum|result|value"
    r"|correct|true|real|right)\b[^.!?\n0-9]{0,60}?)(?:\s+(?:is|equals|was|makes|gives|comes to|must be)"
    r"|['\u2019]s|\s*=)\s+"
    r"(?:really |now |rather |instead )?[*$(\\]*(?P<value>-?\$?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?)"
    r"(?![\w^/*+{}]|\s*[-+*/=^\\])",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"\W{0,9}(?:so|thus|hence|therefore|finally|in total|altogether|in the end|final(?:ly)?)\b", re.IGNORECASE
)
_INNER_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")


def asserted(text: str, start: int) -> bool:
    """Is a mark that starts at `start` asserted by its sentence: no instruction, example, condition or negation?"""
    before = text[max(0, start - _WINDOW) : start]
    cut = 0
    for match in _SENTENCE.finditer(before):
        cut = match.end()
    sentence = before[cut:]
    if _INSTRUCTION.search(sentence) or _EXAMPLE.search(before) or _NEGATION.search(sentence):
        return False
    conditions = [match.end() for match in _CONDITION.finditer(sentence)]
    return not conditions or re.search(r"[,:]|\bthen\b", sentence[conditions[-1] :]) is not None


def negated(text: str, end: int) -> bool:
    """Is what follows said not to be the answer, or to be a wrong one?"""
    return _NEGATION.search(text[max(0, end - _WINDOW) : end]) is not None


def condition_after(text: str, end: int) -> bool:
    """Does the sentence go on with an "if"?"""
    return _CONDITION_AFTER.match(text[end : end + 80]) is not None


def part_of_more(text: str, start: int, end: int) -> bool:
    r"""Is a box (from \boxed to after its brace) a factor, an exponent or another part of an expression?"""
    return bool(_PART_BEFORE.search(text[max(0, start - 40) : start]) or _PART_AFTER.match(text[end : end + 40]))


def word_after(text: str, end: int) -> str:
    """The number word or currency right after a box: "million" in \\boxed{43} million; else ""."""
    match = _SCALED.match(text[end : end + 60])
    return match["word"] if match else ""


def taken_back(later: str) -> bool:
    """Does the text after a mark doubt or correct it?"""
    return bool(_TAKEN_BACK.search(later) or _OR_ELSE.match(later[:60]) or _ASKED.match(later[:20]))


def other_value(answer: str, later: str) -> bool:
    """Does a sentence after the mark conclude with another number?"""
    wanted = numbers.parse(clean(answer))
    for match in _FINAL.finditer(later):
        found = numbers.parse(clean(match["value"]))
        if wanted is not None and found is not None and abs(found.value) != abs(wanted.value):
            return True
    _, newline, line = later.rstrip().rpartition("\n")
    line = line.strip(" *$.")
    alone = numbers.parse(clean(line)) if newline and 0 < len(line) < 60 else None  # a number on a line of its own
    if wanted is not None and alone is not None and alone.value != wanted.value:
        return True
    last = last_sentence(later)
    value = conclusion(later) if last is not None and _CUE.match(last) else None
    return value is not None and contradicts(answer, value)


def contradicts(answer: str, other: str) -> bool:
    """Is `other`, the content of another mark, a value, and not that of `answer`?"""
    answer, other = (clean(_INNER_BOX.sub(r"\1", text[:400])) for text in (answer, other))
    if not other or flat(answer) == flat(other):
        return False
    ours, theirs = numbers.parse(answer), numbers.parse(other)
    if ours is not None and theirs is not None:
        return ours.value != theirs.value and not (ours.percent != theirs.percent and ours.value * 100 != theirs.value)
    if theirs is not None:
        return "=" not in answer or flat(answer.rpartition("=")[2]) != flat(other)
    # Words may introduce a value: "Step 2"; a formula without words is one.
    first = re.match(r"[-$\\(*]*[0-9][0-9.,]*", other)
    if has_prose(other) and not (first and len(other) < 60 and not re.match(r"[0-9]+[.)]\s+[A-Za-z]", other)):
        return False
    return flat(answer) not in flat(other)
