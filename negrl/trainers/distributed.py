"""How many processes there really are. `accelerate launch --cpu --num_processes 2` starts one without a
word, and a training that believes otherwise has half the batch: so ask, say and refuse."""

from __future__ import annotations

import atexit
import functools
import os
import time

from negrl.errors import InputError

_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def world_size() -> int:
    """Processes that train together, from the launcher's environment."""
    return int(os.environ.get("WORLD_SIZE") or next((os.environ[k] for k in _MPI if os.environ.get(k)), "1"))


def is_main() -> bool:
    """Is this the process that writes?"""
    ranks = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
    return next((os.environ[k] for k in ranks if os.environ.get(k)), "0") == "0"


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        _leave_at_exit()


@functools.cache
def _leave_at_exit() -> None:
    """A gloo thread still frees its last finished work when the main thread has gone on. If the
    interpreter ends meanwhile, that thread can't take the GIL, the process dies of SIGABRT, and torchrun
    fails the whole job after it has succeeded. So the process leaves the group and lets the threads end."""
    import torch.distributed

    def leave() -> None:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        time.sleep(0.5)  # releases the GIL; joining the threads is not offered

    atexit.register(leave)


def check_processes(expected: int | None = None) -> str:
    """Join the processes, print (rank 0) and return one line such as
    "2 processes, backend gloo, DistributedType.MULTI_CPU".

    Args:
        expected: how many the user asked for, where the script was told.

    Raises:
        InputError: they are not as many as asked for, or `accelerate launch` was asked for several and
            started one (its CPU launcher does: it then leaves MASTER_ADDR but no WORLD_SIZE).
    """
    found = world_size()
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and found == 1 and "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        raise InputError(
            "accelerate launch was asked for several processes but started 1 (its CPU launcher ignores "
            "--num_processes): use torchrun --nproc_per_node N"
        )
    if expected is not None and found != expected:
        raise InputError(
            f"--num-processes {expected}, but the launcher started {found}: use torchrun --nproc_per_node {expected}"
        )
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes != found:
        raise InputError(
            f"the launcher says {found} processes, but {state.num_processes} found each other "
            f"({state.distributed_type}): check the accelerate config's distributed_type"
        )
    noun = "process" if found == 1 else "processes"
    line = f"{found} {noun}, backend {state.backend or 'none'}, {state.distributed_type}"
    if found > 1:
        _leave_at_exit()
    if state.is_main_process:
        print(line, flush=True)
    return line
