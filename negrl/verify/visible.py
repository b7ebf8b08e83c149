r"""What of a response counts: the text outside thinking parts, comments, code and what is struck out.

Every scan is linear in the length of the text.
"""

from __future__ import annotations

import re

_THINKING = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|scratch_?pad|reflect(?:ion)?|analysis|(?:begin|end)_of_thought)"
_TAG = re.compile(
    rf"(?:[<\uff1c\u25c1\u3008]|&lt;)\s{{0,9}}(?P<close>/?)\s{{0,9}}\|?(?P<name>{_THINKING})\b[^<>\n]{{0,99}}?"
    r"(?:[>\uff1e\u25b7\u3009]|&gt;)|\[\s{0,9}(?P<shut>/?)\s{0,9}(?:think(?:ing)?)\s{0,9}\]",
    re.IGNORECASE,
)
_MAY_THINK = tuple(
    (sign, re.compile(re.escape(sign) + r"(?![<0-9.])(?i:(?:lt;)?\s{0,9}/?\s{0,9}\|?" + _THINKING + ")"))
    for sign in "<[&\uff1c\u25c1\u3008"
)
"""Such a pattern looks for its first character without regard to case, and therefore fast; so do the next three."""
_QUOTED = re.compile(
    r"<!--.*?(?:-->|\Z)|```.*?(?:```|\Z)|^~~~.*?(?:^~~~|\Z)"
    r"|\\begin\s?\{(?P<e>verbatim|Verbatim|lstlisting|minted|comment|alltt)\*?\}.*?(?:\\end\s?\{(?P=e)\*?\}|\Z)"
    r"|\\iffalse(?![a-z]).*?(?:\\fi(?![a-z])|\Z)|\\(?:verb|lstinline)\*?(?P<d>[^a-zA-Z\s*])[^\n]{0,999}?(?P=d)"
    r"|`[^`\n]{0,200}(?:\\(?:boxed|fbox)|####|answer is|answer:)[^`\n]{0,200}`"
    r"|^[ \t]{0,99}%[^\n]*|(?<=[^\s\\0-9})$][ \t])%[^\n]*|(?<=\})%(?=[^\n]{0,200}\\boxed)[^\n]*"
    r"|~~[^~\n]{1,500}~~|<(?P<s>s|del|strike|pre|code|template|script|style|textarea|title|head|noscript)"
    r"(?:\s[^<>]{0,500})?>.*?(?:</(?P=s)>|\Z)"
    r"|<(?P<h>[a-z]{1,20})\s[^<>]{0,500}?(?:\bhidden\b|display\s?:\s?none|font-size\s?:\s?0|opacity\s?:\s?0)[^<>]{0,500}>"
    r".*?(?:</(?P=h)>|\Z)|<[a-z]{1,20}\s+[a-z-]{1,20}\s?=\s?[\"'][^<>]{0,999}>"
    r"|\\if(?:0|x\\a\\b)(?![0-9]).*?(?:\\fi(?![a-z])|\Z)|^\[//\]:[^\n]*|!\[[^\[\]\n]{0,200}\]\([^()\n]{0,500}\)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_MARKUP = re.compile(r"<(?i:!--|[a-z]+[\s>])")
_COMMENT = re.compile(r"%(?<![0-9\\]%)")
_VERBATIM = re.compile(r"\\(?i:verb|lstinline|if|begin\s?\{(?:verbatim|lstlisting|minted|comment|alltt))")


def visible(text: str) -> str | None:
    """The text outside thinking parts, however their tags are spelled (<think>, <THINK >, [thinking], ...); None
    when the last one never closes. A lone closing tag ends a part that the prompt opened."""
    if not any([sign in text and pattern.search(text) for sign, pattern in _MAY_THINK]):
        return text
    pieces: list[str] = []
    start, inside = 0, False
    for match in _TAG.finditer(text):
        name = (match["name"] or "").lower()
        closes = match["close"] == "/" or match["shut"] == "/" or name.startswith("end")
        if closes:
            if not inside:
                pieces.clear()
            inside, start = False, match.end()
        elif not inside:
            pieces.append(text[start : match.start()])
            inside = True
    return None if inside else "".join([*pieces, text[start:]])


def unquoted(text: str) -> str:
    """The text without comments, code blocks, verbatim text, what is struck out, and marks in inline code."""
    return _QUOTED.sub(" ", text) if _may_quote(text) else text


def _may_quote(text: str) -> bool:
    return (
        "`" in text
        or "~~" in text
        or "[//]" in text
        or "![" in text
        or ("<" in text and _MARKUP.search(text) is not None)
        or ("%" in text and _COMMENT.search(text) is not None)
        or ("\\" in text and _VERBATIM.search(text) is not None)
    )
