"""What every section of a recipe is: unknown keys are refused, docstrings are the help."""

from __future__ import annotations

import pydantic


class Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)
