"""The process between a program and its workers: pebble's pool, run where nothing else runs.

If the workers were children of the program itself, they would depend on what it is: a daemon may not have
children, a script without a main guard would run again in each of them, a fork inherits threads and locks, and
a program that is killed leaves busy workers behind. So pool.py starts this small process instead, sends it items
through a socket, and reads answers from it. When the socket or the program is gone, it kills the workers and ends.

A message consists of (ticket, job) pairs that go to a worker together. A worker stops after SLICE seconds and
leaves the rest for the next trip. When a trip breaches a limit, its items are sent again one by one, each with its
own full limit, so a hostile item costs the others nothing but time.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

import pebble

Job = tuple[int, bytes]
Answer = tuple[str, Any]
"""("value", the result), ("failure", timeout | memory | crashed) or ("error", the traceback as text)."""

SLICE = 0.25
TASKS_PER_WORKER = 500
"""After this many it is replaced, because sympy's caches grow."""
_OUT_OF_MEMORY = 75
_READY = "ready"


class Guard:
    """Serves one program until it goes away."""

    def __init__(self, connection: Connection, parent: int, workers: int, timeout: float, memory_mb: int):
        self.connection, self.parent, self.timeout = connection, parent, timeout
        self.sending = threading.Lock()
        pebble.CONSTS.term_timeout = 0.5  # seconds from SIGTERM to SIGKILL, in which the other workers get no tasks
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["negrl.verify.warm", "negrl.verify.guard"])
        self.pool = pebble.ProcessPool(workers, TASKS_PER_WORKER, limit_worker, (memory_mb, timeout), context)

    def serve(self) -> None:
        self.pool.schedule(run, args=([],)).result()  # from now on the workers can start at once
        self.send([(-1, ("value", _READY))])
        while os.getppid() == self.parent:
            if self.connection.poll(1.0):
                try:
                    jobs = self.connection.recv()
                except (EOFError, OSError):
                    return
                self.launch(jobs)

    def launch(self, jobs: list[Job]) -> None:
        limit = self.timeout if len(jobs) == 1 else SLICE + min(self.timeout, 1.0)
        future = self.pool.schedule(run, args=([job for _, job in jobs],), timeout=limit)
        future.add_done_callback(functools.partial(self.finish, jobs))

    def finish(self, jobs: list[Job], future: Future[list[Answer]]) -> None:
        error = future.exception()
        if error is None:
            answers = future.result()
            self.send([(ticket, answer) for (ticket, _), answer in zip(jobs, answers, strict=False)])
            if rest := jobs[len(answers) :]:
                self.launch(rest)
        elif not isinstance(error, (TimeoutError, pebble.ProcessExpired)):
            for worker in multiprocessing.active_children():  # pebble gave up on its workers
                worker.kill()
            os._exit(1)  # the program starts another guard and asks again
        elif len(jobs) > 1:
            for job in jobs:
                self.launch([job])
        else:
            out_of_memory = getattr(error, "exitcode", None) == _OUT_OF_MEMORY
            kind = "timeout" if isinstance(error, TimeoutError) else "memory" if out_of_memory else "crashed"
            self.send([(jobs[0][0], ("failure", kind))])

    def send(self, answers: Sequence[tuple[int, Answer]]) -> None:
        with self.sending, contextlib.suppress(OSError):  # the program is gone and needs no answer
            self.connection.send(answers)


def limit_worker(memory_mb: int, timeout: float) -> None:
    """What every worker does first: set limits that the kernel enforces, whoever holds the interpreter lock."""
    global _memory, _cpu
    _memory, _cpu = memory_mb << 20, timeout + SLICE + 5
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # so that it ends a worker at once
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/self/statm"):  # other systems do not enforce the limit on address space anyway
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + _memory, size + _memory))
    with open(os.devnull, "w") as devnull:  # parsers print messages about their input
        os.dup2(devnull.fileno(), 1)
        os.dup2(devnull.fileno(), 2)


_memory, _cpu = 1 << 62, 1e6


def run(jobs: list[bytes]) -> list[Answer]:
    """In a worker: answer the first of `jobs`, as many as SLICE seconds allow and at least one."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # If the guard is killed, a busy worker ends itself soon after.
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + _cpu) + 1, hard))
    started, answers = time.monotonic(), []
    for job in jobs:
        answers.append(_answer(job))
        if time.monotonic() - started > SLICE:
            break
    return answers


def _answer(job: bytes) -> Answer:
    before = _peak_memory()
    try:
        function, args = pickle.loads(job)
        value = function(*args)
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)  # this process can no longer be trusted
    except Exception:  # goes to the caller, who raises it
        return "error", traceback.format_exc()
    # Math libraries take a MemoryError for "not equal", and a worker that came near its limit may have had one.
    if _peak_memory() - before > 0.75 * _memory:
        os._exit(_OUT_OF_MEMORY)
    return "value", value


def _peak_memory() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Arguments: the number of the socket, the process id of the program, workers, timeout, memory_mb."""
    descriptor, parent, workers, timeout, memory_mb = sys.argv[1:]
    guard = Guard(Connection(int(descriptor)), int(parent), int(workers), float(timeout), int(memory_mb))
    guard.serve()
    deadline = threading.Timer(5, os._exit, (1,))
    deadline.daemon = True
    deadline.start()
    guard.pool.stop()
    guard.pool.join()
