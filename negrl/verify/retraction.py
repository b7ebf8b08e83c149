r"""What the text after a marked answer does to it: doubts it, takes it back, goes on from it, or says another value.

Solutions say much after their box ("\boxed{4} values, since 4 + 3 is prime"), so a number counts only where it stands
as a conclusion: at the end of a short sentence, on a line of its own, after "the total is". All scans are linear.
"""

from __future__ import annotations

import re

from negrl.verify import numbers, structure
from negrl.verify.clean import clean, flat, has_prose
from negrl.verify.conclusion import conclusion, last_sentence

_PHRASES = """
oops;scratch that;strike that;scrap that;i meant;on second thought;on reflection;upon reflection;erratum;errata
my bad;pardon;nope;sorry;apolog;reconsider;never mind;nevermind;retract;withdraw;withdrew;kidding;joking;i lied
he lied;she lied;they lied;i doubt;not sure;unsure;try again;start over;misread;miscount;miscalculat;miscomput
misinterpret;misunderst;misstated;misspoke;mistook;correct myself;correcting myself;take that back;take it back
take this back;hold on;hang on;look again;looking again;was false;untrue;is flawed;was flawed;nonsense;a slip
i slipped;makes no sense;amended;revised;revision;just a guess;or is it;or maybe;or perhaps;make that;off by one
can't be right;cannot be right;can't be correct;cannot be correct;can't be true;cannot be true;not be right
not be correct;let me redo;let me recount;let me recompute;let me recalculate;let me rethink;let me try
let me start;let me fix;let me correct;i redo;redoing;recounting;recomputing;recalculating;rechecking;i forgot
we forgot;i overlooked;we overlooked;i missed;we missed;i skipped;i neglected;i confused;i mixed up;i swapped
doesn't check;does not check;doesn't add up;does not add up;doesn't work;does not work;doesn't fit;does not fit
doesn't satisfy;does not satisfy;didn't work;contradicts;invalid;going over it;clarify;real answer;actual answer
right answer is;correct answer is;correct value is;still need to add;still have to;still needs to;only part
not the end;in error
错;不对;正确答案;应该;等等;nein;falsch;erreur;est faux;equivoc;respuesta correcta;неверно;ошиб;es sind
c'est
"""
_PATTERNS = {
    "wait": r"\bwait\b",
    "hmm": r"\bhmm+\b",
    "correction": r"\bcorrection\b",
    "mistake": r"\b(?:made|my|was) (?:\w+ )?mistaken?\b|\ba mistake\b(?! to)",
    "error": r"\b(?:made|my|was) (?:\w+ )?error\b|\ban error\b(?! to)|\berror:",
    "is false": r"(?<!which )\bis false",
    "wrong": r"\bwrong\b",
    "incorrect": r"\bincorrect\b",
    "not ": r"\bnot (?:right|correct|true\b|the (?:final |right |correct )?answer)|\b(?:is|was) not [$\\(*-]*[0-9]"
    r"|\banswers?\b[^.\n]{0,40}\b(?:is|are|be) not\b",
    "n't": r"n't (?:right|correct|true\b|the (?:final |right |correct )?answer)|\b(?:is|was)n't [$\\(*-]*[0-9]"
    r"|\banswers?\b[^.\n]{0,40}\b(?:is|are|be)n't\b",
    "that": r"\b(?:ignore|disregard|forget) that\b",
    "ignore": r"\bignore (?:this|it|the|my|what|all|everything)\b",
    "disregard": r"\bdisregard (?:this|it|the|my|what|all|everything)\b",
    "forget": r"\bforget (?:this|it|the|my|what|all|everything)\b",
    "out to be": r"\bturn(?:s|ed) out to be [$\\(*-]*[0-9]",
    "in fact": r"\bin fact,? [$\\(*-]*[0-9]",
    "should": r"\bshould (?:(?:have|get|be) [$\\(*-]*[0-9]|have been|instead|really)",
    "actually": r"(?<!there )\b(?:is|equals|be|are) actually\b|(?<!there )\bactually (?:is|equals|be|are|it|i|that)\b"
    r"|(?:^|[.!?,;(\n])\s*actually\b\s?[,.!:]",
    "rather": r"\brather[,:]",
    "no": r"(?:^|[.!?,;(\n])\s*(?:well,? )?no\b\s?[,.!:]",
    "edit": r"\bedit\s*:",
    "update": r"\bupdated?\s*:",
    "better": r"\bbetter\s*:",
    "precisely": r"\bmore precisely,? [$\\(*-]*[0-9]",
    "too ": r"\A[\s$.)\]}\\]*(?:is|was|seems|looks)\b[^.\n]{0,20}\btoo (?:large|small|big|high|low|many|few|much)\b",
    "bound": r"\A[\s$)\]}\\]*is [^.\n]{0,30}\b(?:upper|lower) bound\b",
    "part": r"\bpart \(?[b-h]\)|\bpart [b-h]\b|\bpart (?:2|two|ii)\b",
    "halt": r"\bhalt,",
    "moment": r"\bmoment[,.!]",
}
_DOUBTS = tuple(
    [(sign, re.compile(pattern, re.MULTILINE)) for sign, pattern in _PATTERNS.items()]
    + [
        (sign, re.compile((r"(?<![a-z])" if sign[0].isascii() else "") + re.escape(sign)))
        for line in _PHRASES.strip().splitlines()
        for sign in line.split(";")
    ]
)
"""Each pattern is searched only where its sign occurs, which is quick to see."""
_NEXT_STEP = re.compile(
    r"\b(?:now|then|finally|still|next)\b[^.\n]{0,20}?\b(?:add|subtract|multiply|divide|double|halve|take away)\b"
    r"|(?:\A|[.!?\n])\s*(?:adding|add|subtracting|subtract|multiplying|multiply|dividing|divide|doubling|halving)\b"
)
_ASKED = re.compile(r"[\s$*)\]}\\]*\?")
_OR_ELSE = re.compile(
    r"[\s$*)\]}\\.,]*(?:or|versus|vs\.?|->|=>|\u2192|\\to|\\(?:Right|long\w*)arrow)\s+(?:else |maybe "
    r"|perhaps )?[$\\(*]*-?[0-9]",
    re.IGNORECASE,
)
_DIGIT = re.compile("[0-9]")
_FINAL = re.compile(
    r"(?:\A|[.!?\n])\W{0,9}(?:(?:so|thus|hence|therefore|finally|then|but|and|or|well),?\s+)?(?:it|that|this"
    r"|the (?:total|sum(?! of the digits)|result|value"
    r"|correct|true|real|right)\b[^.!?\n0-9]{0,60}?)(?:\s+(?:is|equals|was|makes|gives|comes to|must be)"
    r"|['\u2019]s|\s*=)\s+"
    r"(?:really |now |rather |instead )?[*$(\\]*(?P<value>-?\$?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?)"
    r"(?![\w^/*+{}]|\s*[-+*/=^\\])",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$([^$]*)\$\$|\$((?:[^$\n]|\n(?!\n))*)\$|\\\(((?:(?!\\\)).)*)\\\)|\\\[((?:(?!\\\]).)*)\\\]", re.DOTALL
)
_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
_SHORT = re.compile(
    r"(?:[.!?,;:\n\u3002\uff0c]|=>|->|\u2192)\s*(?P<words>(?:[^\W\d_][^\s\d.!?;,=<>^_]{0,20}[ :,-]+){0,6})"
    r"(?:[a-z] )?(?:=\s*|: *|- *)?\**(?P<value>-?\$?[0-9][0-9,]*(?:\.[0-9]+)?)\**(?=[.!?;]?\s*(?:\Z|\n)|[.!?;]\s)",
    re.IGNORECASE,
)
_SUPPORTING = re.compile(
    r"\b(?:and|or|neither|nor|not|where|which|when|if|since|because|as|note|with|less|greater|than|remainder|by|for|between|from|into|at"
    r"|of|let|case|step|example|until|through|plus|minus|times|first|second|only|that|to|line|page|problem|modulo)\b",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"\W{0,9}(?:so|thus|hence|therefore|finally|in total|altogether|in the end|final(?:ly)?|then|now)\b", re.IGNORECASE
)
_INNER_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")
_CLOSING = " $)]}\\"
_MAX_SHORT, _SOON = 2000, 200


