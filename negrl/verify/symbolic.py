"""What math-verify says of two formulas, and when its word can be taken.

It rounds to six places, drops one side's modulus, ignores case, and reads some texts as what they are not. So its
"equal" is confirmed, and its "not equal" is believed only of texts that it reads well. Runs in a worker process.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from fractions import Fraction
from typing import Any

from negrl.verify import numbers, structure

Outcome = tuple[bool | None, str | None]
UNPARSABLE, GOLD_UNPARSABLE = "unparsable", "gold_unparsable"
_ENOUGH_DIGITS, SOME_DIGITS = 5, 4
"""Significant digits with which a rounded decimal is right, and those with which it may be."""
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


def compare(answer: str, gold: str) -> Outcome:
    """math-verify on two cleaned texts, and whether its word can be taken. It has no limits of its own."""
    if answer.endswith(r"\%") and gold.endswith(r"\%"):
        answer, gold = answer.removesuffix(r"\%"), gold.removesuffix(r"\%")
    golds, answers = _expressions(gold), _expressions(answer)
    if not golds:
        return None, GOLD_UNPARSABLE
    if not answers:
        return None, UNPARSABLE
    pairs = list(itertools.product(golds, answers))
    if _RELATION.search(answer) and not _RELATION.search(gold):
        pairs += [(a, g) for g, a in pairs]  # it accepts an interval for a gold inequality, but not the reverse
    failed = False
    for g, a in pairs:
        try:
            if _verify(g, a):
                return _confirmed(answer, gold, a, g)
        except MemoryError:
            raise
        except Exception as error:  # sympy raises all kinds of errors on what models write
            logger.debug("math-verify failed on %.200r and %.200r: %s", answer, gold, type(error).__name__)
            failed = True
    if failed or _unlike(answer, gold) or structure.ambiguous(answer) or structure.ambiguous(gold):
        return None, UNPARSABLE
    return (None, UNPARSABLE) if _rounding(answer, answers[0], golds[0]) is not None else (False, None)


def _verify(gold: Any, answer: Any, **precision: int) -> bool:
    from math_verify import verify

    return bool(verify(gold, answer, timeout_seconds=None, raise_on_error=True, **precision))


def _confirmed(answer: str, gold: str, said: Any, wanted: Any) -> Outcome:
    """What math-verify's "equal" is worth: it rounds to six places, drops one side's modulus, ignores case."""
    listed = structure.listed(answer), structure.listed(gold)
    if (listed[0] is None) != (listed[1] is None) and (structure.simple(answer) or structure.simple(gold)):
        return None, UNPARSABLE
    if not _same_symbols(answer, gold) or _one_sided(answer, gold):
        return None, UNPARSABLE
    if not _precise(answer, gold):
        return True, None
    try:
        if _verify(wanted, said, float_rounding=40, numeric_precision=60):
            return True, None
    except MemoryError:
        raise  # a breach of the worker's limit, which guard.py counts
    except Exception as error:  # sympy raises all kinds of errors on what models write
        logger.debug("math-verify failed on %.200r and %.200r: %s", answer, gold, type(error).__name__)
    return (True, None) if _rounding(answer, said, wanted) else (None, UNPARSABLE)


def _same_symbols(answer: str, gold: str) -> bool:
    """Are there the same variables in both? That of an inequality may be missing in an interval."""
    ours, theirs = structure.symbols(answer), structure.symbols(gold)
    if bool(_RELATION.search(answer)) != bool(_RELATION.search(gold)):
        return len(ours ^ theirs) <= 1
    return ours == theirs


def _precise(answer: str, gold: str) -> bool:
    """May rounding have made the two equal? In whole numbers and variables there is nothing to round."""
    both = answer + gold
    return "." in both or "%" in both or "-" in both or not structure.symbols(both)


def _rounding(answer: str, said: Any, wanted: Any) -> bool | None:
    """Is the answer a decimal that is the exact gold value, rounded? None: no; False: perhaps."""
    quantity = numbers.parse(answer.removesuffix(r"\%"))
    if quantity is None or quantity.places is None or quantity.places < 1 or quantity.digits < SOME_DIGITS:
        return None
    import sympy

    try:
        if said.free_symbols or wanted.free_symbols:
            return None
        right = wanted.doit().evalf(40)
        found = said.doit().evalf(40)
        apart = abs(right - found)
        unit = abs(found) / abs(Fraction(quantity.value or 1)) * 10.0**-quantity.places
        if not apart <= unit * 1.000001:
            return None
        exact = not wanted.has(sympy.Float)
        return bool(exact and quantity.digits >= _ENOUGH_DIGITS and quantity.places >= 6 and apart <= unit * 0.500001)
    except (TypeError, AttributeError, ValueError):
        return None


def _one_sided(answer: str, gold: str) -> bool:
    return (_ONE_SIDED.search(answer) is None) != (_ONE_SIDED.search(gold) is None)


def _unlike(answer: str, gold: str) -> bool:
    """Are the two cleaned texts of a form for which math-verify's "not equal" may be wrong?"""
    if _one_sided(answer, gold):
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
    return tuple(_imaginary(item) for item in found if not isinstance(item, str))  # a str is text that it gave up on


def _imaginary(expression: Any) -> Any:
    """An expression with the imaginary unit where the parser has a variable i: else 5i would not be the root of -25."""
    import sympy

    unit = {symbol: sympy.I for symbol in getattr(expression, "free_symbols", ()) if symbol.name == "i"}
    return expression.subs(unit) if unit else expression
