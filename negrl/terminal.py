"""Text that others wrote, made safe to print."""

from __future__ import annotations


def safe(text: object, width: int | None = None) -> str:
    r"""One line that a terminal shows as it stands: control characters (ANSI escapes start with one), line ends,
    bidi and zero-width characters and halves of surrogate pairs come as \x1b, \n, \u202e and the like.

    Args:
        width: cut to so many characters, with "..." at the end.
    """
    text = str(text)
    if width is not None and len(text) > width:
        text = text[: width - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def safe_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(safe(line) for line in text.split("\n"))
