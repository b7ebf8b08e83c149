"""Files of rows, JSON lines or Parquet by their names, read and written in batches: a file may be larger
than memory. What is written is there whole or not at all."""

from negrl.tables.sinks import open_sink, write_whole
from negrl.tables.sources import Batch, JsonlSource, ParquetSource, Source, kind_of, open_source

__all__ = ["Batch", "JsonlSource", "ParquetSource", "Source", "kind_of", "open_sink", "open_source", "write_whole"]
