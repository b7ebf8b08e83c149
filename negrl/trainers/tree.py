"""Prefix sharing: the rows of a micro-batch as token trees, in which equal prefixes occur once.

What a causal model computes at a token depends only on the tokens before it, so what rows have in common at their
beginning needs to be run only once. `TokenTree` holds the distinct tokens in depth-first order, each with
its depth as position id; `tree_attention` lets each see exactly its ancestors. log p of a row's token
t+1 is read at the node of its token t, once for each distinct (node, next token) pair, and spread to
(B, S-1): what comes out, and every gradient, is what running the rows one by one gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALL_TREE = 256
"""Nodes. If no tree of a micro-batch has more, trees are packed into sequences of about this many nodes
that attend under a dense mask: cheaper than a call for each of many short segments."""
WORTH = 1.05
"""Rows become a tree if they have at least this many tokens per node of it, and the padded batch at least this
many cells per cell of the layout."""


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Trees of one micro-batch of B rows of S tokens, laid out as R sequences of C nodes.

    A sequence holds whole trees one after the other, each in depth-first order: node j is an ancestor of node i (or i
    itself) exactly if j <= i < ends[j]. Padding nodes see only themselves.

    Attributes:
        input_ids, position_ids, ends: (R, C) int64; `ends` is where a node's subtree ends in its sequence.
        pair_nodes, targets: (P,) int64; log p of `targets[p]` is read at node `pair_nodes[p]`, an index into
            R * C. P is at least 1.
        index: (B, S-1) int64 into the pairs, P where the next token is not trained.
        segments: (start, end, stop) of every unbranched run of nodes in the only sequence; its descendants are the
            nodes from `end` to `stop`. Empty if the layout is dense (R sequences, one mask).
        tokens: number of tokens of all rows up to their last trained token, without padding.
        nodes: number of distinct nodes, without padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    ends: Tensor
    pair_nodes: Tensor
    targets: Tensor
    index: Tensor
    segments: tuple[tuple[int, int, int], ...]
    tokens: int
    nodes: int

    def to(self, device: Any, **options: Any) -> TokenTree:
        """The same tree with its tensors on `device`."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("segments", "tokens", "nodes")}
        if all(t.device == torch.device(device) for t in tensors.values()):
            return self
        return replace(self, **{name: t.to(device, **options) for name, t in tensors.items()})

    def spread(self, per_pair: Tensor) -> Tensor:
        """(P,) values of the pairs -> (B, S-1) of the rows' tokens, 0 where nothing is trained."""
        return torch.cat([per_pair, per_pair.new_zeros(1)])[self.index]


