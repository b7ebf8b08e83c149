"""Values from a process reward model (method `process_reward`, or any token-classification model with one
number per token): one forward pass a trace, no rollouts.

`scores` reads the model; the labeler is pure logic, handed to it as the task's `beliefs`, like labeler
`belief`: log P(right | prefix), here the model's own, of the prompt and of each step's end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from negrl.errors import InputError
from negrl.labelers.base import (
    Ask,
    BestOfOptions,
    LabelerSpec,
    Need,
    Opening,
    Outcome,
    Task,
    plain_differences,
)
from negrl.options import unkeyed
from negrl.quiet import quiet
from negrl.steps.values import Difference, Estimate, exact, verdict_value, with_best_of

if TYPE_CHECKING:
    from negrl.policy import PolicySection

_TOKENS_AT_ONCE = 1 << 14
_LEAST_LOG = -50.0


class PrmOptions(BestOfOptions):
    prm: str = unkeyed(...)
    """Folder of a process reward model: what a training with method process_reward leaves in `model`. (What is in the
    folder is in the stage's key, not where it is.)"""


class PrmLabeler:
    """V_i of the model, A_i = V_i - V_(i-1) with the model's own V_0, so that a model which is too hopeful all
    along is so on both sides. The last step's value is the verdict. A model gives one number and no interval:
    the interval is that number, and only the dead zone keeps small advantages out."""

    name = "prm"
    needs: frozenset[Need] = frozenset({"rewards"})

    def __init__(self, confidence: float, best_of: int = 1):
        self.confidence, self.best_of = confidence, best_of
        self._tasks: list[Task] = []

    def start(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)

    def ask(self) -> list[Ask]:
        return []

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What others asked (in a consensus) changes nothing."""

    def values(self, trace: int) -> list[Estimate | None]:
        """None all through for a task without beliefs."""
        task = self._tasks[trace]
        if not task.beliefs:
            return [None] * len(task.steps)
        return [*(self._value(b) for b in task.beliefs[1:-1]), verdict_value(task.verdict)]

    def _value(self, log_p: float) -> Estimate | None:
        return with_best_of(exact(math.exp(log_p)), self.confidence, self.best_of)

    def advantages(self, trace: int) -> list[Difference | None]:
        beliefs = self._tasks[trace].beliefs
        return plain_differences(self.values(trace), self._value(beliefs[0]) if beliefs else None)


def reward_model(section: Any) -> str:
    """The folder that a `label` section names whose labeler needs rewards."""
    return str(section.prm)


def scores(
    model: str,
    sequences: Sequence[tuple[list[int], list[int]]],
    policy: PolicySection | None = None,
    device: str | None = None,
) -> list[list[float]]:
    """log P(right | the tokens up to there) at the given places of each sequence.

    Args:
        model: folder (safetensors) of a token-classification model with one label per token, or two of which
            the second means right.
        sequences: (token ids, prompt first; how many tokens stand before each place, each at least 1). The
            places of a trace are its prompt's length, and that plus each of its steps' ends.
        policy: for trust_remote_code; the tokens must be those of the policy that the model was made from.
        device: default cuda where there is one.

    Returns:
        For each sequence as many natural logarithms as it has places.

    Raises:
        InputError: no such model, one with another head, a sequence that is empty or longer than the model's
            context, or a token or place outside it; names the index of the first offending sequence.
    """
    return scorer(model, policy, device)(sequences)


def scorer(
    model: str, policy: PolicySection | None = None, device: str | None = None
) -> Callable[[Sequence[tuple[list[int], list[int]]]], list[list[float]]]:
    """`scores` of one model, for many calls: it is loaded at the first one, and freed with the function."""
    networks: list[Any] = []

    def score(sequences: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        if not networks:
            networks.append(_load(model, policy, device))
        found = _scores(networks[0], sequences)
        if any(math.isnan(value) for row in found for value in row):
            raise InputError(f"label.prm: '{model}' gives numbers that are not finite")
        return found

    return score


def _scores(network: Any, sequences: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
    import torch

    device = network.device
    _check(sequences, network.config.get_text_config())
    order = sorted((i for i, s in enumerate(sequences) if s[1]), key=lambda i: -len(sequences[i][0]))
    found: list[list[float]] = [[] for _ in sequences]
    at = 0
    with torch.inference_mode():
        while at < len(order):
            width = len(sequences[order[at]][0])  # the longest comes first
            batch = order[at : at + max(1, _TOKENS_AT_ONCE // width)]
            rows = [sequences[i][0] for i in batch]
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
            logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
            one = logits.shape[-1] == 1
            logps = torch.nn.functional.logsigmoid(logits[..., 0]) if one else logits.log_softmax(-1)[..., 1]
            for i, row in zip(batch, logps.tolist(), strict=True):
                found[i] = [_floored(row[place - 1]) for place in sequences[i][1]]
            at += len(batch)
    return found


def _floored(log_p: float) -> float:
    return log_p if math.isnan(log_p) else max(log_p, _LEAST_LOG)


def _load(model: str, policy: PolicySection | None, device: str | None) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    trust = policy is not None and policy.trust_remote_code
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust)
        if not any("TokenClassification" in name for name in config.architectures or []) or config.num_labels > 2:
            kind = f"{', '.join(config.architectures or ['?'])} with {config.num_labels} labels"
            raise InputError(
                f"label.prm: '{model}' is {kind}; expected a token-classification model with 1 or 2 labels "
                "(train one with method process_reward)"
            )
        with quiet():
            network: Any = AutoModelForTokenClassification.from_pretrained(
                model, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust
            )
        return network.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (OSError, ValueError) as error:
        raise InputError(f"label.prm: '{model}' can't be loaded: {str(error).splitlines()[0]}") from None


def _check(sequences: Sequence[tuple[list[int], list[int]]], config: Any) -> None:
    context = getattr(config, "max_position_embeddings", None)
    for i, (ids, places) in enumerate(sequences):
        if not ids:
            raise InputError(f"sequence {i}: it is empty, expected at least one token id")
        if context is not None and len(ids) > context:
            raise InputError(f"sequence {i}: {len(ids)} tokens, the process reward model reads at most {context}")
        if min(ids) < 0 or max(ids) >= config.vocab_size:
            raise InputError(
                f"sequence {i}: token id outside the process reward model's vocabulary of {config.vocab_size}: "
                "was it made from another policy?"
            )
        if places and not 1 <= min(places) <= max(places) <= len(ids):
            raise InputError(f"sequence {i}: places must be in 1 to {len(ids)}")


def _open(opening: Opening) -> PrmLabeler:
    return PrmLabeler(opening.settings.confidence, opening.settings.best_of)


LABELER = LabelerSpec("prm", _open, PrmOptions)
