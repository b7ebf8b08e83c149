"""Save the trained model: completely, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from negrl.policy import PolicySection
from negrl.trainers.distributed import barrier, is_main


def save_model(trainer: Any, out: Path, policy: PolicySection) -> None:
    """Write to a temporary folder, then rename it: `out/model` is complete or not there. Weights are in
    `policy.dtype`, sharded training or not (DeepSpeed: in the dtype that it trains in)."""
    import torch

    dtype = None if policy.dtype == "float32" else getattr(torch, policy.dtype)
    if dtype is not None and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        trainer.model.to(dtype)
    temporary = out / ".model.tmp"
    if is_main():
        shutil.rmtree(temporary, ignore_errors=True)
    barrier()
    if trainer.is_fsdp_enabled:
        state = whole_state(trainer.model)
        if is_main():
            trainer._save(str(temporary), state_dict={name: tensor.to(dtype=dtype) for name, tensor in state.items()})
    else:
        trainer.save_model(str(temporary))
    barrier()
    if is_main():
        (temporary / "training_args.bin").unlink(missing_ok=True)  # a pickle, with this machine's paths
        for former in ("model", "adapter"):  # an adapter of another training does not belong to this model
            shutil.rmtree(out / former, ignore_errors=True)
        temporary.replace(out / "model")


def whole_state(model: Any) -> dict[str, Any]:
    """The weights of a model sharded by FSDP2, gathered on the CPU of rank 0 (nothing on other ranks). Tied weights
    appear once, as save_pretrained writes them. All processes must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return {name: tensor for name, tensor in state.items() if name not in tied}
