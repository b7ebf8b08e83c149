"""The one way to write a file: to a temporary file beside it, flushed to disk, renamed. Readers see the old file or
the whole new one. Where the file system can do it, the temporary file has no name until it is whole, so that not even
a kill leaves it behind."""

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
        raw = _nameless(target.parent)
        named = raw is None
        if raw is None:
            raw = open(temporary, "wb")  # noqa: SIM115 (closed below)
    handle: BinaryIO = raw
    if Path(out).suffix.lower() == ".gz":  # no name and no time in the header: the same rows make the same bytes
        handle = cast(BinaryIO, gzip.GzipFile("", "wb", fileobj=raw, mtime=0))
    try:
        yield handle
        with blaming(out):
            if handle is not raw:
                handle.close()
            raw.flush()
            os.fsync(raw.fileno())
            if not named:
                _name(raw, temporary)
            os.replace(temporary, target)
    finally:
        for one in (handle, raw):
            with suppress(OSError):
                one.close()
        temporary.unlink(missing_ok=True)


def _nameless(folder: Path) -> BinaryIO | None:
    """A file in this folder that has no name yet. None where that can't be had (only Linux, not on NFS)."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        number = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError:  # what is really wrong shows when a file with a name is opened
        return None
    handle = os.fdopen(number, "wb")
    if os.path.exists(f"/proc/self/fd/{number}"):
        return handle
    handle.close()
    return None


def _name(handle: BinaryIO, path: Path) -> None:
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # with a folder given, os.link follows the link in /proc to the file
        os.link(f"/proc/self/fd/{handle.fileno()}", path, src_dir_fd=folder)
    finally:
        os.close(folder)


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
