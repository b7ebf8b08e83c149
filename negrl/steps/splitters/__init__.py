"""Ways to cut a response into steps, by name. A new one is a module here that declares a `Splitter`."""

from negrl.registry import Registry
from negrl.steps.splitters.base import Splitter

__all__ = ["SPLITTERS", "Splitter"]

SPLITTERS: Registry[Splitter] = Registry("splitter", Splitter, "negrl.steps.splitters", group="negrl.splitters")
"""By the name that `label.split` takes."""
