"""`width`: a step is a fixed number of characters."""

from collections.abc import Iterable

from pydantic import Field

from negrl.options import Options
from negrl.steps.splitters import Splitter


class WidthOptions(Options):
    width: int = Field(6, ge=1)
    """Characters in a step."""


def boundaries(text: str, settings: WidthOptions) -> Iterable[int]:
    return range(settings.width, len(text), settings.width)


SPLITTER = Splitter("width", boundaries, WidthOptions)
