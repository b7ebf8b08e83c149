"""What test_pool.py runs in worker processes: honest, endless, greedy and deadly functions."""

import os
import signal
import time

import psutil


def double(text: str) -> str:
    return text * 2


def worker_pid(_: str) -> str:
    time.sleep(0.05)
    return str(os.getpid())


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def hold_the_lock(_: str) -> int:
    """Big-number arithmetic in C, during which no signal handler and no other thread runs."""
    return len(bin(3 ** (3**30)))


def ignore_sigterm(_: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def take_memory(_: str) -> int:
    return len(bytearray(4 << 30))


def swallow_memory_error(_: str) -> str:
    """Like sympy: memory up to the limit, and the error taken for an answer."""
    kept = []
    try:
        while True:
            kept.append(bytearray(1 << 20))
            kept[-1][::4096] = b"x" * 256
    except MemoryError:
        kept.clear()
        return "not equal"


def crash(_: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(_: str) -> None:
    os._exit(0)


def end_the_guard(_: str) -> None:
    """As the kernel does that runs out of memory. A worker's parent is multiprocessing's fork server, whose is the
    guard."""
    guard = psutil.Process().parents()[1].pid
    with open(f"/proc/{guard}/fd/2", "a") as printed:
        printed.write("warning\nno memory left\n")
    os.kill(guard, signal.SIGKILL)
    time.sleep(10)


def fail(_: str) -> None:
    raise LookupError("no such thing")


def by_name(name: str) -> object:
    return globals()[name]("ab")
