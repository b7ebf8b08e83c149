"""What engines that run in this process have in common: they refuse bad requests before anything is
generated, know which tokens end a text, and turn token ids into the text of a completion.

Nothing here imports torch; tokenizers and configs are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from negrl.engines.base import Request
from negrl.errors import InputError


def check_requests(requests: Sequence[Request], context: int | None, vocab_size: int) -> None:
    """Raises InputError, naming the request's index, for the first request that can't be served.

    Args:
        context: the most tokens that prompt and completion may have together; None: no limit.
        vocab_size: token ids must be in [0, vocab_size).
    """
    for index, request in enumerate(requests):
        where = f"request {index}"
        _check_tokens(where, request.prompt_token_ids, context, vocab_size)
        for name, value, good, expected in (
            ("n", request.n, request.n >= 1, "at least 1"),
            ("max_tokens", request.max_tokens, request.max_tokens >= 1, "at least 1"),
            ("temperature", request.temperature, 0 <= request.temperature < float("inf"), "0 (greedy) or more"),
            ("top_p", request.top_p, 0 < request.top_p <= 1, "more than 0, at most 1"),
            ("top_k", request.top_k, request.top_k >= 0, "0 (off) or more"),
            ("stop", request.stop, all(request.stop), "no empty string"),
        ):
            if not good:
                raise InputError(f"{where}: {name} is {value!r}, expected {expected}")


def check_pairs(pairs: Sequence[tuple[list[int], list[int]]], context: int | None, vocab_size: int) -> None:
    """Raises InputError, naming the pair's index, for the first pair that can't be scored."""
    for index, (before, after) in enumerate(pairs):
        if not before:
            raise InputError(f"pair {index}: the context is empty, expected at least one token id")
        _check_tokens(f"pair {index}", before + after, context, vocab_size)


def _check_tokens(where: str, prompt: list[int], context: int | None, vocab_size: int) -> None:
    if not prompt:
        raise InputError(f"{where}: the prompt is empty, expected at least one token id")
    if context is not None and len(prompt) >= context:
        raise InputError(
            f"{where}: the prompt has {len(prompt)} tokens and leaves no room for one more in the model's "
            f"context of {context}; expected at most {context - 1}"
        )
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        bad = next(t for t in prompt if not 0 <= t < vocab_size)
        raise InputError(f"{where}: token id {bad} is outside the model's vocabulary, expected 0 to {vocab_size - 1}")


def room(request: Request, context: int | None) -> int:
    """How many tokens the request may get: `max_tokens`, or what the context leaves."""
    left = request.max_tokens if context is None else context - len(request.prompt_token_ids)
    return min(request.max_tokens, left)


def eos_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """Every token id that ends a text, sorted: the generation config may list several, and chat
    models' tokenizers often name one that the generation config lacks."""
    found: set[int] = set()
    for value in (getattr(generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(int(v) for v in value)
    return sorted(found)


def first_stop(text: str, stop: Iterable[str]) -> int:
    """Where the earliest stop string starts in `text`, or -1."""
    hits = [at for at in (text.find(s) for s in stop) if at >= 0]
    return min(hits, default=-1)


def texts(
    tokenizer: Any, token_ids: Sequence[list[int]], stops: Sequence[tuple[str, ...]], eos: Iterable[int]
) -> list[str]:
    """The texts of completions: without a closing EOS and other special tokens, cut before the
    first of their stop strings."""
    if not token_ids:  # batch_decode takes [] for one empty text
        return []
    ends = set(eos)
    bare = [ids[:-1] if ids and ids[-1] in ends else ids for ids in token_ids]
    decoded = tokenizer.batch_decode(bare, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    cuts = [first_stop(text, stop) if stop else -1 for text, stop in zip(decoded, stops, strict=True)]
    return [text if cut < 0 else text[:cut] for text, cut in zip(decoded, cuts, strict=True)]
