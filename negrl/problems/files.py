"""JSON lines, plain or .gz, read with line numbers; columns by dotted path. Mistakes are one clear line."""

from __future__ import annotations

import codecs
import gzip
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from negrl.errors import InputError, nearest


def check_exists(path: str | Path) -> Path:
    """The path of a readable file.

    Raises:
        InputError: there is none; names the nearest file beside it.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{path}: is a folder, expected a JSON lines file")
    if not file.is_file():
        beside = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        raise InputError(f"{path}: no such file{nearest(file.name, beside)}")
    return file


def raw_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line without its end) of every line that is not blank. A UTF-8 byte order
    mark in front of the first line, which some editors write, is left out.

    Raises:
        InputError: the file is missing, or named .gz and no gzip file.
    """
    file = check_exists(path)
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb") as handle:
            for number, line in enumerate(handle, 1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield number, line.rstrip(b"\r\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file ({error})") from None


def parse_object(line: bytes) -> dict[str, Any]:
    """One line as a JSON object.

    Raises:
        ValueError: it is none; the message says what it is instead.
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


def read_rows(path: str | Path, what: str = "problems") -> list[tuple[int, dict[str, Any]]]:
    """All rows of a JSON lines file with their line numbers.

    Raises:
        InputError: the file is missing or empty, or a line is no JSON object.
    """
    rows = []
    for number, line in raw_lines(path):
        try:
            rows.append((number, parse_object(line)))
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from None
    if not rows:
        raise InputError(f"no {what} in {path}")
    return rows


def column(row: dict[str, Any], name: str, where: str) -> Any:
    """The value of a column; `a.b` is a key of that name, or key `b` of the object under `a`.

    Args:
        where: file and line, for the message.

    Raises:
        InputError: there is no such column; names the nearest one.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise InputError(f"{where}: no column '{name}'{nearest(name, column_names(row)) or _list_columns(row)}")
        value = value[part]
    return value


def column_names(row: dict[str, Any]) -> list[str]:
    """The columns of a row, those of objects inside it by their dotted paths."""
    inner = [f"{key}.{sub}" for key, value in row.items() if isinstance(value, dict) for sub in value]
    return [*row, *inner]


def _list_columns(row: dict[str, Any]) -> str:
    names = column_names(row)
    return (
        f" (columns: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''})" if names else " (the row is empty)"
    )


def text_value(value: Any, name: str, where: str) -> str:
    """A column's value as text.

    Raises:
        InputError: it is not a string, or holds half a surrogate pair, which no file can store.
    """
    if not isinstance(value, str):
        raise InputError(f"{where}: column '{name}' must be text, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: column '{name}' is not valid Unicode text") from None
    return value


def gold_value(value: Any, name: str, where: str) -> str:
    """A gold answer as text; a number is written out.

    Raises:
        InputError: it is missing, empty, or neither text nor a number.
    """
    if (isinstance(value, float) and math.isfinite(value)) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InputError(f"{where}: problem without gold: column '{name}' is {'null' if value is None else 'empty'}")
    return text_value(value, name, where).strip()


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def fill(template: str, prompt: str, key: str) -> str:
    """The template with the prompt in it.

    Raises:
        InputError: the template has no {prompt}; `key` names it in the recipe.
    """
    if "{prompt}" not in template:
        raise InputError(f"{key}: must contain {{prompt}}, got {template!r}")
    return template.replace("{prompt}", prompt)
