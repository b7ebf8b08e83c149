"""Rows from JSON lines (.jsonl, .json, .ndjson), CSV (.csv) or Parquet (.parquet), plain or .gz, batch by batch.
`-` is standard input, as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from negrl.errors import InputError
from negrl.files.lines import check_exists, numbered, opened, parse_object
from negrl.files.shapes import Clash, Shape, storable

if TYPE_CHECKING:
    import pyarrow as pa

STREAM = "-"
"""In place of a path: standard input or output."""
ROWS, BYTES = 4096, 16 << 20
"""The most rows of a batch, and about the most bytes."""
_KINDS = {"jsonl": "jsonl", "json": "jsonl", "ndjson": "jsonl", "csv": "csv", "parquet": "parquet"}


@dataclass(slots=True)
class Batch:
    """Some rows in file order. `numbers` counts lines (JSON lines) or rows (Parquet) from 1. A line that
    is not a JSON object is the row {"raw": line}, and `problems` says what is wrong with it. `arrow` has all
    columns of Parquet rows; `rows` may hold only some of them."""

    numbers: list[int] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str | None] = field(default_factory=list)
    arrow: pa.RecordBatch | None = None


def kind_of(path: str | Path) -> tuple[str, bool]:
    """("jsonl", "csv" or "parquet", whether it is gzipped), by the name.

    Raises:
        InputError: the name is that of neither.
    """
    if str(path) == STREAM:
        return "jsonl", False
    parts = Path(path).name.lower().split(".")
    zipped = parts[-1] == "gz"
    ending = parts[-2] if zipped and len(parts) > 2 else parts[-1]
    if ending not in _KINDS or len(parts) == 1:
        raise InputError(
            f"{path}: expected a name that ends in .jsonl, .json, .csv or .parquet, plain or with .gz after it"
        )
    return _KINDS[ending], zipped


def open_source(path: str | Path, stream: str = "jsonl") -> JsonlSource | CsvSource | ParquetSource:
    """The rows of a file, or of standard input (`-`), which is copied to a nameless temporary file first.

    Args:
        stream: what standard input holds: jsonl or csv.

    Raises:
        InputError: it is missing, its name has no known ending, or it is not a whole Parquet file.
    """
    if str(path) == STREAM:
        spooled = _copied(sys.stdin.buffer)
        return (CsvSource if stream == "csv" else JsonlSource)(Path("stdin"), spooled)
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder, expected a .jsonl, .csv or .parquet file")
    file = check_exists(path)
    kind, zipped = kind_of(path)
    if kind == "parquet":
        return ParquetSource(file, zipped)
    return CsvSource(file) if kind == "csv" else JsonlSource(file)


class _Lines:
    """The content of a file, or what was copied of a stream."""

    def __init__(self, path: Path, spooled: BinaryIO | None = None):
        """`spooled`: the content, if it is not that of the file `path`."""
        self.path, self._spooled = path, spooled
        self.file = None if spooled is not None else path

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self._spooled is None:
            with opened(self.path) as handle:
                yield handle
        else:
            self._spooled.seek(0)
            yield self._spooled


class JsonlSource(_Lines):
    """One JSON object per line; blank lines are skipped."""

    kind, unit = "jsonl", "line"

    def where(self, number: int) -> str:
        return f"{self.path}:{number}"

    def columns(self) -> dict[str, Any] | None:
        """None: each row has its own columns."""
        return None

    def batches(self, columns: Iterable[str] | None = None) -> Iterator[Batch]:
        """All rows, whole (`columns` is for Parquet).

        Raises:
            InputError: the file cannot be read.
        """
        batch, size = Batch(), 0
        with self._opened() as handle:
            for number, line in numbered(handle):
                problem = None
                try:
                    row = parse_object(line)
                except ValueError as error:
                    row, problem = {"raw": line.decode("utf-8", "replace")}, str(error)
                batch.numbers.append(number)
                batch.rows.append(row)
                batch.problems.append(problem)
                size += len(line)
                if len(batch.rows) == ROWS or size > BYTES:
                    yield batch
                    batch, size = Batch(), 0
        if batch.rows:
            yield batch

    def names(self) -> list[str]:
        """All columns, in the order in which they first occur; the file is read through once."""
        return list(dict.fromkeys(name for batch in self.batches() for row in batch.rows for name in row))

    def schema(self) -> pa.Schema:
        """The columns that hold all rows of the file, which is read through once.

        Raises:
            InputError: no column type holds all values of a key; names the line and the key.
        """
        import pyarrow as pa

        whole = Shape()
        for batch in self.batches():
            for number, row in zip(batch.numbers, batch.rows, strict=True):
                try:
                    whole.see(row, number)
                except Clash as clash:
                    raise InputError(f"{self.where(number)}: {clash}; {_ADVICE}") from None
        try:
            return pa.schema(whole.fields())
        except Clash as clash:
            raise InputError(f"{self.path}: {clash}; {_ADVICE}") from None

    def arrow(self, batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
        """The batch under the schema that the method `schema` found."""
        import pyarrow as pa

        try:
            return pa.RecordBatch.from_pylist(batch.rows, schema=schema)
        except UnicodeEncodeError:
            return pa.RecordBatch.from_pylist([storable(r) for r in batch.rows], schema=schema)
        except (pa.ArrowException, OverflowError):
            raise InputError(f"{self.path}: was changed while it was read") from None


_ADVICE = "a Parquet column has one type, JSON lines hold any row (--out NAME.jsonl)"


class CsvSource(_Lines):
    """Comma-separated values under a header, UTF-8; quoted fields may hold commas and line ends. All values are
    text."""

    kind, unit = "csv", "row"

    def __init__(self, path: Path, spooled: BinaryIO | None = None):
        super().__init__(path, spooled)
        self._names = next(self._rows(), (0, []))[1]
        if len(set(self._names)) < len(self._names):
            twice = next(n for n in self._names if self._names.count(n) > 1)
            raise InputError(f"{path}: has several columns '{twice}'; give each its own name")

    def where(self, number: int) -> str:
        return f"{self.path}: row {number}"

    def columns(self) -> dict[str, Any]:
        return dict.fromkeys(self._names)

    def names(self) -> list[str]:
        return list(self._names)

    def batches(self, columns: Iterable[str] | None = None) -> Iterator[Batch]:
        """All rows; the first after the header is row 1.

        Raises:
            InputError: the file cannot be read, is not UTF-8, or a row has not as many fields as the header.
        """
        batch, size = Batch(), 0
        for number, fields in self._rows():
            if number == 0:
                continue
            if len(fields) != len(self._names):
                raise InputError(
                    f"{self.where(number)}: has {len(fields)} fields, the header {len(self._names)}; "
                    "is a comma or a line end not in quotes?"
                )
            batch.numbers.append(number)
            batch.rows.append(dict(zip(self._names, fields, strict=True)))
            batch.problems.append(None)
            size += sum(map(len, fields))
            if len(batch.rows) == ROWS or size > BYTES:
                yield batch
                batch, size = Batch(), 0
        if batch.rows:
            yield batch

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The header as row 0, then the others; blank lines are skipped."""
        csv.field_size_limit(1 << 30)
        with self._opened() as handle:
            text = io.TextIOWrapper(handle, "utf-8-sig", newline="")
            try:
                yield from enumerate(fields for fields in csv.reader(text, strict=True) if fields)
            except UnicodeDecodeError:
                raise InputError(f"{self.path}: not UTF-8 text") from None
            except csv.Error as error:
                raise InputError(f"{self.path}: not valid CSV ({error})") from None
            finally:
                text.detach()  # or it would close what was copied of a stream

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([pa.field(name, pa.string()) for name in self._names])

    def arrow(self, batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
        import pyarrow as pa

        return pa.RecordBatch.from_pylist(batch.rows, schema=schema)


class ParquetSource:
    """Rows of a Parquet file, which keep their Arrow types."""

    kind, unit = "parquet", "row"

    def __init__(self, path: Path, zipped: bool):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = self.file = path
        try:
            # Buffered: without this, a whole column chunk of a row group is read into memory.
            self._file = pq.ParquetFile(_unzipped(path) if zipped else path, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: not a whole Parquet file ({_first_line(error)})") from None
        names = self._file.schema_arrow.names
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise InputError(f"{path}: has several columns '{twice}'; give each its own name")

    def where(self, number: int) -> str:
        return f"{self.path}: row {number}"

    def columns(self) -> dict[str, Any]:
        """A row with all columns as keys and without values; a struct column is such a row inside it, a list column
        a list that has every index."""
        return {field.name: _skeleton(field.type) for field in self._file.schema_arrow}

    def names(self) -> list[str]:
        return list(self._file.schema_arrow.names)

    def batches(self, columns: Iterable[str] | None = None) -> Iterator[Batch]:
        """All rows, row group by row group.

        Args:
            columns: those that `Batch.rows` should hold; None for all.

        Raises:
            InputError: the file cannot be read, or a text in it is not UTF-8.
        """
        wanted = None if columns is None else set(columns)
        meta = self._file.metadata
        stored = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
        size = max(1, min(ROWS, BYTES * meta.num_rows // max(stored, 1)))
        done = 0
        for arrow in self._record_batches(size):
            if not arrow.num_rows:
                continue
            values = {}
            for name in arrow.schema.names:
                if wanted is None or name in wanted:
                    values[name] = self._values(arrow.column(name), name, done)
            rows: list[dict[str, Any]] = [{n: v[i] for n, v in values.items()} for i in range(arrow.num_rows)]
            numbers = list(range(done + 1, done + 1 + len(rows)))
            yield Batch(numbers, rows, [None] * len(rows), arrow)
            done += len(rows)

    def _record_batches(self, size: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        try:
            yield from self._file.iter_batches(size)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.path}: not a whole Parquet file ({_first_line(error)})") from None

    def _values(self, array: pa.Array, name: str, done: int) -> list[Any]:
        try:
            return array.to_pylist(maps_as_pydicts="lossy")
        except UnicodeDecodeError:
            where = f"{self.path}: rows {done + 1} to {done + len(array)}"
            raise InputError(f"{where}: column '{name}' holds text that is not UTF-8") from None

    def schema(self) -> pa.Schema:
        """The file's own schema."""
        return self._file.schema_arrow

    def arrow(self, batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
        """The batch's Arrow columns."""
        import pyarrow as pa

        assert batch.arrow is not None
        return pa.RecordBatch.from_arrays(batch.arrow.columns, schema=schema)


Source = JsonlSource | CsvSource | ParquetSource


class _Items(list[Any]):
    """A list of which only the items' type is known: it has every index."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(0)


def _skeleton(kind: pa.DataType) -> Any:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return {field.name: _skeleton(field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _Items([_skeleton(kind.value_type)])
    return None


def _unzipped(path: Path) -> BinaryIO:
    """The content of a .gz file: Parquet is read from its end, which a gzip stream does not offer."""
    with opened(path) as zipped:
        return _copied(zipped)


def _copied(stream: BinaryIO) -> BinaryIO:
    """A nameless temporary file with the content of a stream."""
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as its reader is)
    try:
        shutil.copyfileobj(stream, plain, 1 << 20)
    except BaseException:
        plain.close()
        raise
    plain.seek(0)
    return plain  # type: ignore[return-value]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
