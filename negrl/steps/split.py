"""Cut a response into steps: contiguous token spans that tile it exactly.

Boundaries are found in the text and carried over to the tokens by the text that each token adds, so
nothing is ever re-tokenized. A token that lies across a boundary goes, whole, to the side that holds
more of its characters (the earlier one when equal). A character that takes several tokens
(byte-level BPE) belongs to the token that completes it; the tokens that only begin it go with it.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from negrl.steps.section import SplitSection
from negrl.steps.splitters import SPLITTERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PARTIAL = "\ufffd"  # what an unfinished (or broken) UTF-8 sequence decodes to
_LONGEST_WAIT = 8  # tokens: a UTF-8 character has at most 4 bytes, so longer waits are broken text
# Tokenizer -> token id -> the text that the token adds in the middle of a sequence.
_pieces_of: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, dict[int, str]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, end) and their text (special tokens have none)."""

    start: int
    end: int
    text: str


def split_steps(token_ids: list[int], tokenizer: PreTrainedTokenizerBase, section: SplitSection) -> list[Span]:
    """The steps of a response.

    They tile `token_ids`: the first starts at 0, each ends where the next starts, the last ends at
    `len(token_ids)`; no step is empty. No tokens: no steps. EOS and other special tokens at the end
    belong to the last step. A step whose stripped text is shorter than `section.min_chars` merges
    into the next one, the last into the one before. More than `section.max_steps` steps are grouped
    with their neighbours into at most that many of about equal length in characters.
    """
    if not token_ids:
        return []
    pieces = token_texts(token_ids, tokenizer)
    starts = [0, *accumulate(map(len, pieces))]  # character offset of each token; the last is the text's length
    cuts = {0, len(token_ids)}
    for boundary in _boundaries("".join(pieces), section):
        cuts.add(_token_at(boundary, starts))
    spans = [(a, b) for a, b in pairwise(sorted(cuts))]
    spans = _merge_crumbs(spans, pieces, section.min_chars)
    if len(spans) > section.max_steps:
        spans = _group(spans, starts, section.max_steps)
    return [Span(a, b, "".join(pieces[a:b])) for a, b in spans]


def token_texts(token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token adds; together they are the decoded text without special tokens.

    Bytes that are no UTF-8 come out as U+FFFD and may be attributed a few tokens late.
    """
    known = _pieces_of.setdefault(tokenizer, {})
    new = sorted(set(token_ids) - known.keys())
    if new:
        # Twice in a row, less once alone: what a token adds in the middle of a text. Alone, some
        # tokenizers (sentencepiece) drop the space that a word begins with.
        once = _decode_all([[t] for t in new], tokenizer)
        twice = _decode_all([[t, t] for t in new], tokenizer)
        known.update({t: two[len(one) :] for t, one, two in zip(new, once, twice, strict=True)})
    pieces = [known[t] for t in token_ids]
    whole = _decode(token_ids, tokenizer)
    joined = "".join(pieces)
    if joined == whole and _PARTIAL not in joined:
        return pieces
    if joined == " " + whole and pieces[0].startswith(" "):
        return [pieces[0][1:], *pieces[1:]]
    return _windowed_texts(token_ids, tokenizer)


def _windowed_texts(token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode a small moving window: the last tokens that gave text (context) and those that wait
    for their character to be complete."""
    pieces: list[str] = []
    context, pending, shown = 0, 0, ""  # `shown` is the decoded ids[context:pending]
    for i in range(len(token_ids)):
        text = _decode(token_ids[context : i + 1], tokenizer)
        waiting = text.endswith(_PARTIAL) or len(text) <= len(shown)
        if waiting and i + 1 < len(token_ids) and i + 1 - pending < _LONGEST_WAIT:
            pieces.append("")
            continue
        pieces.append(text[len(shown) :])
        context, pending = pending, i + 1
        shown = _decode(token_ids[context:pending], tokenizer)
    return pieces


def _boundaries(text: str, section: SplitSection) -> list[int]:
    """Character offsets strictly inside the text where a step ends and the next begins."""
    splitter = SPLITTERS[section.split]
    return [place for place in splitter.boundaries(text, section) if 0 < place < len(text)]


def _token_at(boundary: int, starts: list[int]) -> int:
    """The token that a step starting at character `boundary` begins with."""
    after = bisect_left(starts, boundary)
    if starts[after] == boundary:
        return after
    begin, end = starts[after - 1], starts[after]
    # Tokens without text right before this one begin its character: they go with it.
    return bisect_left(starts, begin) if boundary - begin < end - boundary else after


def _merge_crumbs(spans: list[tuple[int, int]], pieces: list[str], min_chars: int) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    begin, text = 0, ""
    for a, b in spans:
        text += "".join(pieces[a:b])
        if len(text.strip()) >= min_chars:
            merged.append((begin, b))
            begin, text = b, ""
    if begin < spans[-1][1]:  # a crumb at the end
        begin = merged.pop()[0] if merged else begin
        merged.append((begin, spans[-1][1]))
    return merged


def _group(spans: list[tuple[int, int]], starts: list[int], count: int) -> list[tuple[int, int]]:
    """At most `count` groups of neighbours: step by step, each goes to the group of its end's share
    of the text."""
    total = max(starts[-1], 1)
    groups: dict[int, tuple[int, int]] = {}
    for a, b in spans:
        group = min(max(starts[b] - 1, 0) * count // total, count - 1)
        groups[group] = (groups[group][0] if group in groups else a, b)
    return list(groups.values())


def _decode(token_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _decode_all(sequences: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return tokenizer.batch_decode(sequences, skip_special_tokens=True, clean_up_tokenization_spaces=False)
