"""Which rows make a global batch, and how a process reads its share of them.

The plan depends on the seed, the epoch and the global batch size only, never on how many processes
share the work: 2 processes x 32 rows train on the same batches as 1 x 64, or 1 x 32 with 2 accumulated.
(accelerate's own sharding repeats rows to fill an epoch's last batch, differently for each layout.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from negrl.trainers.rows import flat_column

Order = Literal["random", "sequential", "group_by_length"]
GROUP = 50
"""`group_by_length` sorts this many global batches at a time."""


class GlobalBatches:
    """Yields this process's micro-batches as lists of row indices.

    A global batch is cut into `processes * accumulation` shares of nearly equal size. An epoch's last
    batch may be smaller; a share that would be empty then holds one *filler*, written `~index`: a row
    that is run but has no weight, because every process must take part in every step.

    With `groups` (a number per row) an epoch's random order shuffles the groups and keeps each of them together,
    in its own order: rows of one problem are then neighbors, which can share their prefixes.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        rows_per_process: int,
        accumulation: int,
        *,
        seed: int,
        order: Order = "random",
        drop_last: bool = False,
        rank: int = 0,
        processes: int = 1,
        groups: np.ndarray | None = None,
    ):
        self.lengths = np.asarray(lengths)
        self.accumulation, self.rank, self.processes = accumulation, rank, processes
        self.size = rows_per_process * accumulation * processes
        self.seed, self.order, self.epoch, self.groups = seed, order, 0, groups
        full, rest = divmod(len(self.lengths), self.size)
        self.steps_per_epoch = full + (rest > 0 and not drop_last)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def global_batches(self, epoch: int) -> list[list[int]]:
        """The rows of every optimizer step of an epoch, in order."""
        rng = np.random.default_rng([self.seed, epoch])
        rows = np.arange(len(self.lengths))
        if self.order == "random" and self.groups is not None:
            names, group = np.unique(self.groups, return_inverse=True)
            order = np.arange(len(names))
            rng.shuffle(order)  # as the rows below: the same plan where every row is a group of its own
            rows = np.argsort(np.argsort(order)[group], kind="stable")
        elif self.order != "sequential":
            rng.shuffle(rows)
        if self.order == "group_by_length":
            span = self.size * GROUP
            groups = [rows[i : i + span] for i in range(0, len(rows), span)]
            rows = np.concatenate([g[np.argsort(-self.lengths[g], kind="stable")] for g in groups])
        batches = [rows[i * self.size : (i + 1) * self.size].tolist() for i in range(self.steps_per_epoch)]
        if self.order == "group_by_length" and len(batches) > 1:
            # The last batch may be short and stays last.
            batches = [batches[i] for i in rng.permutation(len(batches) - 1)] + batches[-1:]
        return batches

    def __len__(self) -> int:
        return self.steps_per_epoch * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        shares = self.processes * self.accumulation
        for batch in self.global_batches(self.epoch):
            cuts = [round(i * len(batch) / shares) for i in range(shares + 1)]
            for turn in range(self.accumulation):
                share = turn * self.processes + self.rank
                yield batch[cuts[share] : cuts[share + 1]] or [~batch[0]]

    def tokens(self, steps: int) -> int:
        """Tokens (prompt and response, without padding) that the first `steps` steps run."""
        total, epoch = 0, 0
        while steps > 0:
            batches = self.global_batches(epoch)[:steps]
            total += sum(int(self.lengths[batch].sum()) for batch in batches)
            steps, epoch = steps - len(batches), epoch + 1
        return total


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Row access to Arrow columns as numpy views: tokens are never copied into Python lists. `rows[~i]` is
    row i marked as a filler."""

    def __init__(self, dataset: datasets.Dataset, columns: Sequence[str]):
        table = dataset.data.table
        self._lists: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._scalars: dict[str, np.ndarray] = {}
        self._filled: dict[str, dict[int, np.ndarray]] = {}
        self._count = len(dataset)
        for name in columns:
            column = table.column(name)
            if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                self._lists[name] = flat_column(table, name)
            else:
                self._scalars[name] = column.to_numpy()

    def fill(self, column: str, values: dict[int, np.ndarray]) -> None:
        """Put `values[i]` in place of row i's list."""
        self._filled[column] = values

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        at = index if index >= 0 else ~index
        row: dict[str, Any] = {k: values[o[at] : o[at + 1]] for k, (o, values) in self._lists.items()}
        row |= {k: values[at] for k, values in self._scalars.items()}
        row |= {k: values[at] for k, values in self._filled.items() if at in values}
        return row if index >= 0 else {**row, "filler": True}


class RowLoader(DataLoader[dict[str, Any]]):
    """A DataLoader that hands the epoch on to its `GlobalBatches`."""

    def __init__(self, rows: Rows, batches: GlobalBatches, collate: Callable[..., Any], **options: Any):
        super().__init__(rows, batch_sampler=batches, collate_fn=collate, **options)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def pad(sequences: Sequence[Any], value: float, dtype: type, multiple: int | None = None) -> torch.Tensor:
    """Sequences of numbers, padded on the right with `value`: (B, S)."""
    width = max(len(s) for s in sequences)
    if multiple:
        width = -(-width // multiple) * multiple
    out: np.ndarray = np.full((len(sequences), width), value, dtype=dtype)
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence
    return torch.from_numpy(out)