def build_tree(
    rows: Sequence[Any],
    labels: Sequence[Any],
    *,
    width: int | None = None,
    dense_up_to: int = SMALL_TREE,
    multiple: int = 1,
) -> TokenTree:
    """Merge rows into token trees.

    A row is followed up to its last trained token, which itself is not run, as nothing is read there. A row
    without a trained token (a filler) is not run at all, unless there is no other.

    Args:
        rows: B sequences of token ids.
        labels: of the same lengths, -100 where the token is not trained.
        width: S of the padded batch. Default: the longest row.
        dense_up_to: use the dense layout if the largest tree has at most this many nodes; 0: never.
        multiple: sequences are padded with nodes at their ends to a multiple of this.
    """
    ids = [np.asarray(row, dtype=np.int64) for row in rows]
    trained = [np.asarray(label, dtype=np.int64)[1:] != -100 for label in labels]
    width = width or max(map(len, ids))
    heads = [row[: (m.nonzero()[0][-1] + 1 if m.any() else 0)] for row, m in zip(ids, trained, strict=True)]
    if not any(map(len, heads)):
        heads[0] = ids[0][:1]
    nodes = _merge(heads)
    row_of, at = _layout(nodes, dense_up_to)
    count = int(at.max()) + 1
    shape = (int(row_of.max()) + 1, -(-count // multiple) * multiple)
    slot = row_of * shape[1] + at

    ends = np.tile(np.arange(1, shape[1] + 1), (shape[0], 1))  # padding: itself
    ends.reshape(-1)[slot] = at + (nodes.ends - np.arange(len(at)))
    input_ids, position_ids = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    input_ids.reshape(-1)[slot] = nodes.tokens
    position_ids.reshape(-1)[slot] = nodes.depths

    # Distinct (node, next token) pairs; the key's low half is the token.
    keys = [(path[m[: len(path)]] << 32) | row[1:][m] for path, row, m in zip(nodes.paths, ids, trained, strict=True)]
    pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    index = np.full((len(ids), width - 1), max(len(pairs), 1), np.int64)
    for out, m, found in zip(index, trained, np.split(inverse, np.cumsum([len(k) for k in keys])[:-1]), strict=True):
        out[: len(m)][m] = found
    if not len(pairs):  # read something, so that every parameter has a (zero) gradient
        pairs = np.zeros(1, np.int64)
    return TokenTree(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        ends=torch.from_numpy(ends),
        pair_nodes=torch.from_numpy(slot[pairs >> 32]),
        targets=torch.from_numpy(pairs & 0xFFFFFFFF),
        index=torch.from_numpy(index),
        segments=nodes.segments() if shape[0] == 1 and nodes.largest > dense_up_to else (),
        tokens=sum(map(len, heads)),
        nodes=len(nodes.tokens),
    )


def tree_of(rows: Sequence[Any], labels: Sequence[Any], padded: tuple[int, ...], multiple: int) -> dict[str, TokenTree]:
    """{"prefix_tree": the tree}, or {} if little is shared. `padded`: (B, S)."""
    tree = build_tree(rows, labels, width=padded[1], multiple=multiple)
    worth = tree.tokens >= WORTH * tree.nodes and padded[0] * padded[1] >= WORTH * tree.input_ids.numel()
    return {"prefix_tree": tree} if worth else {}


@dataclass(frozen=True, slots=True)
class _Nodes:
    """All trees one after the other, depth first: (N,) arrays, the nodes of each row in `paths`, the `starts` of the
    unbranched runs, and `roots`, where trees start."""

    tokens: np.ndarray
    depths: np.ndarray
    ends: np.ndarray
    paths: list[np.ndarray]
    starts: np.ndarray
    roots: np.ndarray

    @property
    def largest(self) -> int:
        return int(np.diff(np.append(self.roots, len(self.tokens))).max())

    def segments(self) -> tuple[tuple[int, int, int], ...]:
        stops = np.append(self.starts[1:], len(self.tokens))
        return tuple(zip(self.starts.tolist(), stops.tolist(), self.ends[stops - 1].tolist(), strict=True))


def _merge(rows: list[np.ndarray]) -> _Nodes:
    """In sorted order, a row adds the nodes after its common prefix with the row before."""
    total = sum(map(len, rows))
    tokens, depths, ends = (np.empty(total, np.int64) for _ in range(3))
    paths: list[np.ndarray] = [np.empty(0, np.int64)] * len(rows)
    starts, roots = {0}, []
    before, path, count = np.empty(0, np.int64), np.empty(0, np.int64), 0
    # Big-endian bytes sort like the numbers, with a prefix before its extensions.
    for i in sorted(range(len(rows)), key=lambda i: rows[i].astype(">u4").tobytes()):
        row = rows[i]
        if not len(row):
            continue
        short = min(len(before), len(row))
        differs = before[:short] != row[:short]
        common = int(differs.argmax()) if differs.any() else short
        ends[path[common:]] = count
        if common < len(path):  # a branch: the run ends with the common prefix
            starts |= {count} | ({int(path[common - 1]) + 1} if common else set())
        new = len(row) - common
        tokens[count : count + new] = row[common:]
        depths[count : count + new] = np.arange(common, len(row))
        if common == 0:
            roots.append(count)
        path = np.concatenate([path[:common], np.arange(count, count + new)])
        paths[i], before, count = path, row, count + new
    ends[path] = count
    starts.discard(count)  # equal rows add none
    return _Nodes(
        tokens[:count], depths[:count], ends[:count], paths, np.array(sorted(starts)), np.array(roots, np.int64)
    )


def _layout(nodes: _Nodes, dense_up_to: int) -> tuple[np.ndarray, np.ndarray]:
    """(sequence, place) of each node: in one sequence, or in several of whole trees (first fit, largest first)."""
    count = len(nodes.tokens)
    if nodes.largest > dense_up_to:
        return np.zeros(count, np.int64), np.arange(count)
    sizes = np.diff(np.append(nodes.roots, count))
    used: list[int] = []
    sequence, offset = np.empty(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    for tree in np.argsort(-sizes, kind="stable"):
        size = int(sizes[tree])
        fits = next((s for s, length in enumerate(used) if length + size <= dense_up_to), len(used))
        if fits == len(used):
            used.append(0)
        sequence[tree], offset[tree] = fits, used[fits]
        used[fits] += size
    return np.repeat(sequence, sizes), np.repeat(offset - nodes.roots, sizes) + np.arange(count)
