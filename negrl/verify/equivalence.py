r"""Do an answer and a gold answer mean the same?

Two ways, the cheap one first. `compare_plain` settles identical text, words, and plain numbers
(integers, decimals, fractions, mixed numbers, scientific notation, with currency, thousands
separators, percent and units) exactly, without sympy. What it cannot settle goes to `compare_math`:
math-verify on the cleaned text, in a worker process that is killed at its limits (pool.py).

The answer to the question is True, False or None (undecided, with its reason); None is never a
negative.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from fractions import Fraction
from typing import Any

from negrl.verify import numbers
from negrl.verify.clean import clean, flat, has_letters, has_prose, is_words
from negrl.verify.pool import Failure, Pool

TIMEOUT, UNPARSABLE, GOLD_UNPARSABLE = "timeout", "unparsable", "gold_unparsable"
Outcome = tuple[bool | None, str | None]

MAX_CHARS, MAX_DEPTH = 1000, 40
"""No real answer is longer or deeper. Beyond some fifty nested brackets, math-verify hits Python's recursion limit,
which it takes for "not equal"."""
_REFUSED = re.compile(
    # Control characters: the parser would find a number in such garbage. Exponents that numbers.py does not
    # read: the parser reads 1e9999 as 1 times e times 9999.
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|[0-9]e[+-]?[0-9]{4}",
    re.IGNORECASE,
)
_CLOSE = 2e-6
"""math-verify compares decimals rounded to six places; unequal numbers that are closer are left to it."""
_CONVERSIONS = frozenset({10, 12, 24, 52, 60, 100, 1000, 3600, 10**6, 7, 16, 365})
"""Two numbers, one with a unit, that differ by one of these factors may mean the same (50 cents, 0.5)."""
_DOTS = re.compile(r"\.\.\.|\\[lcd]?dots(?![a-z])|\u2026")
_BASE = re.compile(r"[0-9]\)?\s*_")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|lt|gt|leq|geq)(?![a-z])")
_ONE_SIDED = re.compile(
    r"\A[0-9]{1,2}:[0-9]{2}"  # 5:30 is a time or a ratio
    r"|\\(?:pmod|bmod|mod|neq?|circ)(?![a-z])"  # 5 modulo 7; not 3; degrees inside a formula
    r"|\A\(?\\(?:text|textbf|mathbf|mathrm)\s*\{\s*(?:\(?[A-Z]\)|[A-Z]\s*\})"  # an option's letter before its value
    r"|\^\s*\{?\s*(?:\\\w+\s*\{\s*)?(?:st|nd|rd|th)\b"  # 7th
    r"|\^\s*\{[^{}]*(?<![a-zA-Z\\])i(?![a-zA-Z])"  # an imaginary exponent: symbols are assumed real
)
_SUFFIXED = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMB])")
_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
_COLUMN = re.compile(r"\\begin\s*\{\w*(?:matrix|array)\}")
_ANYWHERE = re.compile(r"!!|:[^:]*:|/\s*[0-9]+\s*[a-zA-Z]")
"""A double factorial is read as a factorial of a factorial, 1:2:3 as fractions, 1/2x one way or the other."""

logger = logging.getLogger(__name__)


def equivalent(answer: str, gold: str, pool: Pool) -> Outcome:
    """Whether `answer` and `gold` mean the same.

    Args:
        answer: as extracted from a response; may be hostile.
        gold: the reference answer.
        pool: where math-verify runs.

    Returns:
        (True, None), (False, None), or (None, reason) with reason unparsable (the answer),
        gold_unparsable, or a Failure: timeout, memory, crashed.
    """
    outcome = compare_plain(answer, gold)
    return outcome if outcome is not None else settled(pool.run(compare_math, *formulas(answer, gold)))


def formulas(answer: str, gold: str) -> tuple[str, str]:
    """The two texts in the form that `compare_math` takes."""
    return numbers.formula(clean(answer)), numbers.formula(clean(gold))


def settled(result: Outcome | Failure) -> Outcome:
    """What the pool says about a pair."""
    return (None, str(result)) if isinstance(result, Failure) else result


def compare_plain(answer: str, gold: str) -> Outcome | None:
    """The exact, cheap comparison. None if it takes math to decide."""
    if answer == gold and answer.strip():
        return True, None
    if (a := numbers.plain(answer)) is not None and (g := numbers.plain(gold)) is not None:
        if a == g:
            return True, None
        if abs(a - g) >= _CLOSE:
            return False, None
    if not gold.strip() or _refused(gold):
        return None, GOLD_UNPARSABLE
    if _refused(answer):
        return None, UNPARSABLE
    vague = _DOTS.search(answer) or _DOTS.search(gold)
    answer, gold = clean(answer), clean(gold)
    if not gold:
        return None, GOLD_UNPARSABLE
    if not answer:
        return None, UNPARSABLE
    if answer == gold or flat(answer) == flat(gold):
        return (None, UNPARSABLE) if vague and answer[-1:].isdigit() else (True, None)
    if vague:
        return None, UNPARSABLE
    if _BASE.search(answer) or _BASE.search(gold):
        return _compare_bases(answer, gold)
    left, right = numbers.parse(answer), numbers.parse(gold)
    if left is not None and right is not None:
        return _compare_numbers(left, right)
    if is_words(answer) and is_words(gold):
        return _compare_words(flat(answer), flat(gold))
    units = numbers.unit_of(answer), numbers.unit_of(gold)
    if all(units) and units[0] != units[1]:
        return None, UNPARSABLE
    if "degree" in units and r"\pi" in answer + gold:
        return None, UNPARSABLE  # math-verify does not convert degrees
    words, answer, gold = is_words(gold), numbers.formula(answer), numbers.formula(gold)
    if has_prose(gold):
        return None, UNPARSABLE if words else GOLD_UNPARSABLE
    if has_prose(answer) or (units[0] and left and has_letters(gold)) or (units[1] and right and has_letters(answer)):
        return None, UNPARSABLE  # also "5 km" and "5 m": a unit against what may be a unit or a variable
    return None


def _compare_numbers(answer: numbers.Quantity, gold: numbers.Quantity) -> Outcome | None:
    if answer.unit and gold.unit and answer.unit != gold.unit:
        return None, UNPARSABLE
    same = answer.value == gold.value
    if answer.percent != gold.percent:  # 50%, 0.5 and 50 are all accepted for one another
        same = same or (answer.value == gold.value * 100 if answer.percent else answer.value * 100 == gold.value)
    if same:
        return True, None
    if answer.scale != gold.scale and answer.value * gold.scale == gold.value * answer.scale:
        return None, UNPARSABLE  # 1.8 million and 1.8: the question may ask for millions
    if answer.unit != gold.unit and answer.value and gold.value:
        ratio = abs(answer.value / gold.value)
        if max(ratio, 1 / ratio) in _CONVERSIONS:
            return None, UNPARSABLE
    scale = 100 if answer.percent or gold.percent else 1
    if any(abs(answer.value * i - gold.value * j) < _CLOSE * scale for i, j in ((1, 1), (scale, 1), (1, scale))):
        return None
    return False, None


def _compare_bases(answer: str, gold: str) -> Outcome:
    """If one of the two has a base, which math-verify ignores (it reads 11_2 as 11)."""
    left, right = numbers.based(answer), numbers.based(gold)
    if left is not None and right is not None and left[1] == right[1]:
        return (True, None) if left[0] == right[0] else (False, None)
    plain = [numbers.parse(text) for text, read in ((answer, left), (gold, right)) if read is None]
    values = [read[2] for read in (left, right) if read] + [p and p.value for p in plain]
    if None in values or values[0] == values[1]:
        return None, UNPARSABLE  # the right value in another base: only the question says whether that is acceptable
    digits = [read[0] for read in (left, right) if read]
    if plain and plain[0] and digits[0] == str(plain[0].value):
        return None, UNPARSABLE  # the same digits without the base
    return False, None


def _compare_words(answer: str, gold: str) -> Outcome:
    """Two different single words are different answers, unless one may stand for the other. Longer phrases can
    say the same thing in many ways."""
    if " " in answer + gold or answer.startswith(gold) or gold.startswith(answer):
        return None, UNPARSABLE
    if {answer, gold} <= {"yes", "true", "correct"} or {answer, gold} <= {"no", "false", "incorrect", "none"}:
        return None, UNPARSABLE
    return False, None


def _refused(text: str) -> bool:
    if len(text) > MAX_CHARS or _REFUSED.search(text):
        return True
    depth = deepest = 0
    for char in text:
        if char in "{([":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "})]":
            depth -= 1
    return deepest > MAX_DEPTH


def compare_math(answer: str, gold: str) -> Outcome:
    """math-verify on two cleaned texts. Has no limits of its own: run it in a pool."""
    if answer.endswith(r"\%") and gold.endswith(r"\%"):
        answer, gold = answer.removesuffix(r"\%"), gold.removesuffix(r"\%")
    golds, answers = _expressions(gold), _expressions(answer)
    if not golds:
        return None, GOLD_UNPARSABLE
    if not answers:
        return None, UNPARSABLE
    from math_verify import verify

    pairs = list(itertools.product(golds, answers))
    if _RELATION.search(answer) and not _RELATION.search(gold):
        pairs += [(a, g) for g, a in pairs]  # it accepts an interval for a gold inequality, but not the reverse
    failed = False
    for g, a in pairs:
        try:
            if verify(g, a, timeout_seconds=None, raise_on_error=True):
                return True, None
        except MemoryError:
            raise
        except Exception as error:  # sympy raises all kinds of errors on what models write
            logger.debug("math-verify failed on %.200r and %.200r: %s", answer, gold, type(error).__name__)
            failed = True
    return (None, UNPARSABLE) if failed or _unlike(answer, gold) else (False, None)


def _unlike(answer: str, gold: str) -> bool:
    """Are the two cleaned texts of a form for which math-verify's "not equal" may be wrong?"""
    if (_ONE_SIDED.search(answer) is None) != (_ONE_SIDED.search(gold) is None):
        return True
    for one, other in ((answer, gold), (gold, answer)):
        if (match := _SUFFIXED.fullmatch(one)) and (number := numbers.parse(other)):
            return number.value == Fraction(match[1]) * _SUFFIXES[match[2]]  # five million, or 5 times M
    if any(_COLUMN.match(one) and "," in other for one, other in ((answer, gold), (gold, answer))):
        return True  # many write a column vector as a row
    if _ANYWHERE.search(answer) or _ANYWHERE.search(gold):
        return True
    # 12,34 or 1.234.567 or 3,5: is it one number, and which?
    left, right = (re.sub(r"[.,() ]", "", text) for text in (answer, gold))
    return left == right and left.isdigit() and ("," in answer + gold or answer.count(".") + gold.count(".") > 1)


@functools.lru_cache(maxsize=512)
def _expressions(text: str) -> tuple[Any, ...]:
    """What math-verify's LaTeX parser makes of the whole text: one expression or none; for a percentage two, with and
    without the factor of a hundred."""
    if text.endswith(r"\%"):
        number = text.removesuffix(r"\%")
        return _expressions(number) + _expressions(rf"\frac{{{number}}}{{100}}")
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns because we set our own deadline
    found = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
    return tuple(item for item in found if not isinstance(item, str))  # a str is text that it gave up on
