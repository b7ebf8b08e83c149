r"""Strip an answer of delimiters, bold, spacing commands, currency signs and odd characters.

Nothing here changes what an answer means. `clean` keeps LaTeX as LaTeX; `flat` is for comparing texts;
`has_prose` distinguishes words from formulas, because a LaTeX parser reads "even" as e*v*e*n.
"""

from __future__ import annotations

import re

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000\t\n\r", " "),
        **{chr(0x2000 + n): " " for n in range(11)},
        **dict.fromkeys("\u2212\u2013\u2014\ufe63\uff0d", "-"),
        "\u00d7": r"\times ", "\u00b7": r"\cdot ", "\u22c5": r"\cdot ", "\u00f7": "/", "\u2044": "/",
        "\u03c0": r"\pi ", "\u221e": r"\infty ", "\u2264": r"\le ", "\u2265": r"\ge ", "\u00b0": r"^\circ ",
        "\u221a": r"\sqrt ", "\u222a": r"\cup ", "\u00b1": r"\pm ",
        "\u2019": "'", "\u2236": ":", "\u2026": "...", "\u0307": "",
        **{chr(0xFF10 + d): str(d) for d in range(10)}, "\uff05": "%", "\uff0c": ",", "\uff0e": ".", "\uff1a": ":",
        **{char: rf"\frac{{{n}}}{{{d}}}" for char, n, d in (
            ("½", 1, 2), ("⅓", 1, 3), ("⅔", 2, 3), ("¼", 1, 4), ("¾", 3, 4), ("⅕", 1, 5), ("⅖", 2, 5), ("⅗", 3, 5),
            ("⅘", 4, 5), ("⅙", 1, 6), ("⅚", 5, 6), ("⅛", 1, 8), ("⅜", 3, 8), ("⅝", 5, 8), ("⅞", 7, 8),
        )},
    }
)  # fmt: skip
_SUPERSCRIPTS = re.compile("[⁻⁰¹⁴-⁹²³]+")
_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_WRAPPERS = re.compile(
    r"\*(?:\*(?P<a>[^*]+)\*|(?P<n>[^*]+))\*|_(?:_(?P<b>[^_]+)_|(?P<o>[^_]+))_|`(?P<c>[^`]+)`|\$\$(?P<d>[^$]+)\$\$|\$(?P<e>[^$]+)\$"
    r"|\\\((?P<f>(?:(?!\\[()]).)+)\\\)|\\\[(?P<g>(?:(?!\\[\[\]]).)+)\\\]|\"(?P<h>[^\"]+)\"|\\displaystyle(?![a-zA-Z])(?P<i>.+)"
    r"|\\(?:boxed|fbox|textbf|mathbf|boldsymbol|bm|bf|emph|textit|mathit)\s*\{(?P<j>[^{}]*)\}"
    r"|\\(?:text|mathrm|textrm|mbox)\s*\{\s*(?P<k>[^{}]*)\}|\{(?P<l>[^{}]*)\}|\((?P<m>[A-Z])\)"
)
_SPACING = re.compile(r"(?<!\\)\\[;:, ]|\\q?quad(?![a-zA-Z])|~")  # not the space after a row's \\
_INNER_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")
_NARROWED = re.compile(r"(?<=[0-9])\\!(?=[0-9])")
_GROUPS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?: [0-9]{3})+(?! ?[0-9/]|,[0-9])")
_UNBRACED = re.compile(r"\\frac\s*(?:([0-9])|(\{[^{}]*\}))\s*(?:([0-9])(?!\s*[0-9])|(\{[^{}]*\}))")
_ROOT = re.compile(r"\\sqrt\s*([0-9])(?!\s*[0-9])")
_SIZES = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg)[lr]?(?![a-zA-Z])")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_EMPTY = re.compile(r"\\varnothing(?![a-zA-Z])|\\\{\s*\\\}")
_TEXT = re.compile(r"\\(?:text|textrm|textbf|textit|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[a-zA-Z]*\*?\}|\\[a-zA-Z]+")
_BARE_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|pi|infty)(?![A-Za-z])"
)
_BARE_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt\(([^()]*)\)")
_RUN = re.compile(r"[A-Za-z]+")
_WORDS = re.compile(r"[A-Za-z]{2,}(?:[ '-][A-Za-z]+)*")
_SMALL_WORDS = frozenset(
    ("is", "it", "of", "to", "so", "no", "at", "by", "we", "he", "in", "on", "as", "if", "do", "us", "up", "an")
)


def clean(text: str) -> str:
    """The answer without what surrounds it. Makes at most a few passes over the text."""
    text = _SUPERSCRIPTS.sub(lambda m: f"^{{{m[0].translate(_RAISED)}}}", text).translate(_CHARACTERS)
    text = text.replace("{,}", ",").strip()  # first: no braces inside a wrapper
    for _ in range(8):
        before = text
        text = text.strip().rstrip(".,;:").strip()
        if match := _WRAPPERS.fullmatch(text):
            text = next(g for g in match.groups() if g is not None)
        if text == before:
            break
    if r"box" in text:
        text = _INNER_BOX.sub(r"\1", text)
    text = _NARROWED.sub(" ", text).replace(r"\!", "").replace(r"\%", "%")
    bare = text.count("$") - text.count(r"\$")
    if bare == 1:  # not the signs around a formula
        text = re.sub(r"(?<!\\)\$(?=\s*[+-]?[.0-9\\])", r"\\$", text)
    text = re.sub(r"(?<!\\)\$", "", text)
    text = _SIZES.sub("", _SPACING.sub(" ", text))
    text = _EMPTY.sub(r"\\emptyset ", text)
    text = _FRACTIONS.sub(r"\\frac", text)
    text = _BARE_ROOT.sub(r"\\sqrt{\1}", text)
    text = _BARE_FUNCTION.sub(r"\\\1 ", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = _GROUPS.sub(lambda m: m[0].replace(" ", ","), text)
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    return _UNBRACED.sub(_braced, text)


def _braced(match: re.Match[str]) -> str:
    over, under = match[1] or match[2].strip("{}"), match[3] or match[4].strip("{}")
    return rf"\frac{{{over}}}{{{under}}}"


def flat(text: str) -> str:
    """Cleaned text without \\text{}, for comparing as text; case counts only in formulas."""
    text = re.sub(r"\s+", " ", _TEXT.sub(r" \1 ", text)).strip()
    return text.casefold() if has_prose(text) else re.sub(r"(?<![0-9.]) | (?![0-9.])", "", text)


def has_prose(text: str) -> bool:
    """Does a cleaned text contain words (other than LaTeX commands, and "and" or "or" between values)?"""
    for run in _RUN.findall(_COMMAND.sub(" ", _TEXT.sub(r" \1 ", text))):
        low = run.lower()
        if low in ("and", "or"):
            continue
        if len(run) >= 4 or low in _SMALL_WORDS or (len(run) == 3 and low != "abc" and set(low) & set("aeiou")):
            return True
    return False


def has_letters(text: str) -> bool:
    """Are there letters other than those of LaTeX commands?"""
    return _RUN.search(_COMMAND.sub(" ", text)) is not None


def is_words(text: str) -> bool:
    """Is a cleaned text nothing but words?"""
    bare = _TEXT.sub(r"\1", text).strip()
    return _WORDS.fullmatch(bare) is not None and (has_prose(bare) or bare != text)
