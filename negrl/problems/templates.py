"""Prompt templates."""

from __future__ import annotations

from negrl.errors import InputError


def fill(template: str, prompt: str, key: str) -> str:
    """The template with the prompt in it.

    Raises:
        InputError: the template has no {prompt}; `key` names it in the recipe.
    """
    if "{prompt}" not in template:
        raise InputError(f"{key}: must contain {{prompt}}, got {template!r}")
    return template.replace("{prompt}", prompt)
