"""Save the trained model: completely, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from negrl.errors import UNWRITABLE, InputError
from negrl.policy import PolicySection
from negrl.trainers.distributed import barrier, is_main


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns what the libraries raise on a full disk, a file-size limit or a read-only disk into an InputError that
    names `out`, and removes the half-written model: it may be what fills the disk."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if (reason := _disk_problem(error)) is None:
            raise
        for unfinished in (".model.tmp", ".adapter.tmp"):
            shutil.rmtree(out / unfinished, ignore_errors=True)
        raise InputError(f"{out}: cannot be written: {reason}; what is finished is kept") from None


def _disk_problem(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return error.strerror or str(error) if error.errno in UNWRITABLE else None
    # safetensors and torch.save have no error of their own for it; the archive that torch.save writes counts its bytes
    signs = ("PytorchStream", "inline_container.cc", "iostream error")
    if type(error).__name__ == "SafetensorError":
        signs = ("os error", "IoError", "I/O error")
    return str(error).splitlines()[0] if any(sign in str(error) for sign in signs) else None


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
