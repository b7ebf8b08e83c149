"""Rows into JSON lines, CSV or Parquet, by the name of the file; `-` is standard output, as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from negrl.errors import InputError
from negrl.files.atomic import blaming, open_atomic
from negrl.files.lines import encode
from negrl.files.sources import STREAM, Batch, Source, kind_of

if TYPE_CHECKING:
    import pyarrow as pa

Added = Mapping[str, Sequence[Any]]
"""Columns that come after the input's own: texts or None, or lists of them."""


class Sink(Protocol):
    def write(self, batch: Batch, added: Added) -> None:
        """The batch's rows with the columns `added`."""
        ...


@contextmanager
def open_sink(
    out: str | Path, source: Source, added: Sequence[str], listed: bool = False, stream: str = "jsonl"
) -> Iterator[Sink]:
    """A file for the rows of `source` with further columns `added`, which hold texts, or lists of texts if `listed`.

    It takes the place of `out` when the block ends well; otherwise nothing changes. A link stays a link. Standard
    output gets each batch as it comes.

    Args:
        stream: what standard output gets: jsonl or csv.

    Raises:
        InputError: `out` is the input file, cannot be written, or cannot hold the rows.
    """
    kind, _ = kind_of(out)
    strict = source.kind == "parquet"
    if str(out) == STREAM:
        screen = sys.stdout.buffer
        yield (
            _CsvSink("stdout", screen, source.names(), added)
            if stream == "csv"
            else _JsonlSink("stdout", screen, strict)
        )
        with blaming("stdout"):
            sys.stdout.buffer.flush()
        return
    with open_atomic(out, source.file) as handle:
        if kind == "jsonl":
            yield _JsonlSink(out, handle, strict)
        elif kind == "csv":
            yield _CsvSink(out, handle, source.names(), added)
        else:
            sink = _ParquetSink(out, handle, source, added, listed)
            try:
                yield sink
            finally:
                sink.close()


class _JsonlSink:
    def __init__(self, out: str | Path, handle: BinaryIO, strict: bool):
        self._out, self._handle, self._strict = out, handle, strict

    def write(self, batch: Batch, added: Added) -> None:
        for index, row in enumerate(batch.rows):
            try:
                line = encode({**row, **{k: v[index] for k, v in added.items()}}, self._strict)
            except TypeError as error:  # a Parquet map with keys that are not text
                raise InputError(f"{self._out}: JSON can't hold row {batch.numbers[index]}: {error}") from None
            with blaming(self._out):
                self._handle.write(line)


class _CsvSink:
    """Texts and numbers as they are, nothing for null, lists and objects as JSON."""

    def __init__(self, out: str | Path, handle: BinaryIO, names: Sequence[str], added: Sequence[str]):
        self._out, self._handle, self._names = out, handle, list(names)
        self._write([[*names, *added]])

    def write(self, batch: Batch, added: Added) -> None:
        self._write(
            [*(_cell(row.get(name)) for name in self._names), *(_cell(values[index]) for values in added.values())]
            for index, row in enumerate(batch.rows)
        )

    def _write(self, rows: Iterator[list[str]] | list[list[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        with blaming(self._out):
            self._handle.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _json(value)


def _json(value: Any) -> str:
    text = encode({"": value}).decode("utf-8", "backslashreplace")
    return json.dumps(found, ensure_ascii=False) if not isinstance(found := json.loads(text)[""], str) else found


class _ParquetSink:
    def __init__(self, out: str | Path, handle: BinaryIO, source: Source, added: Sequence[str], listed: bool):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._out, self._source = out, source
        self._type = pa.list_(pa.string()) if listed else pa.string()
        self._schema = source.schema()
        whole = self._schema
        for name in added:
            whole = whole.append(pa.field(name, self._type))
        self._whole = whole
        with blaming(out):
            self._writer = pq.ParquetWriter(handle, whole, compression="zstd")

    def write(self, batch: Batch, added: Added) -> None:
        import pyarrow as pa

        columns: list[pa.Array] = []
        if len(self._schema):
            columns += self._source.arrow(batch, self._schema).columns
        columns += [pa.array(values, self._type) for values in added.values()]
        with blaming(self._out):
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._whole))

    def close(self) -> None:
        with blaming(self._out):
            self._writer.close()
