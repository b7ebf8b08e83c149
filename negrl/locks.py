"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from negrl.errors import InputError


@contextmanager
def locked(folder: Path, setting: str, work: str) -> Iterator[None]:
    """Hold the folder, made where it is not there.

    Args:
        setting, work: for the message: what named the folder, and what is done in it.

    Raises:
        InputError: another process is at work there, or it can't be a folder.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{setting}: another {work} is at work in '{folder}'; wait or name another folder") from None
    except OSError as error:
        raise InputError(f"{setting}: can't use '{folder}': {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
