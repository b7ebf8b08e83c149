"""Engines by name; the heavy import happens when one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrl.engines.base import Completion, Engine, Request

if TYPE_CHECKING:
    from negrl.policy import PolicySection
    from negrl.recipe import EngineSection

__all__ = ["Completion", "Engine", "Request", "open_engine"]


def open_engine(section: EngineSection, model: str, policy: PolicySection) -> Engine:
    """Open the recipe's engine on `model` (a folder or a hub id)."""
    from negrl.quiet import quiet

    with quiet():
        if section.kind == "vllm":
            from negrl.engines.vllm import VllmEngine

            return VllmEngine(model, policy, section)
        from negrl.engines.transformers import TransformersEngine

        return TransformersEngine(model, policy, section)
