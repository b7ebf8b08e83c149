"""`transformers`: the embedded engine, which needs nothing that training does not need.

This module only declares it. What decodes (engine.py, sampler.py) loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negrl.engines.base import Engine, EngineSpec
from negrl.options import Options, unkeyed

if TYPE_CHECKING:
    from negrl.policy import PolicySection


BATCH_SIZE = 512


class TransformersOptions(Options):
    batch_size: int = unkeyed(BATCH_SIZE, ge=1)
    """Sequences decoded at once."""


def _open(model: str, policy: PolicySection, section: Any) -> Engine:
    from negrl.engines.transformers.engine import TransformersEngine  # loads torch

    return TransformersEngine(model, policy, section.batch_size, section.device)


ENGINE = EngineSpec("transformers", TransformersOptions, _open, distributions=("transformers",))
