"""An engine's completions as the rows that travel."""

from __future__ import annotations

from collections.abc import Iterable

from negrl.engines.base import Completion, Request
from negrl.records import Sampling, Trace, stable_id


def traces_of(
    request: Request, completions: Iterable[Completion], *, problem_id: str, policy: str, engine: str,
    key: tuple[str | int, ...], round_: int = 0,
) -> list[Trace]:  # fmt: skip
    """One unjudged trace for each completion of a request.

    Args:
        key: with a sample's index it makes the trace's id.
    """
    sampling = Sampling(request.temperature, request.top_p, request.top_k, request.seed, request.max_tokens)
    return [
        Trace(
            trace_id=stable_id(*key, index),
            problem_id=problem_id,
            round=round_,
            sample_index=index,
            policy=policy,
            engine=engine,
            sampling=sampling,
            prompt_token_ids=request.prompt_token_ids,
            token_ids=completion.token_ids,
            logprobs=completion.logprobs,
            text=completion.text,
            finish_reason=completion.finish_reason,
        )
        for index, completion in enumerate(completions)
    ]
