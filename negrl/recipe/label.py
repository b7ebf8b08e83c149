"""Which answers are right, and what each step is worth."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

import pydantic
from pydantic import Field, model_validator

from negrl.errors import nearest
from negrl.recipe.section import Section


class VerifySection(Section):
    extract: Literal["auto", "boxed", "hash", "answer_line", "answer_is", "last_number", "chain", "path"] = "auto"
    timeout: float = Field(5.0, gt=0)
    """Seconds for one equivalence check; then its worker process is killed and the verdict is undecided."""
    memory_mb: int = Field(1024, ge=256)
    """Memory of one worker process: a check that needs more is undecided."""
    workers: int = Field(1, ge=1)
    """Worker processes for the checks that need math-verify."""


BELIEF_TEXTS = {
    "auto": "\n#### ",
    "hash": "\n#### ",
    "answer_line": "\nA: ",
    "boxed": "\n\\boxed{",
    "answer_is": "\nThe answer is ",
    "last_number": "\nThe answer is ",
    "chain": "!",
    "path": "",
}
"""verify.extract -> what stands before an answer that it finds."""


class LabelSection(Section):
    labeler: Literal[
        "adaptive", "fixed", "bisect", "first_zero", "belief", "prm", "arithmetic", "consensus", "oracle", "none"
    ] = "adaptive"
    """`none`: split into steps only."""
    k: int = Field(8, ge=1)
    """Rollouts at every step that is looked at (fixed, bisect, first_zero); for imported traces also from every
    prompt, for V_0 (whatever the labeler)."""
    max_rollouts: int = Field(16, ge=1)
    """Of one trace at most (adaptive)."""
    step_chances: bool = True
    """Read from the sampler's logprobs how likely each step was (adaptive). False: as for imported traces."""
    budget_tokens: int | None = Field(None, ge=0)
    """Rollout tokens for all traces of a round together (adaptive): none are asked for beyond. Default: no limit."""
    agree: tuple[str, str] = ("adaptive", "arithmetic")
    """The two labelers of `consensus`: the first one's advantages stand where the two agree."""
    belief: str | None = None
    """Text between a prefix and the gold answer whose log p tells the policy's belief in it, e.g. "\n#### " (belief;
    with adaptive it becomes its prior). Default: none for adaptive, by `verify.extract` for belief."""
    prm: str | None = None
    """Folder of a process reward model (prm): what a training with method process_reward leaves in `model`."""
    best_of: int = Field(1, ge=1)
    """Values are the chance that the best of so many tries is right (Setlur et al. 2024: 5). 1: of one try. Counts
    below it give no value, so k (and sample.n, for V_0) must not be smaller."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Strings that end a rollout, besides `sample.stop`: what the policy writes once its answer is settled. They stay
    in the text that is judged, so they may be part of the answer, as a closing brace is."""
    confidence: float = Field(0.9, gt=0.5, lt=1)
    dead_zone: float = Field(0.2, ge=0, lt=1)
    """Advantages no larger than this get no weight, whatever their interval."""
    require_significance: bool = False
    """Also drop advantages whose interval contains 0."""
    value_band: tuple[float, float] = (0.1, 0.9)
    """Keep only traces of problems whose V_0 lies in this band."""
    after_pit: Literal["drop", "keep"] = "drop"
    """Steps after the pit of a wrong trace: no weight, or weight as measured."""
    shuffle: bool = False
    """A control: what the steps of a round weigh is dealt out among them at random. It must not help (step_advantage,
    with anchor 0; pits are forgotten, so there are no step pairs)."""
    split: Literal["newline", "blank_line", "sentence", "pattern", "semicolon", "chain"] = "newline"
    pattern: str = r"(?m)Step \d+[*_]*:|^[#>*_ \t-]*Step \d+\b"
    """Where a step begins (split: pattern)."""
    min_chars: int = Field(1, ge=1)
    """Shorter steps are merged into their neighbour."""
    max_steps: int = Field(32, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    """Of a rollout. Default: what sample.max_tokens leaves after the prefix."""
    shard_size: int = Field(64, ge=1)
    """Problems per shard."""
    seed: int = 0

    @pydantic.field_validator("pattern")
    @classmethod
    def _is_regex(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _labelers_fit(self) -> LabelSection:
        known = [n for n in get_args(LabelSection.model_fields["labeler"].annotation) if n not in ("consensus", "none")]
        for name in self.agree:
            if name not in known:
                raise ValueError(f"agree: '{name}' can't take part{nearest(name, known)}; two of {', '.join(known)}")
        if self.agree[0] == self.agree[1]:
            raise ValueError(f"agree: '{self.agree[0]}' always agrees with itself; name two different labelers")
        if ("prm" in self.members) != (self.prm is not None):
            raise ValueError("prm: labeler prm needs the folder of a process reward model, and no other reads it")
        if {"prm", "belief"} <= set(self.members) or ("prm" in self.members and self.belief is not None):
            raise ValueError("agree: prm and beliefs can't be read together")
        if self.best_of > 1:
            for name in self.members:
                if name in ("arithmetic", "oracle"):
                    raise ValueError(f"best_of: {self.best_of} says nothing to {name}, whose values are exact; set 1")
                if name in ("fixed", "bisect", "first_zero") and self.k < self.best_of:
                    raise ValueError(
                        f"k: {self.k} rollouts ({name}) can't show the best of {self.best_of}; set k to more"
                    )
        return self

    @property
    def members(self) -> tuple[str, ...]:
        """The labelers at work: the two of a consensus, else the one."""
        return self.agree if self.labeler == "consensus" else (self.labeler,)
