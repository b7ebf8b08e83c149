r"""\boxed{...}: where the last ones stand, and what they hold. What is crossed out or not printed does not count.
One scan, linear in the length of the text, because a model wrote it and it may be hostile."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Span = tuple[int, int]

_BOX_TOKEN = re.compile(
    r"\\(?:boxed|fbox)\s*\{|\\boxed\s+(?P<bare>[0-9]+)"
    r"|(?P<gone>\\(?:[hv]?phantom|sout|st|[bx]?cancel|hide|hidden|title|href|def\s?\\[a-zA-Z]+|footnote|textcolor\s*\{white\}|color\s*\{white\})\s*\{)|\\.|[{}]",
    re.DOTALL,
)
_HIDING = ("phantom", "sout", "\\st", "cancel", "hid", "footnote", "white", "href", "title", "\\def")
_BETWEEN_BOXES = re.compile(r"[\s$.\\()\[\]]*(?:,|and|or|,\s*and|,\s*or)?[\s$\\()\[\]]*")
_MAX_BOXES = 32


def boxed(text: str) -> str | None:
    r"""The last non-empty \boxed{...}, with braces nested to any depth; several are joined as in `boxes`."""
    values = boxes(text)
    return ", ".join(values) or None


def boxes(text: str) -> list[str]:
    r"""The last non-empty \boxed{...}, and those joined to it by nothing but a comma, "and" or "or".

    A box inside a box belongs to the outer one. When the last box never closes there is none.
    """
    return contents(text, box_spans(text))


def contents(text: str, spans: Sequence[Span]) -> list[str]:
    return list(dict.fromkeys(text[a:b].strip() for a, b in spans))


def box_spans(text: str, usable: Callable[[Span], bool] | None = None) -> list[Span]:
    """Where the contents of the boxes that `boxes` gives stand; of those for which `usable` holds."""
    if not has_box(text):
        return []
    open_braces: list[int] = []  # start of the content for a box, -1 for a plain brace, -2 for what is not seen
    closed: list[Span] = []  # closed boxes (content start, content end), outermost only
    last_opened = -1
    for match in _BOX_TOKEN.finditer(text, _first_box(text)):
        token = match.group()
        if match["bare"]:
            closed.append(match.span("bare"))
        elif token == "{":
            open_braces.append(-1)
        elif match["gone"]:
            open_braces.append(-2 - match.end())
        elif token[-1] == "{" and len(token) > 2:
            open_braces.append(match.end())
            last_opened = match.end()
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start != -1:
                first = start if start >= 0 else -2 - start
                while closed and closed[-1][0] > first:
                    closed.pop()
                if start >= 0:
                    closed.append((start, match.start()))
    closed = [(a, b) for a, b in closed if text[a:b].strip()]
    if not closed or (last_opened > closed[-1][1] and not _is_empty_box(text, last_opened)):
        return []
    while usable is not None and closed and not usable(closed[-1]):
        closed.pop()
    if not closed:
        return []
    group = [closed[-1]]
    for before in reversed(closed[-_MAX_BOXES:-1]):
        gap = text[before[1] + 1 : group[-1][0]]
        gap = gap[: gap.rfind("\\")]
        joined = len(gap) < 40 and _BETWEEN_BOXES.fullmatch(gap) and re.search(r",|and|or", gap)
        if not joined:
            break
        group.append(before)
    return group[::-1]


def _first_box(text: str) -> int:
    """Where to start looking: at the first box, or at 0 if it may stand in something that is not seen."""
    start = min(at for at in (text.find("\\boxed"), text.find("\\fbox")) if at >= 0)
    if any([sign in text[:start] for sign in _HIDING]):
        return 0
    while start and text[start - 1] == "\\":  # \\\\boxed is a line break and a word
        start -= 1
    return start


def has_box(text: str) -> bool:
    return "\\boxed" in text or "\\fbox" in text


def _is_empty_box(text: str, start: int) -> bool:
    """`start` is just after the opening brace."""
    return text[start:].lstrip()[:1] == "}"


def box_start(text: str, content: int) -> int:
    return text.rfind("\\", max(0, content - 40), content)
