"""Tables, CSV files and pages of the benches.

The columns of a CSV are declared once (`Column`), for writing it, for reading it, and for the pages and plots that are
made of its rows. The pages are templates, pages/*.j2: tables, fixed sentences with figures in them, and fixed caveats
that are shown under a condition.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negrl.errors import InputError, nearest
from negrl.files import write_atomic
from negrl.progress import thousands


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a CSV of results. `parse` reads a cell and raises ValueError with what is expected ("must be a
    number"); `write` is the other way round. `optional`: a file without it reads as one whose cells are empty."""

    name: str
    parse: Callable[[str], Any] = str
    write: Callable[[Any], Any] = lambda value: value
    optional: bool = False


def to_csv(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A row's missing values are empty cells; its values without a column are left out."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([c.name for c in columns])
    writer.writerows([c.write(row.get(c.name, "")) for c in columns] for row in rows)
    return buffer.getvalue().encode()


def read_csv(path: Path, columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The rows of a CSV, by column name, parsed.

    Raises:
        InputError: the file is missing or not UTF-8, a column is missing, a cell is not what its column holds.
    """
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
    heads = list(reader.fieldnames or [])
    if missing := [c.name for c in columns if not (c.optional or c.name in heads)]:
        raise InputError(f"{path}: no column {missing[0]!r}{nearest(missing[0], heads)}")
    rows = []
    for line, row in enumerate(reader, start=2):
        found = {}
        for column in columns:
            text = row.get(column.name) or ""
            try:
                found[column.name] = column.parse(text)
            except ValueError as error:
                raise InputError(f"{path}, line {line}: {column.name} {error}, not {text[:40]!r}") from None
        rows.append(found)
    return rows


def write_files(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """`files`, by what comes after `out` in their names: ".md", "-costs.png"."""
    paths = [out.with_name(out.name + end) for end in files]
    for path, data in zip(paths, files.values(), strict=True):
        write_atomic(path, data)
    return paths


def text_of(path: Path) -> str:
    """Raises InputError when the file is missing or not UTF-8."""
    if not path.is_file():
        raise InputError(f"{path}: missing; the bench writes it")
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason})") from None


# Cells of a CSV.


def a_number(text: str) -> float:
    """NaN for an empty cell."""
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise ValueError("must be a number or empty") from None


def a_share(text: str) -> float:
    """A number in [0, 1]; NaN for an empty cell."""
    value = a_number(text)
    if not (math.isnan(value) or 0 <= value <= 1):
        raise ValueError("must lie between 0 and 1")
    return value


def a_whole(text: str) -> int:
    """0 for an empty cell."""
    value = a_number(text)
    return 0 if math.isnan(value) else int(value)


def a_flag(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "yes")


# Cells of a page. A dash stands for what is not known.


def number(value: float, digits: int = 3) -> str:
    return "–" if value != value else f"{value:,.{digits}f}"


def between(value: float, bounds: Sequence[float], digits: int = 3) -> str:
    """ "0.431 [0.400, 0.462]"; without brackets where the bounds are not known."""
    if value != value or bounds[0] != bounds[0]:
        return number(value, digits)
    return f"{value:,.{digits}f} [{bounds[0]:,.{digits}f}, {bounds[1]:,.{digits}f}]"


def gap(found: Sequence[float] | None) -> str:
    """A difference and its bounds, signed."""
    return "–" if not found else f"{found[0]:+.3f} [{found[1]:+.3f}, {found[2]:+.3f}]"


def percent(value: float, bounds: Sequence[float] = (math.nan, math.nan), digits: int = 1) -> str:
    """A share with its bounds, which are cut to [0, 1]."""
    if value != value:
        return "–"
    low, high = (100 * min(1.0, max(0.0, x)) for x in bounds)
    return f"{value:.{digits}%}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if bounds[0] == bounds[0] else "")


def count(value: Any) -> str:
    """A number with thousands separators, in whole ones but for small amounts."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def listed(items: Iterable[Any]) -> str:
    return ", ".join(f"{x:,}" if isinstance(x, int) else f"{x:g}" if isinstance(x, float) else str(x) for x in items)


def code(text: str) -> str:
    """Foreign text as Markdown code."""
    flat = " ".join(text.replace("`", "'").split())
    return f"`{flat}`" if flat else ""


def render(template: str, **data: Any) -> str:
    """The page of pages/`template`.j2."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("negrl.bench", "pages"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=False,  # Markdown: `code` and `cell` take care of foreign text
    )  # fmt: skip
    cells = (number, between, gap, percent, count, listed, code, thousands, float)
    environment.globals.update({function.__name__: function for function in cells})
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(f"{template}.j2").render(data)).strip() + "\n"
