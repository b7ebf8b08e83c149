r"""Do an answer and a gold answer mean the same?

Two ways, the cheap one first. `compare_plain` settles identical text, words, and plain numbers
(integers, decimals, fractions, mixed numbers, scientific notation, with currency, thousands
separators, percent and units) exactly, without sympy. What it cannot settle goes to `compare_math`:
math-verify on the cleaned text, under one deadline for the whole check.

The answer to the question is True, False or None (undecided, with its reason); None is never a
negative. The deadline is a timer signal, so it works in the main thread only: elsewhere a check that
needs math-verify is None/"timeout" at once, because without a deadline one power tower freezes the
process. The cases that a signal cannot stop in time (huge text, matrix makers, deep nesting) are
refused beforehand as unparsable.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from negrl.verify import numbers
from negrl.verify.clean import clean, flat, has_letters, has_prose, is_words

TIMEOUT, UNPARSABLE, GOLD_UNPARSABLE = "timeout", "unparsable", "gold_unparsable"
Outcome = tuple[bool | None, str | None]

MAX_CHARS, MAX_DEPTH = 1000, 40
_REFUSED = re.compile(
    r"operatorname\*?\s*\{?\s*(?:zeros|ones|eye|diag|hilbert)"  # makes matrices of any size while parsing
    r"|[0-9]{400}|[0-9]e[+-]?[0-9]{4}|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]",
    re.IGNORECASE,
)
_CLOSE = 2e-6
"""math-verify compares decimals rounded to six places: nearer unequal numbers are left to it."""
_CONVERSIONS = frozenset({10, 12, 24, 52, 60, 100, 1000, 3600, 10**6, 7, 16, 365})
"""Two numbers, one of them with a unit, that differ by such a factor may mean the same (50 cents, 0.5)."""

logger = logging.getLogger(__name__)


def equivalent(answer: str, gold: str, timeout: float = 5.0) -> Outcome:
    """Whether `answer` and `gold` mean the same.

    Args:
        answer: as extracted from a response; hostile text.
        gold: the reference answer.
        timeout: seconds for the whole check.

    Returns:
        (True, None), (False, None), or (None, reason) with reason timeout, unparsable (the answer)
        or gold_unparsable.
    """
    outcome = compare_plain(answer, gold)
    if outcome is not None:
        return outcome
    return _before_deadline(compare_math, numbers.formula(clean(answer)), numbers.formula(clean(gold)), timeout)


def compare_plain(answer: str, gold: str) -> Outcome | None:
    """The exact, cheap way. None when it takes math to tell."""
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
    answer, gold = clean(answer), clean(gold)
    if not gold:
        return None, GOLD_UNPARSABLE
    if not answer:
        return None, UNPARSABLE
    if answer == gold or flat(answer) == flat(gold):
        return True, None
    left, right = numbers.parse(answer), numbers.parse(gold)
    if left is not None and right is not None:
        return _compare_numbers(left, right)
    if is_words(answer) and is_words(gold):
        # One word against another is a different answer; longer phrases can say the same in many ways.
        return (None, UNPARSABLE) if " " in flat(answer) + flat(gold) else (False, None)
    units = numbers.unit_of(answer), numbers.unit_of(gold)
    if all(units) and units[0] != units[1]:
        return None, UNPARSABLE
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
    if answer.unit != gold.unit and answer.value and gold.value:
        ratio = abs(answer.value / gold.value)
        if max(ratio, 1 / ratio) in _CONVERSIONS:
            return None, UNPARSABLE
    scale = 100 if answer.percent or gold.percent else 1
    if any(abs(answer.value * i - gold.value * j) < _CLOSE * scale for i, j in ((1, 1), (scale, 1), (1, scale))):
        return None
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
    """math-verify on two cleaned texts. Has no limit of its own: run it under one."""
    golds = _expressions(gold)
    if not golds:
        return None, GOLD_UNPARSABLE
    answers = _expressions(answer)
    if not answers:
        return None, UNPARSABLE
    from math_verify import verify

    failed = False
    for g, a in itertools.product(golds, answers):
        try:
            if verify(g, a, timeout_seconds=None, raise_on_error=True):
                return True, None
        except Exception as error:  # sympy raises all kinds of errors on what models write
            logger.debug("math-verify failed on %.200r and %.200r: %s", answer, gold, type(error).__name__)
            failed = True
    return (None, UNPARSABLE) if failed else (False, None)


@functools.lru_cache(maxsize=4096)
def _expressions(text: str) -> tuple[Any, ...]:
    """What math-verify's LaTeX parser makes of the whole text: one expression, or nothing."""
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that we brought our own deadline
    found = parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
    return tuple(item for item in found if not isinstance(item, str))  # a str is text that it gave up on


class _Expired(BaseException):
    """Not an Exception: sympy and math-verify catch those."""


def _before_deadline(check: Callable[[str, str], Outcome], answer: str, gold: str, seconds: float) -> Outcome:
    """`check(answer, gold)`, or (None, "timeout") after `seconds` or off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return None, TIMEOUT

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise _Expired

    started, old_delay, old_interval = time.monotonic(), 0.0, 0.0
    old_handler = signal.signal(signal.SIGALRM, expire)
    try:
        # Fires again every 0.2 s: a bare except in the code under test may swallow the first one.
        old_delay, old_interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
        try:
            return check(answer, gold)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _Expired:
        return None, TIMEOUT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if old_handler is None else old_handler)
        if old_delay:  # somebody else's timer (pytest-timeout): what is left of it goes on
            left = old_delay - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), old_interval)
