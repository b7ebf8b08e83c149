"""What a splitter declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from negrl.options import Options


@dataclass(frozen=True, slots=True)
class Splitter:
    """A way to find where steps begin.

    Args:
        name: what `label.split` says.
        boundaries: (text, settings) -> character offsets at which a step ends and the next one begins, rising.
            Offsets at the text's ends are ignored. `settings` has the options below as attributes. The text was
            written by a model: the time must be linear in its length.
        options: keys of the `label` section that are there with this splitter only.
        help: what `negrl options` says of it. Default: its module's docstring.
    """

    name: str
    boundaries: Callable[[str, Any], Iterable[int]]
    options: type[Options] = Options
    help: str = ""
