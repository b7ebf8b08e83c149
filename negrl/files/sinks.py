"""Rows into JSON lines or Parquet, by the name of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from negrl.errors import InputError
from negrl.files.atomic import blaming, open_atomic
from negrl.files.lines import encode
from negrl.files.sources import Batch, Renames, Source, kind_of

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

    It takes the place of `out` when the block ends well; otherwise nothing changes. A link stays a link.

    Raises:
        InputError: `out` is the input file, cannot be written, or cannot hold the rows.
    """
    kind, _ = kind_of(out)
    with open_atomic(out, source.path) as handle:
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
            except TypeError as error:  # a Parquet map with keys that are not text
                raise InputError(f"{self._out}: JSON can't hold row {batch.numbers[index]}: {error}") from None
            with blaming(self._out):
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
        with blaming(out):
            self._writer = pq.ParquetWriter(handle, whole, compression="zstd")

    def write(self, batch: Batch, added: Added) -> None:
        import pyarrow as pa

        columns: list[pa.Array] = []
        if len(self._schema):
            columns += self._source.arrow(batch, self._renames, self._schema).columns
        columns += [pa.array(values, pa.string()) for values in added.values()]
        with blaming(self._out):
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._whole))

    def close(self) -> None:
        with blaming(self._out):
            self._writer.close()
