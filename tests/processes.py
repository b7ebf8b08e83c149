"""Programs in processes of their own that have their imports behind them.

torch, transformers and TRL take ten seconds to import, again in each process that a test starts. Here a server
(multiprocessing's forkserver) imports them once, and forks for each program. Nothing else is shared. How a program
starts is not seen this way: tests of start-up, launchers and Ctrl-C start real ones.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.data import ROOT

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


def _program(command: list[str], environment: dict[str, str], out: str) -> None:
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{out}/{name}" if out else os.devnull, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


def start(*command: object, out: str = "", environment: Mapping[str, str] | None = None) -> BaseProcess:
    """`python command`, started. `out`: a folder for its stdout and stderr, or nowhere."""
    ours = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "MASTER_ADDR")}
    arguments = ([str(word) for word in command], {**ours, **(environment or {})}, out)
    process = _context.Process(target=_program, args=arguments)
    process.start()
    return process


def run(*command: object, processes: int = 1, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    """`python command` to its end; with `processes`, as torchrun starts it: the first that fails ends all."""
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared["MASTER_PORT"] = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(processes):
            out = Path(folder) / str(rank)
            out.mkdir()
            one = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            started.append(start(*command, out=str(out), environment=one))
        deadline = time.monotonic() + timeout
        while any(p.is_alive() for p in started) and not any(p.exitcode for p in started):
            if time.monotonic() > deadline:
                break
            started[0].join(0.05)
            time.sleep(0.05)
        failed = next((p.exitcode for p in started if p.exitcode), None)
        for process in started:
            process.kill()
            process.join()
        said = [
            "".join((Path(folder) / str(r) / n).read_text() for r in range(processes)) for n in ("stdout", "stderr")
        ]
        if failed is None and time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(str(command), timeout, *said)
    return subprocess.CompletedProcess(command, failed or 0, *said)
