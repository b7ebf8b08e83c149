r"""A second, independent way to tell whether a response is right, with which `negrl audit` checks verdicts.

There are two voices. Neither uses negrl's own extraction, cleaning or number code:
- math-verify alone: its `parse` finds the answer in the whole response and in the whole gold text, and its
  `verify` compares them;
- plain text: the last \boxed{}, else what follows the last ####, else the last number (as in lm-eval's
  flexible-extract), normalized in the style of MATH's `is_equiv` (Hendrycks et al. 2021) and compared.

Both are slow or crude, and both make mistakes, so they only raise questions. Run `second_opinion` in a killable
worker: math-verify has no limits here.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from fractions import Fraction

logger = logging.getLogger(__name__)

RIGHT, WRONG, UNSETTLED = "right", "wrong", "unsettled"
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Opinion:
    """`value` is right, wrong or unsettled. `math_verify` and `plain_text` are what each voice says (None: nothing);
    `math_answer` and `plain_answer` are what it took for the answer."""

    value: str
    math_verify: bool | None = None
    plain_text: bool | None = None
    math_answer: str = ""
    plain_answer: str = ""


def second_opinion(response: str, gold: str) -> Opinion:
    """What the second check says about a response.

    Right if one of the voices says so; wrong if one says wrong and none says right. Different texts tell the plain
    voice nothing unless both are numbers.
    """
    math, math_answer = by_math_verify(response, gold)
    plain, plain_answer = by_plain_text(response, gold)
    value = RIGHT if math or plain else WRONG if False in (math, plain) else UNSETTLED
    return Opinion(value, math, plain, math_answer[:_SHOWN], plain_answer[:_SHOWN])


def by_math_verify(response: str, gold: str) -> tuple[bool | None, str]:
    """math-verify's verdict on the two whole texts (None if it finds no answer in one of them), and its answer."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    bare = "\n" not in gold.strip() and not re.search(r"\$|\\\(|\\\[|boxed|####", gold)
    try:
        golds = parse(f"${gold}$" if bare else gold, parsing_timeout=None)
        answers = parse(response, parsing_timeout=None)
        shown = str(answers[-1]) if answers else ""
        same = bool(verify(golds, answers, timeout_seconds=None)) if golds and answers else None
    except Exception as error:  # sympy raises all kinds of errors on what models write
        logger.debug("math-verify failed: %s", type(error).__name__)
        return None, ""
    return same, shown


def by_plain_text(response: str, gold: str) -> tuple[bool | None, str]:
    """True for equal texts or numbers, False for two different numbers, else None; and the answer found."""
    wanted, found = plain_answer(gold), plain_answer(response)
    if wanted is None and len(gold) < _SHOWN:
        wanted = gold
    if wanted is None or found is None:
        return None, found or ""
    left, right = normalised(found), normalised(wanted)
    if left and left == right:
        return True, found
    numbers = _number(left), _number(right)
    if None in numbers:
        return None, found
    return numbers[0] == numbers[1], found


_LAST_NUMBER = re.compile(r"-?\$?[0-9][0-9,]*(?:\.[0-9]+)?|-?\$?\.[0-9]+")


def plain_answer(text: str) -> str | None:
    r"""The last \boxed{...}; else the rest of the line after the last ####; else the last number."""
    at = text.rfind("\\boxed{")
    if at >= 0:
        depth, start = 0, at + len("\\boxed")
        for index in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[start + 1 : index]
        return None
    if "####" in text:
        return text.rpartition("####")[2].strip().partition("\n")[0].strip()
    numbers = _LAST_NUMBER.findall(text)
    return numbers[-1] if numbers else None


_DROPPED = re.compile(
    r"\\[!,;: ]|\\(?:left|right)(?![a-z])|\^\{?\\circ\}?|\\text\{\s[^{}]*\}|\\?[$%]|(?<=[0-9]),(?=[0-9]{3})|\s"
)
_NUMBER = re.compile(r"(-?)(?:\\frac\{([0-9]+)\}\{([0-9]+)\}|([0-9]+(?:\.[0-9]+)?))\.?")


def normalised(answer: str) -> str:
    r"""As MATH does: no spacing, units, \left, $ or %; \frac and \sqrt with braces; a/b as \frac; no "x ="."""
    text = re.sub(r"\\[dt]frac", r"\\frac", _DROPPED.sub("", answer))
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).rstrip(".")
    text = re.sub(r"\\frac([0-9a-z])([0-9a-z])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt([0-9a-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"^(-?)([0-9]+)/([0-9]+)$", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"^[a-zA-Z]{1,2}=", "", text)
    return re.sub(r"(?<![0-9])\.(?=[0-9])", "0.", text)


def _number(text: str) -> Fraction | None:
    match = _NUMBER.fullmatch(text) if len(text) < _SHOWN else None
    if match is None or (match[3] and not int(match[3])):
        return None
    value = Fraction(int(match[2]), int(match[3])) if match[2] else Fraction(match[4])
    return -value if match[1] else value
