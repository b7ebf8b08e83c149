"""How a policy is trained, and where it comes from."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field, model_validator

from negrl.errors import nearest
from negrl.recipe.section import Section
from negrl.trainers.methods import METHODS, check_fields


class TrainSection(pydantic.BaseModel):
    """`method`, the method's own options, and any field of the TRL config that it trains with."""

    model_config = pydantic.ConfigDict(extra="allow")

    method: str = "step_advantage"
    rounds: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _known_fields(self) -> TrainSection:
        if self.method not in METHODS:
            known = ", ".join(sorted(METHODS))
            raise ValueError(f"unknown method '{self.method}'{nearest(self.method, METHODS)}; one of {known}")
        check_fields(self.method, self.fields)
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """Everything but `method` and `rounds`: method options and TRL config fields."""
        return dict(self.model_extra or {})

    def over(self, other: TrainSection) -> TrainSection:
        """This section on top of `other`'s fields (those that this method knows)."""
        from negrl.trainers.methods import known_fields

        known = known_fields(self.method)
        inherited = {k: v for k, v in other.fields.items() if k in known}
        return TrainSection(method=self.method, rounds=self.rounds or other.rounds, **{**inherited, **self.fields})


class BuildSection(Section):
    """Make a small model from scratch: for worlds, and to try a recipe without weights."""

    corpus: Literal["world", "solutions"] = "world"
    """`world`: the world's pre-training text. `solutions`: prompt + reference solution of the training problems."""
    documents: int = Field(20000, ge=1)
    tokenizer: Literal["char", "bpe"] = "char"
    vocab_size: int = Field(2048, ge=64)
    architecture: Literal["llama", "qwen2"] = "llama"
    hidden_size: int = Field(64, ge=2)
    intermediate_size: int = Field(176, ge=1)
    num_hidden_layers: int = Field(3, ge=1)
    num_attention_heads: int = Field(2, ge=1)
    max_position_embeddings: int = Field(256, ge=2)
    tie_word_embeddings: bool = True
    seed: int = 0
    train: TrainSection = Field(default_factory=lambda: TrainSection(method="sft"))

    @model_validator(mode="after")
    def _even_heads(self) -> BuildSection:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of twice num_attention_heads "
                f"({self.num_attention_heads})"
            )
        return self


class PolicySection(Section):
    model: str | None = None
    """A model folder or a hub id."""
    revision: str | None = None
    build: BuildSection | None = None
    """Make a small model instead of loading one."""
    start: TrainSection | None = None
    """Train the model on the sources' reference solutions first (SFT): every arm starts from there."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    chat_template: bool = False
    """Wrap prompts in the tokenizer's chat template."""
    system_prompt: str | None = None
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> PolicySection:
        if (self.model is None) == (self.build is None):
            raise ValueError("give either policy.model (a folder or hub id) or policy.build (a small one made here)")
        if self.start is not None and self.start.method != "sft":
            raise ValueError(f"policy.start.method must be sft, not '{self.start.method}'")
        return self
