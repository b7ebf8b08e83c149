"""A pool of worker processes that can be killed: for work that may hang, eat all memory or crash.

Every item has a wall-clock limit and a memory limit. An item that breaches one yields a Failure and its worker is
replaced; the other items get their results. In the program itself there is only one thread, which reads answers,
so the pool works the same from any thread, inside a coroutine, in a daemon process, in a test runner's worker and
under Ray. The processes belong to guard.py and end with the program, however it ends. The time that they take to
start is not counted against any item.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from negrl.errors import InputError

if TYPE_CHECKING:
    from negrl.verify.section import VerifySection

T = TypeVar("T")

_BATCH = 16
"""Most items sent together."""
_AHEAD = 64
"""Items per worker that are sent before the first answer is read."""
_START = 300.0
"""Seconds for the processes to start, on a busy machine."""
_WARNINGS = "ignore::UserWarning:multiprocessing.resource_tracker"
"""Reports and removes semaphores that a killed guard left behind."""
_MOST_LOST = 5
"""Guards in a row that ended with work to do and without one answer. One item can't cost so many: it is sent to two."""
_COMMAND = "from negrl.verify.guard import main; main()"


class Failure(enum.StrEnum):
    """Why an item has no result."""

    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"


class Pool:
    """Worker processes, started by the first `map` or `run`, and again after `close` or a fork."""

    def __init__(self, workers: int = 1, timeout: float = 5.0, memory_mb: int = 1024):
        """
        Args:
            workers: number of processes.
            timeout: wall-clock seconds for one item.
            memory_mb: megabytes (2**20 bytes) that one worker may take beyond what it has after its imports.
        """
        self.workers, self.timeout, self.memory_mb = workers, timeout, memory_mb
        self._lock = threading.Lock()
        self._guard: _Guard | None = None
        self._lost = 0
        _pools.add(self)

    def map(self, function: Callable[..., T], items: Iterable[tuple[Any, ...]]) -> Iterator[T | Failure]:
        """`function(*item)` for every item, in order, on all workers.

        Args:
            function: found by its module and name, so not defined in the main script.
            items: tuples of plain values (str, bool, None, numbers).

        Raises:
            RuntimeError: the function raised (its traceback is in the message).
            InputError: no worker can start, or they end again and again before they answer; says what they printed.
        """
        jobs = (pickle.dumps((function, tuple(item))) for item in items)
        ahead = _AHEAD * self.workers
        waiting: deque[tuple[bytes, Future[Any]]] = deque()
        fresh = list(itertools.islice(jobs, ahead))
        try:
            while fresh or waiting:
                size = max(1, min(_BATCH, len(fresh) // (2 * self.workers)))
                for start in range(0, len(fresh), size):
                    batch = fresh[start : start + size]
                    waiting.extend(zip(batch, self._submit(batch), strict=True))
                while len(waiting) > ahead // 2 or (waiting and not fresh):
                    yield self._settle(*waiting.popleft())
                fresh = list(itertools.islice(jobs, ahead - len(waiting)))
        except KeyboardInterrupt:  # nobody needs the rest
            self.close()
            raise

    def run(self, function: Callable[..., T], *args: Any) -> T | Failure:
        """`function(*args)` in a worker; see `map`."""
        return next(self.map(function, [args]))

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        with self._lock:
            guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()

    def _submit(self, jobs: list[bytes]) -> list[Future[Any]]:
        with self._lock:
            if self._guard is None or self._guard.gone:
                if self._guard is not None:
                    self._replace(self._guard)
                self._guard = _Guard(self.workers, self.timeout, self.memory_mb)
                weakref.finalize(self, self._guard.close)  # also when the interpreter exits
            guard = self._guard
        return guard.submit(jobs)

    def _replace(self, guard: _Guard) -> None:
        guard.close()
        self._lost = self._lost + 1 if guard.asked and not guard.answered else 0
        if self._lost == _MOST_LOST:
            self._guard, self._lost = None, 0
            raise InputError(f"the verifier's worker processes end again and again{guard.end()}")

    def _settle(self, job: bytes, future: Future[Any]) -> Any:
        try:
            kind, value = future.result()
        except _GuardGoneError:
            [again] = self._submit([job])
            try:
                kind, value = again.result()
            except _GuardGoneError:
                return Failure.CRASHED  # it was in flight each time the guard went down
        if kind == "error":
            raise RuntimeError(f"the function failed in its worker process:\n{value}")
        return Failure(value) if kind == "failure" else value


class _GuardGoneError(Exception):
    """The guard process ended before it answered."""


class _Guard:
    """A running guard process and the answers that it still owes."""

    def __init__(self, workers: int, timeout: float, memory_mb: int):
        from multiprocessing.connection import Connection

        self.owner, self.gone = os.getpid(), False
        self.asked = self.answered = False
        self._owed: dict[int, Future[Any]] = {}
        self._tickets = itertools.count()
        self._lock = threading.Lock()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the guard)
        self._socket, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
            numbers = (theirs.fileno(), self.owner, workers, timeout, memory_mb)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the program
                env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": _WARNINGS},
            )
        self._connection = Connection(os.dup(self._socket.fileno()))
        try:
            started = self._connection.poll(_START) and self._connection.recv()
        except (EOFError, OSError):
            started = False
        if not started:
            self.close()
            raise InputError(f"the verifier's worker processes do not start{self.end()}")
        threading.Thread(target=self._read, name="negrl-pool", daemon=True).start()

    def submit(self, jobs: list[bytes]) -> list[Future[Any]]:
        """Send a batch; a future per job, with (kind, value) or _GuardGoneError."""
        futures: list[Future[Any]] = [Future() for _ in jobs]
        with self._lock:
            if not self.gone:
                tickets = list(itertools.islice(self._tickets, len(jobs)))
                self._owed.update(zip(tickets, futures, strict=True))
                # The reader deals with a guard that is gone.
                self.asked = True
                with contextlib.suppress(OSError):
                    self._connection.send(list(zip(tickets, jobs, strict=True)))
                return futures
        for future in futures:
            future.set_exception(_GuardGoneError())
        return futures

    def _read(self) -> None:
        while True:
            try:
                # A fork of this process can hold the socket open, so look at the guard as well.
                while not self._connection.poll(1.0):
                    if self._process.poll() is not None:
                        raise EOFError
                answers = self._connection.recv()
            except (EOFError, OSError):
                break
            self.answered = True
            for ticket, answer in answers:
                self._owed.pop(ticket).set_result(answer)
        with self._lock:
            self.gone = True
            owed = list(self._owed.values())
            self._owed.clear()
        for future in owed:
            future.set_exception(_GuardGoneError())

    def end(self) -> str:
        """How the process ended, and the last line that it printed."""
        code = self._process.returncode
        how = f" (killed by signal {-code})" if code is not None and code < 0 else ""
        self._said.seek(0)
        lines = self._said.read()[-10_000:].decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]:.300}" if lines else f"{how}; they printed nothing"

    def forget(self) -> None:
        """In a fork: let go of the parent's socket."""
        self._socket.close()
        self._connection.close()

    def close(self) -> None:
        if os.getpid() != self.owner:
            return  # a fork does not own it
        self.gone = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # also wakes the reader
        self._socket.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_shared: dict[tuple[int, float, int], Pool] = {}
_sharing = threading.Lock()


def shared_pool(section: VerifySection) -> Pool:
    """The one pool per process and setting: started when first used, closed when the interpreter exits."""
    key = (section.workers, section.timeout, section.memory_mb)
    with _sharing:
        return _shared.setdefault(key, Pool(*key))


def _forget_after_fork() -> None:
    """In a forked child: drop locks that a thread of the parent may hold, and the parent's guard."""
    global _sharing
    _sharing = threading.Lock()
    for pool in list(_pools):
        if pool._guard is not None:
            pool._guard.forget()
        pool._lock, pool._guard = threading.Lock(), None


os.register_at_fork(after_in_child=_forget_after_fork)