def after(text: str, end: int) -> str:
    """The text after a mark that ends at `end`, without drawings; "" where there are only closing signs."""
    later = text[end:]
    if "[asy]" in later:
        later = _DRAWING.sub(" ", later)
    return later if later.strip(" \n$.*)]}\\") else ""


def taken_back(later: str) -> bool:
    """Does the text after a mark doubt or correct it, or go on computing?"""
    low = later.lower().replace("\u2019", "'")
    if any([sign in low and pattern.search(low) for sign, pattern in _DOUBTS]):
        return True
    return bool(_NEXT_STEP.search(low[:_SOON]) or _OR_ELSE.match(later[:60]) or _ASKED.match(later[:20]))


def other_value(answer: str, later: str) -> bool:
    """Does a sentence after the mark conclude with another number?"""
    wanted = numbers.parse(clean(answer))
    if wanted is not None and _DIGIT.search(later):
        for match in _FINAL.finditer(later):
            found = numbers.parse(clean(match["value"]))
            if found is not None and abs(found.value) != abs(wanted.value):
                return True
        if _says(later, wanted):
            return True
    _, newline, line = later.rstrip().rpartition("\n")
    line = line.strip(" *$.")
    if wanted is not None and newline and 0 < len(line) < 60:  # a number on a line of its own
        alone = numbers.parse(clean(line))
        if alone is not None and alone.value != wanted.value:
            return True
    last = last_sentence(later)
    if last is None or not _CUE.match(last) or later.lstrip(_CLOSING).startswith(last.lstrip(_CLOSING)):
        return False  # it goes on with the sentence of the mark
    value = conclusion(later)
    return value is not None and contradicts(answer, value)


def _says(later: str, wanted: numbers.Quantity) -> bool:
    """Is there a short sentence or clause with another number as its last word: "Edit: 44.", ", Ann says 44."?"""
    text = _FORMULA.sub(_number_or_x, later[:_MAX_SHORT].lstrip(_CLOSING))
    for match in _SHORT.finditer(text):
        words = match["words"].lower()
        if (not words and match.group()[0] == ":") or _SUPPORTING.search(words):
            continue
        if text[match.start() - 1 : match.start()].isdigit() and " it " not in f" {words}":
            continue  # 1, 2, 3
        found = numbers.parse(clean(match["value"]))
        if found is not None and abs(found.value) != abs(wanted.value):
            return True
    return False


def _number_or_x(match: re.Match[str]) -> str:
    inner = next(group for group in match.groups() if group is not None).strip(" .")
    return inner if re.fullmatch(r"-?\\?\$?[0-9][0-9,]*(?:\.[0-9]+)?", inner) else "x0x"


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
    if structure.unevaluated(other):
        return False
    # Words may introduce a value: "Step 2"; a formula without words is one.
    first = re.match(r"[-$\\(*]*[0-9][0-9.,]*", other)
    if has_prose(other) and not (first and len(other) < 60 and not re.match(r"[0-9]+[.)]\s+[A-Za-z]", other)):
        return False
    return flat(answer) not in flat(other)
