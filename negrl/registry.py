"""Whatever can be added by name: a file in the package that has them, or a plugin.

A labeler, a splitter, a method, a problem source, an engine, a benchmark is a module-level object of its kind's
type with a `name`. Those of the package are found by reading its folder; those of others by entry points, or by the
recipe's `plugins: [module]` (negrl/plugins.py).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Generic, TypeVar

from negrl.errors import InputError, nearest
from negrl.options import UnknownName

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Everything of one kind, by name. Nothing is imported before it is first asked for.

    Args:
        kind: for messages: "labeler".
        type_: what the modules declare an instance of; it has a `name`.
        package: whose modules are read.
        group: the entry points' group, where it is not the package's name.
    """

    def __init__(self, kind: str, type_: type[T], package: str, group: str | None = None):
        self.kind, self.type, self.package, self.group = kind, type_, package, group or package
        self._found: dict[str, T] | None = None
        self._origin: dict[str, str] = {}
        self._failed: list[str] = []

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def get_or_refuse(self, name: Any, key: str = "") -> T:
        """The one of that name.

        Args:
            key: of the section that names it.

        Raises:
            UnknownName: there is none; says the nearest, all there are, and which plugins could not be loaded.
        """
        found = self._all()
        if isinstance(name, str) and name in found:
            return found[name]
        near = nearest(name, found) if isinstance(name, str) else ""
        failed = f" ({'; '.join(self._failed)})" if self._failed else ""
        raise UnknownName(key, f"unknown {self.kind} '{name}'{near}; one of {', '.join(sorted(found))}{failed}")

    def add(self, item: T, origin: str) -> None:
        """Add one from outside the package.

        Raises:
            InputError: it has the name of another.
        """
        self._put(self._all(), item, origin)

    def add_all(self, module: ModuleType) -> int:
        """Add what a plugin's module declares; how many there were."""
        items = self._declared(module)
        for item in items:
            self.add(item, module.__name__)
        return len(items)

    def origin(self, name: str) -> str:
        """The module or distribution that declared it."""
        self._all()
        return self._origin[name]

    def _all(self) -> dict[str, T]:
        if self._found is None:
            found: dict[str, T] = {}
            package = importlib.import_module(self.package)
            for info in pkgutil.iter_modules(package.__path__):
                module = importlib.import_module(f"{self.package}.{info.name}")
                for item in self._declared(module):
                    self._put(found, item, module.__name__)
            self._found = found
            for point in importlib.metadata.entry_points(group=self.group):
                self._load(point)
        return self._found

    def _load(self, point: importlib.metadata.EntryPoint) -> None:
        """One plugin that doesn't load must not stop runs that do without it."""
        where = f"entry point {point.name} = {point.value}"
        try:
            item = point.load()
        except Exception as error:
            self._failed.append(f"{where} can't be loaded: {type(error).__name__}: {error}")
            return
        if not isinstance(item, self.type):
            self._failed.append(f"{where} is {type(item).__name__}, expected {self.type.__name__}")
            return
        self.add(item, where)

    def _declared(self, module: ModuleType) -> list[T]:
        return [item for item in vars(module).values() if isinstance(item, self.type)]

    def _put(self, found: dict[str, T], item: T, origin: str) -> None:
        name = str(getattr(item, "name"))  # noqa: B009 - T has no bound that says so
        if name in found and found[name] is not item:
            raise InputError(f"{origin}: a {self.kind} '{name}' is there already, from {self._origin[name]}")
        found.setdefault(name, item)
        self._origin.setdefault(name, origin)
