"""`negrl.options.Section`, until the last of its users here has moved."""

from negrl.options import Section

__all__ = ["Section"]
