"""JSON lines: rows with their line numbers out of a file, plain or .gz, and rows as lines."""

from __future__ import annotations

import base64
import codecs
import datetime
import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from negrl.errors import InputError, nearest


def check_exists(path: str | Path) -> Path:
    """The path of a readable file.

    Raises:
        InputError: there is no such file; names the nearest one beside it.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path}: is a folder, expected a JSON lines file")
    if not file.is_file():
        beside = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(file.name, beside)}")
    return file


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed if its name ends in .gz.

    Raises:
        InputError: the file is missing, cannot be read, or is not the gzip file that its name promises.
    """
    file = check_exists(path)
    try:
        # fsspec's compression="infer" would read .bz2 and .xz too, but takes 4 MB and half a second to load.
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as handle:
            yield cast(BinaryIO, handle)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def raw_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its end) of every line that is not blank. A UTF-8 byte order
    mark before the first line, which some editors write, is left out.

    Raises:
        InputError: as `opened`.
    """
    with opened(path) as handle:
        yield from numbered(handle)


def numbered(handle: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """`raw_lines` of an open file."""
    for number, line in enumerate(handle, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def parse_object(line: bytes) -> dict[str, Any]:
    """One line as a JSON object.

    Raises:
        ValueError: it is not one; the message says what it is instead.
    """
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except RecursionError:
        raise ValueError("not usable JSON (nested too deep)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {type(row).__name__}")
    return row


def iterate_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a JSON lines file with their line numbers.

    Raises:
        InputError: the file is missing or damaged, or a line is not a JSON object.
    """
    for number, line in raw_lines(path):
        try:
            yield number, parse_object(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from None


def read_rows(path: str | Path, what: str = "problems") -> list[tuple[int, dict[str, Any]]]:
    """The same as a list.

    Args:
        what: what the rows are, for the message that there are none.

    Raises:
        InputError: also when the file has no rows.
    """
    rows = list(iterate_rows(path))
    if not rows:
        raise InputError(f"no {what} in {path}")
    return rows


def encode(row: Mapping[str, Any], strict: bool = False) -> bytes:
    """A row as a JSON line.

    Args:
        strict: NaN and infinities, which are not JSON, become null; otherwise they stay as Python writes them.
    """
    try:
        text = json.dumps(row, ensure_ascii=False, default=_plain, allow_nan=not strict)
    except ValueError:
        text = json.dumps(_finite(row), ensure_ascii=False, default=_plain)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: keep it as the escape that it came as
        return json.dumps(row, default=_plain).encode() + b"\n"


def _plain(value: Any) -> str:
    """Values that Arrow has and JSON lacks: bytes as base64, dates and times as ISO 8601, others as they print."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
