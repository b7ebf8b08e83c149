"""JSON rows as Arrow columns: one type per key over all rows of a file, or a clear message on why not.

JSON has one kind of number, so whole numbers and fractions share a column if a double holds both exactly.
null fits everywhere, and a key that a row lacks is null. Nothing else is converted: the number 5 and the text
"5" in one column are for the user to mend. (pyarrow.json counts the rows of a block, not the lines of the file,
rounds large numbers, and turns texts that look like dates into timestamps.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DEPTH = 32
"""Parquet readers refuse schemas of more than 100 levels; a list takes two and more."""
_EXACT = 2**53
_WORDS = {
    "int": "a whole number", "long": "a whole number that takes more than 53 bits", "float": "a number",
    "str": "text", "bool": "true or false", "list": "a list", "dict": "an object",
}  # fmt: skip


class Clash(ValueError):
    """The rows do not fit in columns of one type each. The message names the key and both types."""


class Shape:
    """What one key has held so far. `line` is where its type was first seen."""

    __slots__ = ("item", "keys", "kind", "line")

    def __init__(self) -> None:
        self.kind: str | None = None
        self.line = 0
        self.item: Shape | None = None
        self.keys: dict[str, Shape] = {}

    def see(self, value: Any, line: int, path: str = "", depth: int = 0) -> None:
        """Take one more value into account.

        Raises:
            Clash: it does not fit with those before it, or in any column at all.
        """
        if value is None:
            return
        kind = type(value).__name__
        if kind == "int" and not -_EXACT <= value <= _EXACT:
            kind = "long"
            if not -(2**63) <= value < 2**63:
                raise Clash(f"key '{path}' is a whole number that takes more than 64 bits")
        if kind != self.kind:
            self._become(kind, line, path)
        if kind in ("list", "dict") and depth == MAX_DEPTH:
            raise Clash(f"key '{path:.60}...' is nested more than {MAX_DEPTH} deep")
        if kind == "dict":
            for key, inner in value.items():
                name = f"{path}.{key}" if path else key
                self.keys.setdefault(key, Shape()).see(inner, line, name, depth + 1)
        elif kind == "list":
            self.item = self.item or Shape()
            for inner in value:
                self.item.see(inner, line, f"{path}[]", depth + 1)

    def _become(self, kind: str, line: int, path: str) -> None:
        pair = {kind, self.kind}
        if self.kind is None:
            self.kind, self.line = kind, line
        elif pair == {"int", "float"}:
            self.kind = "float"
        elif pair == {"int", "long"}:
            self.kind = "long"
        else:
            raise Clash(f"key '{path}' is {_WORDS[kind]}, but {_WORDS[self.kind]} on line {self.line}")

    def arrow(self) -> pa.DataType:
        """The Arrow type that holds all values seen."""
        import pyarrow as pa

        if self.kind == "dict":
            return pa.struct(self.fields() or [pa.field("_", pa.null())])  # Parquet has no objects without keys
        if self.kind == "list":
            return pa.list_((self.item or Shape()).arrow())
        plain = {"int": pa.int64(), "long": pa.int64(), "float": pa.float64(), "str": pa.string(), "bool": pa.bool_()}
        return plain[self.kind] if self.kind else pa.null()

    def fields(self) -> list[pa.Field]:
        """An object's keys as Arrow fields, in order of appearance.

        Raises:
            Clash: a key is not valid Unicode text.
        """
        import pyarrow as pa

        try:
            return [pa.field(key, shape.arrow()) for key, shape in self.keys.items()]
        except UnicodeEncodeError as error:
            raise Clash(f"key {error.object!r} is not valid Unicode text") from None


def storable(value: Any) -> Any:
    """`value` with U+FFFD for every half of a surrogate pair, which JSON can carry and Arrow cannot."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [storable(v) for v in value]
    if isinstance(value, dict):
        return {k: storable(v) for k, v in value.items()}
    return value
