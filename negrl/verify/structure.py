r"""How a cleaned answer is built: equations, lists, marks on letters, and what no parser may be trusted with.

math-verify reads some texts as less than they say: it drops primes, takes f'(x) for f(x), the last part of a = b = c
for the whole, and joins digits across a space. `faithful` tells which texts it reads as they are written: what is not
on the lists here is not given to it. All scans are linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GREEK = _words(
    """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma
    tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
    """
)
_FUNCTIONS = _words(
    """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm max min det deg
    operatorname
    """
)
UNEVALUATED = _words(
    """
    int iint iiint oint sum prod lim binom dbinom tbinom choose limsup liminf
    """
)
_OTHER = _words(
    """
    frac sqrt cdot times div pm mp le ge leq geq leqslant geqslant lt gt ne neq infty cup cap emptyset in notin
    setminus circ lfloor rfloor lceil rceil lvert rvert vert begin end pmod bmod mod to mathbb mathbf mathrm
    mathit partial triangle angle ldots cdots dots colon langle rangle lbrace rbrace displaystyle limits
    """
)
_KNOWN = _GREEK | _FUNCTIONS | UNEVALUATED | _OTHER
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_CONJUNCTION = re.compile(r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")
_TEXT_LETTER = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mathit)\s*\{\s*(?:\(?[A-Za-z]\)?)\s*\}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[bpvV]?matrix\}|\\(?:begin|end)\s*\{array\}(?:\s*\{[clr| ]*\})?")
_FOREIGN = re.compile(r"[^0-9A-Za-z+\-*/^_=<>()\[\]{}|.,;:!%& \\]")
_MARK = re.compile(
    r"['`]|(?<![0-9.])0\s*\^\s*\{?\s*0(?![0-9.])|\^\s*\{?\s*(?:T(?![A-Za-z])|\*|\\(?:top|prime|intercal|dagger|ast|perp|complement))"
    r"|(?<![A-Za-z\\])[A-Za-z]\s*\^\s*\{\s*-\s*1\s*\}\s*\("  # f^{-1}(x) is no power
)
_JOINED = re.compile(
    r"[0-9.]\s+[0-9.]|[0-9]\s*\{\s*[0-9]*\s*\}\s*[0-9]|[0-9]\{[0-9}]"  # which number is 4 3, or 4{3}?
    r"|\\frac\s*[^\s{]|\\frac\s*\{[^{}]*\}\s*[^\s{]|\\sqrt\s*[0-9]|\}\s*[0-9]\s*[0-9]|\}\s*\.?[0-9]"
)
_LOOSE_POWER = re.compile(r"[\^_]\s*-?[0-9]\s*[0-9.]")
_TEXTS = re.compile(r"\\(?:text|textbf|textit|textrm|mbox)\s*\{")
_DIGIT_UNIT = re.compile(r"(?:[0-9]|\\%)\s*(?:[ghmsklLAVWJNKFCMBK](?![A-Za-z(_^])|[A-Za-z]{2,})")
_MIXED = re.compile(r"(?<![0-9.}])[0-9]+\s*\\frac\s*\{[0-9]+\}\s*\{[0-9]+\}")
_NAME = re.compile(r"[A-Za-z\\(){},;'_ ^|0-9\[\]:.+\-]+")
_COEFFICIENT = re.compile(r"\A\s*-|(?:\A|[({,\s])[0-9]+\s*(?:[A-Za-z\\(]|\Z)|(?:\A|[+\-])\s*\(?[0-9]")


def unevaluated(text: str) -> bool:
    """Does an integral, sum, product, limit or binomial stand in the text?"""
    return any(name in UNEVALUATED for name in _COMMAND.findall(text))


def faithful(text: str) -> bool:
    """Is everything in a cleaned text something that math-verify reads as it is written?"""
    rest = _TEXT_LETTER.sub("x", _ENVIRONMENT.sub(" ", _CONJUNCTION.sub(" , ", text)))
    if _MARK.search(rest) or _TEXTS.search(rest) or _FOREIGN.search(rest):
        return False
    if _JOINED.search(_MIXED.sub("x", rest)):
        return False
    if not all(name in _KNOWN for name in _COMMAND.findall(rest)):
        return False
    letters = any(c.isalpha() for c in _COMMAND.sub("", rest)) or any(n in _GREEK for n in _COMMAND.findall(rest))
    return letters or not re.search(r"[<>]|\\[lg]e", rest)  # 43 < 44 is no answer


def ambiguous(text: str) -> bool:
    """x^23: TeX raises the 2 only, people mean 23."""
    return _LOOSE_POWER.search(text) is not None


def maybe_unit(text: str) -> bool:
    """Is there a number with letters after it that may be a unit: 43m, 43 mi?"""
    return _DIGIT_UNIT.search(_COMMAND.sub(" ", _CONJUNCTION.sub(",", text))) is not None


def symbols(text: str) -> frozenset[str]:
    """The variables of a cleaned text, case and all; constants are none."""
    text = _CONJUNCTION.sub(" ", _ENVIRONMENT.sub(" ", text))
    found = {name for name in _COMMAND.findall(text) if name in _GREEK and name != "pi"}
    found |= {c for c in _COMMAND.sub(" ", text) if c.isalpha()}
    return frozenset(found - {"e", "i"})


def chain(text: str) -> list[str]:
    """The parts of a = b = c; one part where there is no equals sign outside brackets."""
    return [part.strip() for part in _split(text, "=")]


def equation(text: str) -> list[str]:
    """The parts of an equation. A list of equations (x = 1, y = 2) has one part; in x = 1, 2 the list is a part."""
    parts = chain(text)
    if len(parts) > 1 and any(len(_split(_CONJUNCTION.sub(",", part), ",;")) > 1 for part in parts[:-1]):
        return [text]
    return parts


def simple(text: str) -> bool:
    """Is it a number or a lone symbol?"""
    return re.fullmatch(r"-?\s*(?:[0-9.,/]+|\\frac\{-?[0-9]+\}\{[0-9]+\}|\\?[A-Za-z]+)", text) is not None


def named(part: str) -> bool:
    """May this be what an equation gives a value to: x, f(2), (x, y), AB, x^2? Not 2x or x + 1, and no number."""
    if _NAME.fullmatch(part) is None or not any(c.isalpha() for c in part) or _COEFFICIENT.search(part):
        return False
    return not re.search(r"\\(?:frac|sqrt|cdot|times|div|pm|mp)(?![a-z])", part)


@dataclass(frozen=True, slots=True)
class Listed:
    """Values between brackets ("" for none), as in (3, 4), [1, 2), {1, 2} or 6 or 7."""

    opened: str
    closed: str
    items: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        return self.opened in ("(", "[")


def listed(text: str) -> Listed | None:
    r"""A cleaned text as a list. None for anything else, and for what stands for several values at once (\pm)."""
    if r"\pm" in text or r"\mp" in text or "&" in text:
        return None
    opened = closed = ""
    inner = text
    for start, ends in (("(", ")]"), ("[", ")]"), (r"\{", (r"\}",))):
        end = next((e for e in ends if text.endswith(e)), None)
        if text.startswith(start) and end is not None and _closes_at_end(text, len(start), len(end)):
            opened, closed, inner = start, end, text[len(start) : -len(end)]
    parts = [p.strip() for p in _split(_CONJUNCTION.sub(",", inner), ",;")]
    if len(parts) > 2 and not opened:
        parts = [p for p in parts if p]  # "1, 2, and 3"
    if not all(parts) or (len(parts) < 2 and opened != r"\{"):
        return None
    return Listed(opened, closed, tuple(parts))


def _closes_at_end(text: str, start: int, end: int) -> bool:
    depth = 1
    for char in text[start : len(text) - end]:
        depth += (char in "([{") - (char in ")]}")
        if depth < 1:
            return False
    return depth == 1


def _split(text: str, at: str) -> list[str]:
    """The text cut at the characters `at` outside brackets. Of "=", not those of <=, >=, !=, := and ==."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char in at and depth <= 0:
            if char == "=" and (text[place - 1 : place] in tuple("<>!:=") or text[place + 1 : place + 2] == "="):
                continue
            if char == "," and re.match(r"[0-9]{3}(?![0-9])", text[place + 1 : place + 5]) and _thousands(text, place):
                continue
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _thousands(text: str, place: int) -> bool:
    """Does the comma at `place` part thousands: one to three digits before it, or three and a comma?"""
    before = re.search(r"(?<![0-9.])([0-9]{1,3})\Z", text[max(0, place - 4) : place])
    return (before is not None and before[1][0] != "0") or re.search(
        r",[0-9]{3}\Z", text[max(0, place - 4) : place]
    ) is not None
