"""The exact value of a prefix under a small policy: every continuation with some mass, followed to its end.

The tree of continuations is expanded token by token, in batches, with the chance of every token from the
model's own softmax. A branch is dropped where its mass, relative to the last prefix that is asked about,
falls below `prune`; its value may be anything from 0 to 1, so every value comes with the exact bounds that
the dropped mass leaves. That holds for sampling at temperature 1 from the whole distribution, no stop strings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from negrl.bench.labels.metrics import Bounds
from negrl.labeling.rollouts import Verify
from negrl.records import CORRECT, Problem, Trace
from negrl.steps.split import Span

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ROWS = 4096
"""Prefixes in one forward pass."""
_PROBLEMS = 16
"""Problems whose trees grow together: bounds the memory of what is known of them."""
_OFF = 0
"""The node of whoever has left every path that is asked about."""


@dataclass
class _Paths:
    """The prefixes that are asked about, as a tree of tokens: node 0 is off them all."""

    vocab: int
    next: list[np.ndarray] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node()

    def node(self, asked: bool = False) -> int:
        self.next.append(np.zeros(self.vocab, dtype=np.int64))
        self.asked.append(asked)
        return len(self.asked) - 1

    def follow(self, node: int, token: int) -> int:
        if self.next[node][token] == _OFF:
            new = self.node()
            self.next[node][token] = new
        return int(self.next[node][token])


@dataclass(frozen=True)
class _Front:
    """Nodes of one depth that wait to be expanded, as equally long arrays.

    `tokens` [nodes, depth] after the prompt; `seen`: keys and values [rows, ...] of each layer for everything
    but the last token, whose row for each node is in `row`."""

    node: np.ndarray
    tokens: np.ndarray
    mass: np.ndarray
    path: np.ndarray
    problem: np.ndarray
    seen: list[tuple[torch.Tensor, torch.Tensor]]
    row: np.ndarray

    def cut(self, size: int) -> list[_Front]:
        parts = [slice(at, at + size) for at in range(0, len(self.node), size)]
        return [
            _Front(self.node[p], self.tokens[p], self.mass[p], self.path[p], self.problem[p], self.seen, self.row[p])
            for p in parts
        ]


@dataclass(frozen=True)
class Writer:
    """How responses are written and judged. `max_tokens`: of a whole response; one that has not ended by then is not
    successful. `prune`: mass below which a branch is dropped, relative to the last asked prefix above it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    verify: Verify
    max_tokens: int
    prune: float = 1e-6


