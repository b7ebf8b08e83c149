"""`recorder`: the transformers engine, with a file that says what was asked of it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from negrl.engines import Completion, Engine, EngineSpec, Request
from negrl.engines.transformers import TransformersOptions
from negrl.options import unkeyed


class RecorderOptions(TransformersOptions):
    log: str = unkeyed("requests.jsonl")
    """Where to write one line per request. Samples do not depend on it, so it is not in their key."""


class Recorder:
    def __init__(self, inner: Engine, log: str):
        self.inner, self.log, self.name = inner, log, f"recorder-{inner.name}"

    def generate(
        self, requests: Sequence[Request], on_tokens: Callable[[int], None] | None = None
    ) -> list[list[Completion]]:
        with open(self.log, "a") as file:
            for request in requests:
                print(json.dumps({"n": request.n, "prompt": request.prompt_token_ids}), file=file)
        return self.inner.generate(requests, on_tokens)

    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        return self.inner.score(pairs)

    def close(self) -> None:
        self.inner.close()


def _open(model: str, policy: Any, section: Any) -> Engine:
    from negrl.engines.transformers.engine import TransformersEngine  # loads torch

    return Recorder(TransformersEngine(model, policy, section.batch_size, section.device), section.log)


ENGINE = EngineSpec("recorder", RecorderOptions, _open, distributions=("transformers",))
