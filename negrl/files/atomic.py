"""The one way to write a file: to a temporary file beside it, flushed to disk, renamed. Readers see the old file or
the whole new one."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from negrl.errors import InputError


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a whole file. Its folder is made if needed.

    Raises:
        InputError: `path` cannot be written.
    """
    with open_atomic(path) as handle, blaming(path):
        handle.write(data)


@contextmanager
def open_atomic(out: str | Path, source: Path | None = None) -> Iterator[BinaryIO]:
    """A handle to write `out` with, gzipped if its name says so. The file takes its place when the block ends well;
    otherwise nothing changes. A link stays a link.

    Args:
        source: a file that `out` must not be.

    Raises:
        InputError: `out` cannot be written.
    """
    target = check_target(out, source)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with blaming(out):
        target.parent.mkdir(parents=True, exist_ok=True)
        raw: BinaryIO = open(temporary, "wb")  # noqa: SIM115 (closed below)
    handle = raw
    if Path(out).suffix.lower() == ".gz":  # no name and no time in the header: the same rows make the same bytes
        handle = cast(BinaryIO, gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
    try:
        yield handle
        with blaming(out):
            if handle is not raw:
                handle.close()
            raw.flush()
            os.fsync(raw.fileno())
            os.replace(temporary, target)
    finally:
        for one in (handle, raw):
            with suppress(OSError):
                one.close()
        temporary.unlink(missing_ok=True)


def check_target(out: str | Path, source: Path | None = None) -> Path:
    """The file that will be replaced: what `out` links to, since a rename would replace the link itself.

    Raises:
        InputError: it is not a regular file, or it is `source`.
    """
    given = Path(out)
    try:
        mode = given.stat().st_mode
    except FileNotFoundError:
        return given.resolve()
    except OSError as error:  # links in a circle, a folder that may not be entered
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{out}: is a folder, expected a file name to write to")
    if not stat.S_ISREG(mode):
        raise InputError(f"{out}: is a device, pipe or socket, expected a file name to write to")
    if source is not None and given.samefile(source):
        raise InputError(f"{out}: is the input file; give another --out")
    return given.resolve()


def clear_stale(folder: str | Path) -> None:
    """Remove the temporary files that killed processes left in `folder`. Only for who holds its lock."""
    for path in Path(folder).glob(".*.*.tmp"):
        if path.name.split(".")[-2].isdigit():
            with suppress(OSError):
                path.unlink()


@contextmanager
def blaming(out: str | Path) -> Iterator[None]:
    """Turns an OSError of the block (a full disk, no permission) into an InputError that names `out`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
