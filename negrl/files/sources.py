"""Rows from JSON lines (.jsonl, .json, .ndjson) or Parquet (.parquet), plain or .gz, batch by batch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from negrl.errors import InputError
from negrl.files.lines import check_exists, opened, parse_object, raw_lines
from negrl.files.shapes import Clash, Shape, storable

if TYPE_CHECKING:
    import pyarrow as pa

Renames = Callable[[Iterable[str]], dict[str, str]]
"""From a row's column names to those under which it is kept; a name that is missing is dropped."""
ROWS, BYTES = 4096, 16 << 20
"""The most rows of a batch, and about the most bytes."""
JSONL, PARQUET = ("jsonl", "json", "ndjson"), ("parquet",)


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
    """("jsonl" or "parquet", whether it is gzipped), by the name.

    Raises:
        InputError: the name is that of neither.
    """
    parts = Path(path).name.lower().split(".")
    zipped = parts[-1] == "gz"
    ending = parts[-2] if zipped and len(parts) > 2 else parts[-1]
    if ending not in (*JSONL, *PARQUET) or len(parts) == 1:
        raise InputError(f"{path}: expected a name that ends in .jsonl, .json or .parquet, plain or with .gz after it")
    return ("parquet" if ending in PARQUET else "jsonl"), zipped


def open_source(path: str | Path) -> JsonlSource | ParquetSource:
    """The rows of a file.

    Raises:
        InputError: it is missing, its name has no known ending, or it is not a whole Parquet file.
    """
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder, expected a .jsonl or .parquet file")
    file = check_exists(path)
    kind, zipped = kind_of(path)
    return ParquetSource(file, zipped) if kind == "parquet" else JsonlSource(file)


class JsonlSource:
    """One JSON object per line; blank lines are skipped."""

    kind, unit = "jsonl", "line"

    def __init__(self, path: Path):
        self.path = path

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
        for number, line in raw_lines(self.path):
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

    def schema(self, renames: Renames) -> pa.Schema:
        """The columns that hold all rows of the file, which is read through once.

        Raises:
            InputError: no column type holds all values of a key; names the line and the key.
        """
        import pyarrow as pa

        whole = Shape()
        for batch in self.batches():
            for number, row in zip(batch.numbers, batch.rows, strict=True):
                names = renames(row)
                try:
                    whole.see({names[k]: v for k, v in row.items() if k in names}, number)
                except Clash as clash:
                    raise InputError(f"{self.where(number)}: {clash}; {_ADVICE}") from None
        try:
            return pa.schema(whole.fields())
        except Clash as clash:
            raise InputError(f"{self.path}: {clash}; {_ADVICE}") from None

    def arrow(self, batch: Batch, renames: Renames, schema: pa.Schema) -> pa.RecordBatch:
        """The batch under the schema that the method `schema` found."""
        import pyarrow as pa

        rows = []
        for row in batch.rows:
            names = renames(row)
            rows.append({names[k]: v for k, v in row.items() if k in names})
        try:
            return pa.RecordBatch.from_pylist(rows, schema=schema)
        except UnicodeEncodeError:
            return pa.RecordBatch.from_pylist([storable(r) for r in rows], schema=schema)
        except (pa.ArrowException, OverflowError):
            raise InputError(f"{self.path}: was changed while it was read") from None


_ADVICE = "a Parquet column has one type, JSON lines hold any row (--out NAME.jsonl)"


class ParquetSource:
    """Rows of a Parquet file, which keep their Arrow types."""

    kind, unit = "parquet", "row"

    def __init__(self, path: Path, zipped: bool):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
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
        """A row with all columns as keys and without values; a struct column is such a row inside it."""
        return _skeleton(self._file.schema_arrow)

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

    def schema(self, renames: Renames) -> pa.Schema:
        """The file's own schema under the new names."""
        import pyarrow as pa

        schema = self._file.schema_arrow
        names = renames(schema.names)
        return pa.schema([f.with_name(names[f.name]) for f in schema if f.name in names], schema.metadata)

    def arrow(self, batch: Batch, renames: Renames, schema: pa.Schema) -> pa.RecordBatch:
        """The batch's Arrow columns under the new names."""
        import pyarrow as pa

        assert batch.arrow is not None
        kept = renames(batch.arrow.schema.names)
        return pa.RecordBatch.from_arrays([batch.arrow.column(name) for name in kept], schema=schema)


Source = JsonlSource | ParquetSource


def _skeleton(fields: Iterable[pa.Field]) -> dict[str, Any]:
    import pyarrow as pa

    return {f.name: _skeleton(f.type) if pa.types.is_struct(f.type) else None for f in fields}


def _unzipped(path: Path) -> BinaryIO:
    """A nameless temporary file with the content: Parquet is read from its end, which a gzip stream does not offer."""
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as its reader is)
    try:
        with opened(path) as zipped:
            shutil.copyfileobj(zipped, plain, 1 << 20)
    except InputError:
        plain.close()
        raise
    plain.seek(0)
    return plain  # type: ignore[return-value]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
