"""Verdicts of a file that is being judged, kept beside the output until it is there: OUT.partial.

JSON lines: first what the verdicts are of, then one line per some rows. A run that was killed leaves it behind;
`negrl verify --resume` reads it back and judges only the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from negrl.errors import InputError
from negrl.files import blaming
from negrl.records import Verdict

Noted = tuple[list[list[Verdict]], list[tuple[int, str]]]
"""Verdicts of consecutive rows, by row and sample, and their problems."""
_FORMAT = 1


class Journal:
    def __init__(self, path: Path, handle: BinaryIO, noted: list[Noted]):
        self._path, self._handle, self._noted = path, handle, noted[::-1]
        self.worth = bool(noted)
        """Does it hold verdicts that took work?"""

    def read(self, rows: int) -> Noted | None:
        """What is known of the next rows; None where they have to be judged.

        Args:
            rows: how many the batch still has.

        Raises:
            InputError: more are noted.
        """
        if not self._noted:
            return None
        found = self._noted.pop()
        if len(found[0]) > rows:
            raise _OtherError(f"{self._path}: its batches are not those of the input; leave out --resume")
        return found

    def write(self, verdicts: list[list[Verdict]], problems: list[tuple[int, str]]) -> None:
        """Note the next rows."""
        self.worth = self.worth or sum(map(len, verdicts)) > len(problems)
        rows = [[[v.value, v.reason, v.answer, v.method] for v in row] for row in verdicts]
        with blaming(self._path):
            self._handle.write(json.dumps([rows, problems]).encode() + b"\n")
            self._handle.flush()


@contextmanager
def open_journal(target: Path | None, source: Path | None, about: Any, resume: bool) -> Iterator[Journal | None]:
    """The journal of `target`. When the block ends well it is removed, and when it ends by an InputError before there
    was a verdict; otherwise it stays.

    Args:
        target: None: there is no journal.
        source: the input file.
        about: what the verdicts depend on besides the input; JSON.
        resume: read what is there; otherwise it is dropped.

    Raises:
        InputError: it is of another input or other settings, in use, or can't be written.
    """
    if target is None or source is None:
        yield None
        return
    path = target.with_name(f"{target.name}.partial")
    with blaming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{path}: another negrl verify is at work on this output") from None
        with blaming(source), source.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        versions = [importlib.metadata.version(name) for name in ("negrl", "math-verify")]
        journal: Journal | None = None
        head = json.dumps([_FORMAT, digest, about, versions]).encode() + b"\n"
        try:
            noted = _resumed(path, handle, head) if resume else []
            if not noted:
                handle.truncate(0)
                with blaming(path):
                    handle.write(head)
                    handle.flush()
            journal = Journal(path, handle, noted)
            yield journal
        except _OtherError:
            raise
        except InputError as error:
            if journal is not None and journal.worth:
                raise InputError(f"{error}; what is judged is in {path}, --resume continues from there") from None
            path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


class _OtherError(InputError):
    """What is there belongs to something else, and stays."""


def _resumed(path: Path, handle: BinaryIO, head: bytes) -> list[Noted]:
    """The rows that are noted whole; what a kill has cut off after them is dropped."""
    handle.seek(0)
    first = handle.readline()
    if first != head:
        if not first.endswith(b"\n"):  # nothing, or killed at the start
            return []
        raise _OtherError(f"{path}: is of another input, other settings or another version; leave out --resume")
    noted, end = [], handle.tell()
    for line in handle:
        try:
            rows, problems = json.loads(line)
            batch = [[Verdict(*sample) for sample in row] for row in rows]
        except (ValueError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        noted.append((batch, [(int(number), str(what)) for number, what in problems]))
        end += len(line)
    handle.truncate(end)
    handle.seek(end)
    return noted