def true_values(
    writer: Writer,
    problems: dict[str, Problem],
    traces: Sequence[Trace],
    spans: Sequence[Sequence[Span]],
    on_problems: Callable[[int], None] | None = None,
) -> list[list[Bounds]]:
    """V_0, V_1, ... of each trace, one for the prompt and one for each step's end; the last is the verdict.

    Args:
        traces: verified; one with an undecided verdict counts 0, as in labels.
        spans: the steps of each trace.
        on_problems: called with the number of problems that were finished since the last call.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for i, trace in enumerate(traces):
        groups.setdefault((len(trace.prompt_token_ids), trace.problem_id), []).append(i)
    found: dict[int, list[Bounds]] = {}
    ordered = sorted(groups.items())
    at = 0
    while at < len(ordered):
        length = ordered[at][0][0]
        batch = [item for item in ordered[at : at + _PROBLEMS] if item[0][0] == length]  # no padding needed
        at += len(batch)
        golds = [problems[problem].gold for (_, problem), _ in batch]
        found |= _enumerate(writer, golds, [members for _, members in batch], traces, spans)
        if on_problems is not None:
            on_problems(len(batch))
    return [found[i] for i in range(len(traces))]


def _enumerate(
    writer: Writer,
    golds: list[str],
    groups: Sequence[Sequence[int]],
    traces: Sequence[Trace],
    spans: Sequence[Sequence[Span]],
) -> dict[int, list[Bounds]]:
    """The values of the traces of a few problems, `groups`, by index; all prompts are equally long."""
    paths = _Paths(writer.model.config.vocab_size)
    roots = [paths.node(asked=True) for _ in groups]
    ends: dict[int, list[int]] = {}  # trace -> its nodes: the root, then each step's end but the last
    for root, members in zip(roots, groups, strict=True):
        for i in members:
            node, ends[i] = root, [root]
            for span in spans[i][:-1]:
                for token in traces[i].token_ids[span.start : span.end]:
                    node = paths.follow(node, token)
                paths.asked[node] = True
                ends[i].append(node)
    found = _Tree(writer, paths, golds).grow([traces[members[0]].prompt_token_ids for members in groups], roots)
    last = {i: float(traces[i].verdict == CORRECT) for i in ends}
    return {i: [*(found[node] for node in nodes), Bounds(last[i], last[i])] for i, nodes in ends.items()}


class _Tree:
    def __init__(self, writer: Writer, paths: _Paths, golds: list[str]):
        self.writer, self.model, self.golds = writer, writer.model, golds
        self.next, self.asked = np.stack(paths.next), np.array(paths.asked)
        self.eos = int(writer.tokenizer.eos_token_id)  # type: ignore[arg-type]
        self.nodes = 0
        self.right: list[tuple[np.ndarray, np.ndarray]] = []  # (node, chance to end right at once)
        self.open: list[tuple[np.ndarray, np.ndarray]] = []  # (node, chance that was dropped)
        self.edges: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # (parent, child, chance), parents first
        self.at: dict[int, int] = {}  # node of the paths -> node of the tree

    def grow(self, prompts: list[list[int]], roots: list[int]) -> dict[int, Bounds]:
        """The bounds at every asked node of the paths."""
        count = len(prompts)
        ids = torch.tensor(prompts, device=self.model.device)
        seen = self._forward(ids[:, :-1], [], len(prompts[0]) - 1)[1] if len(prompts[0]) > 1 else []
        tokens = np.array([[p[-1]] for p in prompts])
        front = _Front(
            self._new(count, np.array(roots)), tokens, np.ones(count), np.array(roots), np.arange(count), seen,
            np.arange(count),
        )  # fmt: skip
        waiting = [front]
        with torch.inference_mode():
            while waiting:
                waiting += self._expand(waiting.pop(), len(prompts[0]))
        return self._back_up()

    def _new(self, count: int, path: np.ndarray) -> np.ndarray:
        nodes = np.arange(self.nodes, self.nodes + count)
        self.nodes += count
        for i in np.flatnonzero(path != _OFF):
            self.at[int(path[i])] = int(nodes[i])
        return nodes

    def _expand(self, front: _Front, prompt: int) -> list[_Front]:
        """One token on: the children that are kept, in pieces for the next passes."""
        width = front.tokens.shape[1]  # the prompt's last token, then the response so far
        rows = torch.from_numpy(front.row).to(self.model.device)
        seen = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in front.seen]
        last = torch.from_numpy(front.tokens[:, -1:]).to(self.model.device)
        logits, seen = self._forward(last, seen, prompt - 2 + width)
        chances = torch.softmax(logits.double(), dim=-1).cpu().numpy()
        mass = front.mass[:, None] * chances
        path = self.next[front.path]
        kept = (mass >= self.writer.prune) | (path != _OFF)
        self.open.append((front.node, (chances * ~kept).sum(axis=1)))
        self._finish(front, chances, kept)
        kept[:, self.eos] = False
        if width == self.writer.max_tokens:  # what has not ended now is cut off, and worth 0
            return []
        parent, token = np.nonzero(kept)
        if not len(parent):
            return []
        child_path = path[parent, token]
        child = self._new(len(parent), child_path)
        self.edges.append((front.node[parent], child, chances[parent, token]))
        children = _Front(
            child,
            np.concatenate([front.tokens[parent], token[:, None]], axis=1),
            np.where(self.asked[child_path], 1.0, mass[parent, token]),
            child_path,
            front.problem[parent],
            seen,
            parent,
        )
        return children.cut(_ROWS)

    def _finish(self, front: _Front, chances: np.ndarray, kept: np.ndarray) -> None:
        """Judge the responses that end here."""
        ending = np.flatnonzero(kept[:, self.eos])
        if not len(ending):
            return
        texts = self.writer.tokenizer.batch_decode(
            front.tokens[ending, 1:].tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        golds = (self.golds[p] for p in front.problem[ending])
        right = [
            self.writer.verify(text, gold, "stop").value == CORRECT for text, gold in zip(texts, golds, strict=True)
        ]
        self.right.append((front.node[ending], chances[ending, self.eos] * np.array(right)))

    def _forward(
        self, ids: torch.Tensor, seen: list[tuple[torch.Tensor, torch.Tensor]], position: int
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Logits [rows, vocab] after `ids` [rows, tokens], and what the model has then seen."""
        from transformers import DynamicCache

        cache: Any = DynamicCache(seen) if seen else DynamicCache(config=self.model.config)
        start = position + 1 - ids.shape[1] if seen else 0
        positions = torch.arange(start, start + ids.shape[1], device=ids.device).expand(len(ids), -1)
        with torch.inference_mode():
            output = self.model(
                input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        return output.logits[:, -1], [(layer.keys, layer.values) for layer in cache.layers]

    def _back_up(self) -> dict[int, Bounds]:
        low, dropped = np.zeros(self.nodes), np.zeros(self.nodes)
        for node, chance in self.right:
            low[node] += chance
        for node, chance in self.open:
            dropped[node] += chance
        for parent, child, chance in reversed(self.edges):
            np.add.at(low, parent, chance * low[child])
            np.add.at(dropped, parent, chance * dropped[child])
        return {path: Bounds(float(low[n]), float(min(1.0, low[n] + dropped[n]))) for path, n in self.at.items()}
