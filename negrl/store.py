"""Crash-safe shards of rows, keyed by what made them.

A stage's folder is `<stage>-<fingerprint>`; the fingerprint covers the stage's inputs and the part of
the recipe that it reads. A shard has a deterministic name and is written atomically. So a re-run skips what
is done, a changed setting redoes only what depends on it, and a killed run loses at most the shard that it was
writing. Rows are Parquet files that `datasets.load_dataset("parquet", ...)`, DuckDB and pandas read as they
are. They may be at any fsspec URL; a whole run needs a local folder, for its models.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from negrl.errors import InputError
from negrl.files import write_atomic
from negrl.records import arrow_schema, from_dict, to_arrow

if TYPE_CHECKING:
    import pyarrow as pa

Row = TypeVar("Row")

FORMAT = 1
"""Part of every fingerprint; raised when the meaning of stored rows changes."""


def fingerprint(*parts: Any) -> str:
    """12 hex digits, a hash of `parts` as JSON."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Store:
    """The folder of all stages of one or many runs, on a local disk or at any fsspec URL."""

    def __init__(self, root: str | Path):
        import fsspec

        self.root = str(root)
        self.fs, self._base = fsspec.core.url_to_fs(self.root)
        self.local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def stage(self, name: str, key: str) -> Stage:
        return Stage(self, f"{name}-{key}")

    def write_bytes(self, path: str, data: bytes) -> None:
        if self.local:
            write_atomic(Path(self._base) / path, data)
        else:  # an object store shows an object only when it is whole
            self.fs.pipe_file(f"{self._base}/{path}", data)

    def read_bytes(self, path: str) -> bytes:
        return self.fs.cat_file(f"{self._base}/{path}")

    def exists(self, path: str) -> bool:
        return self.fs.exists(f"{self._base}/{path}")

    def list(self, folder: str, pattern: str) -> list[str]:
        """File names (not paths) in `folder` that match, sorted."""
        return sorted(p.rsplit("/", 1)[-1] for p in self.fs.glob(f"{self._base}/{folder}/{pattern}"))


class Stage:
    """One stage's folder: `<table>-00000.parquet` shards, and `stage.json` once it is complete."""

    def __init__(self, store: Store, folder: str):
        self.store, self.folder = store, folder

    @property
    def path(self) -> Path:
        """The local folder (models and checkpoints need one)."""
        return Path(self.store._base) / self.folder

    @property
    def url(self) -> str:
        return f"{self.store.root}/{self.folder}"

    def has(self, table: str, shard: int) -> bool:
        return self.store.exists(f"{self.folder}/{self._shard(table, shard)}")

    def write(self, table: str, shard: int, row_type: type[Row], rows: Sequence[Row]) -> None:
        """Write one shard. An empty shard is written, too: it records that the work was done."""
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(to_arrow(row_type, rows), buffer, compression="zstd")
        self.store.write_bytes(f"{self.folder}/{self._shard(table, shard)}", buffer.getvalue())

    def read(self, table: str, row_type: type[Row]) -> list[Row]:
        """All rows of a table, in shard order."""
        return list(self.iterate(table, row_type))

    def iterate(self, table: str, row_type: type[Row]) -> Iterator[Row]:
        for name in self.store.list(self.folder, f"{table}-*.parquet"):
            for values in self._parquet(name).to_pylist():
                yield from_dict(row_type, values)

    def table(self, table: str, row_type: type) -> pa.Table:
        """The same as one Arrow table, which takes a tenth of the memory."""
        import pyarrow as pa

        parts = [self._parquet(name) for name in self.store.list(self.folder, f"{table}-*.parquet")]
        # A column that was added to the rows after the table was written is null.
        return pa.concat_tables([arrow_schema(row_type).empty_table(), *parts], promote_options="default")

    def _parquet(self, name: str, columns: list[str] | None = None) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(io.BytesIO(self.store.read_bytes(f"{self.folder}/{name}")), columns=columns)
        except pa.ArrowInvalid:
            remedy = "remove the stage's folder" if self.done else "remove it"
            raise InputError(f"{self.url}/{name}: not a whole Parquet file; {remedy} and run again") from None

    def sizes(self, table: str, column: str) -> tuple[int, int]:
        """The number of rows of a table and the total length of a list column, without reading anything else."""
        import pyarrow.compute as pc

        rows = total = 0
        for name in self.store.list(self.folder, f"{table}-*.parquet"):
            lengths = pc.list_value_length(self._parquet(name, [column]).column(column))
            rows, total = rows + len(lengths), total + (pc.sum(lengths).as_py() or 0)
        return rows, total

    def pinned(self, name: str, value: int) -> int:
        """`value` as it was when the stage began. Shards of a killed run are found by their number, so their size
        must not change before the stage is done."""
        path = f"{self.folder}/{name}.pin"
        if not self.store.exists(path):
            self.store.write_bytes(path, str(value).encode())
        return int(self.store.read_bytes(path))

    @property
    def done(self) -> bool:
        return self.store.exists(f"{self.folder}/stage.json")

    def info(self) -> dict[str, Any]:
        """What the stage recorded when it finished: counts, seconds, its inputs (lineage)."""
        try:
            found = json.loads(self.store.read_bytes(f"{self.folder}/stage.json"))
            return {**found, "notes": found["notes"], "seconds": found["seconds"]}
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(f"{self.url}/stage.json: damaged; remove it and run again") from None

    def finish(self, info: dict[str, Any]) -> None:
        """Mark the stage as complete. A stage that is not is never read."""
        data = json.dumps(info, indent=2, sort_keys=True, default=str).encode()
        self.store.write_bytes(f"{self.folder}/stage.json", data)

    @staticmethod
    def _shard(table: str, shard: int) -> str:
        return f"{table}-{shard:05d}.parquet"
