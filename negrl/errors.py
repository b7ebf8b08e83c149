"""What ends a run with one clear line and no traceback: a mistake that the user can mend (exit code 2), a
guard that stopped a training (exit code 3)."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
"""An OSError's number when the disk is full or may not be written: nothing that a traceback explains."""


def unwritable(error: OSError) -> str | None:
    """The line that says that a disk is full or may not be written; None for any other error."""
    if error.errno not in UNWRITABLE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}cannot be written: {error.strerror}; what is finished is kept"


class InputError(Exception):
    """Something the user gave is wrong. The message is one line that names the file, key or row,
    what was expected and, where there is one, the nearest right thing."""

    exit_code = 2


class GuardTripped(Exception):
    """A guard stopped a training. The best weights are saved; the message is one line that says what
    happened, at which step, and where they are. Exit code 3."""

    exit_code = 3


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the candidate closest to `name`, or an empty string."""
    match = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f" (did you mean '{match[0]}'?)" if match else ""
