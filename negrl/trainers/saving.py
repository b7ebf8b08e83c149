"""The trained model, whole or not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from negrl.recipe import PolicySection
from negrl.trainers.distributed import barrier, is_main


def save_model(trainer: Any, out: Path, policy: PolicySection) -> None:
    """Write to a temporary folder, then rename: `out/model` is whole or not there."""
    import torch

    if trainer.is_fsdp_enabled:  # gather the shards into one state dict
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    elif policy.dtype != "float32" and not trainer.is_deepspeed_enabled:
        trainer.model.to(getattr(torch, policy.dtype))
    temporary = out / ".model.tmp"
    if is_main():
        shutil.rmtree(temporary, ignore_errors=True)
    barrier()
    trainer.save_model(str(temporary))
    barrier()
    if is_main():
        (temporary / "training_args.bin").unlink(missing_ok=True)  # a pickle, with this machine's paths
        shutil.rmtree(out / "model", ignore_errors=True)
        temporary.replace(out / "model")
