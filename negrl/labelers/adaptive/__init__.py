"""The default: spend rollouts where they can still change what training will read.

Each trace has a posterior over its value path (posterior.py), from the sampler's logprobs, the
problem's other traces, and all rollouts that share its prefixes. A step is settled when it is all but sure on
which side of the dead zone its advantage lies, and, if outside, how large it is. A trace whose steps are
all settled is finished. The others ask for a few rollouts more, from the prefix on their path where a
rollout's token buys most: the expected fall of the squared error of the unsettled advantages, over all
traces that share the prefix. (For one right-or-wrong sample y from a prefix of value V that is
Cov(A, V)^2 / Var(y), exactly, since E[A | y] is linear in y.)

What a fresh sample would buy has the same unit. The gradient learns from E[A]^2 of the steps, and by the law of total
variance a rollout raises the expectation of this by just the fall of the squared error. So with `rollouts: worthwhile`
none is asked for from which a token brings less than one of a trace does: the sum of its E[A]^2 over its length.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from negrl.labelers.base import BeliefOptions, Labeler, LabelerSpec, Opening


class AdaptiveOptions(BeliefOptions):
    max_rollouts: int = Field(16, ge=1)
    """Of one trace at most."""
    step_chances: bool = True
    """Read from the sampler's logprobs how likely each step was. False: do without, as for imported traces."""
    # The next two are left out of a dump where they are not set: dumps are part of the stages' keys.
    rollouts: Literal["settled", "worthwhile"] = Field("settled", exclude_if=lambda v: v == "settled")
    """settled: until every step is settled. worthwhile: only as long as their tokens buy more than those of a fresh
    sample would, which is what a budget asks for."""
    merge: Literal["tokens", "facts"] = Field("tokens", exclude_if=lambda v: v == "tokens")
    """Which prefixes of a problem are pooled: those with the same tokens, or also, with a learned discount, those that
    have worked out the same facts in other words."""
    budget_tokens: int | None = Field(None, ge=0)
    """Rollout tokens for all traces of a round together: none are asked for beyond that. Default: no limit."""


def _open(opening: Opening) -> Labeler:
    from negrl.labelers.adaptive.labeler import AdaptiveLabeler  # loads numpy

    return AdaptiveLabeler(opening.settings)


# What it learns, and what it spends on one shard, depends on what is in the shard.
LABELER = LabelerSpec("adaptive", _open, AdaptiveOptions, reads=("dead_zone", "shard_size"))
