"""Rows into JSON lines or Parquet, by the name: to a temporary file, flushed to disk, renamed."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from negrl.errors import InputError
from negrl.tables.sources import Batch, Renames, Source, kind_of

if TYPE_CHECKING:
    import pyarrow as pa

Added = Mapping[str, Sequence[str | None]]
"""Text columns that come after the input's own."""


class Sink(Protocol):
    def write(self, batch: Batch, added: Added) -> None:
        """The batch's rows with the columns `added`."""
        ...


@contextmanager
def open_sink(out: str | Path, source: Source, renames: Renames, added: Sequence[str]) -> Iterator[Sink]:
    """A file for the rows of `source` under the names that `renames` gives, with text columns `added`.

    It takes the place of `out` when the block ends well; else nothing changes (a link stays a link).

    Raises:
        InputError: `out` is the input file, no place to write to, or can't hold the rows.
    """
    kind, _ = kind_of(out)
    with write_whole(out, source.path) as handle:
        if kind == "jsonl":
            yield _JsonlSink(out, handle, renames, strict=source.kind == "parquet")
        else:
            sink = _ParquetSink(out, handle, source, renames, added)
            try:
                yield sink
            finally:
                sink.close()


class _JsonlSink:
    def __init__(self, out: str | Path, handle: BinaryIO, renames: Renames, strict: bool):
        self._out, self._handle, self._renames, self._strict = out, handle, renames, strict

    def write(self, batch: Batch, added: Added) -> None:
        for index, row in enumerate(batch.rows):
            names = self._renames(row)
            kept = {names[k]: v for k, v in row.items() if k in names}
            try:
                line = encode({**kept, **{k: v[index] for k, v in added.items()}}, self._strict)
            except TypeError as error:  # a Parquet map with keys that are no text
                raise InputError(f"{self._out}: JSON can't hold row {batch.numbers[index]}: {error}") from None
            with _blame(self._out):
                self._handle.write(line)


class _ParquetSink:
    def __init__(self, out: str | Path, handle: BinaryIO, source: Source, renames: Renames, added: Sequence[str]):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._out, self._source, self._renames = out, source, renames
        self._schema = source.schema(renames)
        whole = self._schema
        for name in added:
            whole = whole.append(pa.field(name, pa.string()))
        self._whole = whole
        with _blame(out):
            self._writer = pq.ParquetWriter(handle, whole, compression="zstd")

    def write(self, batch: Batch, added: Added) -> None:
        import pyarrow as pa

        columns: list[pa.Array] = []
        if len(self._schema):
            columns += self._source.arrow(batch, self._renames, self._schema).columns
        columns += [pa.array(values, pa.string()) for values in added.values()]
        with _blame(self._out):
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._whole))

    def close(self) -> None:
        with _blame(self._out):
            self._writer.close()


@contextmanager
def write_whole(out: str | Path, source: Path | None = None) -> Iterator[BinaryIO]:
    """A handle to write `out` with, gzipped if its name says so. Put in place when the block ends well,
    taken away when it does not.

    Args:
        source: a file that `out` must not be.

    Raises:
        InputError: `out` can't be written.
    """
    target = check_target(out, source)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with _blame(out):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _blame(out):
        raw = open(temporary, "wb")  # noqa: SIM115 (closed below)
    try:
        if Path(out).suffix.lower() == ".gz":  # no name, no time in the header: same rows, same bytes
            zipped = gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
            try:
                yield zipped  # type: ignore[misc]
            finally:
                with _blame(out):
                    zipped.close()
        else:
            yield raw
        with _blame(out):
            raw.flush()
            os.fsync(raw.fileno())
            os.replace(temporary, target)
    finally:
        with suppress(OSError):
            raw.close()
        temporary.unlink(missing_ok=True)


def check_target(out: str | Path, source: Path | None = None) -> Path:
    """The file to put in place, behind any links: the rename would replace whatever bears the name.

    Raises:
        InputError: it is no regular file, or it is `source`.
    """
    given = Path(out)
    try:
        mode = given.stat().st_mode
    except FileNotFoundError:
        return given.resolve()
    except OSError as error:  # links in a circle, a folder that may not be looked into
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{out}: is a folder, expected a file name to write to")
    if not stat.S_ISREG(mode):
        raise InputError(f"{out}: is a device, pipe or socket, expected a file name to write to")
    if source is not None and given.samefile(source):
        raise InputError(f"{out}: is the input file; give another --out")
    return given.resolve()


@contextmanager
def _blame(out: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None


def encode(row: Mapping[str, Any], strict: bool = False) -> bytes:
    """A row as a JSON line.

    Args:
        strict: NaN and infinities, which are no JSON, become null; else they stay as Python writes them.
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
    """What Arrow has and JSON has not: bytes in base64, dates and times by ISO 8601, others as they print."""
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
