"""How a policy is trained, and where it comes from."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import Field, field_validator, model_validator

from negrl.errors import nearest
from negrl.methods import METHODS, check_fields
from negrl.recipe.section import Section

if TYPE_CHECKING:
    from negrl.recipe.schema import Recipe

WAYS = ("replace", "accumulate")


class TrainSection(pydantic.BaseModel):
    """`method`, the method's own options, and any field of the TRL config that it trains with."""

    model_config = pydantic.ConfigDict(extra="allow")

    method: str = "step_advantage"
    rounds: int | None = Field(None, ge=1)
    # Not in a dump that does not set it: dumps are part of stages' keys.
    earlier_rounds: Literal["replace", "accumulate"] | float | None = Field(None, exclude_if=lambda v: v is None)
    """Rows of earlier rounds: `replace` (default) drops them, `accumulate` keeps all, a number at most so many per
    new row, newest rounds first."""

    @field_validator("earlier_rounds", mode="before")
    @classmethod
    def _known_way(cls, value: Any) -> Any:
        if value is None or value in WAYS:
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
            return float(value)
        near = nearest(value, WAYS) if isinstance(value, str) else ""
        raise ValueError(
            f"expected replace, accumulate or a number above 0 (old rows per new one), not {value!r}{near}"
        )

    @model_validator(mode="after")
    def _known_fields(self) -> TrainSection:
        if self.method not in METHODS:
            known = ", ".join(sorted(METHODS))
            raise ValueError(f"unknown method '{self.method}'{nearest(self.method, METHODS)}; one of {known}")
        check_fields(self.method, self.fields)
        if self.keeps_earlier and not METHODS[self.method].reads_traces:
            why = "samples anew at every step" if METHODS[self.method].online else "reads the same rows in every round"
            raise ValueError(f"earlier_rounds: {self.method} {why}; leave it out")
        return self

    @property
    def keeps_earlier(self) -> bool:
        """Does a round train on rows of earlier ones, too?"""
        return self.earlier_rounds not in (None, "replace")

    @property
    def fields(self) -> dict[str, Any]:
        """Everything but `method`, `rounds` and `earlier_rounds`: method options and TRL config fields."""
        return dict(self.model_extra or {})

    def over(self, other: TrainSection) -> TrainSection:
        """This section on top of `other`'s fields (those that this method knows)."""
        from negrl.methods import known_fields

        known = known_fields(self.method)
        inherited = {k: v for k, v in other.fields.items() if k in known}
        earlier = self.earlier_rounds
        if earlier is None and METHODS[self.method].reads_traces:
            earlier = other.earlier_rounds
        return TrainSection(
            method=self.method,
            rounds=self.rounds or other.rounds,
            earlier_rounds=earlier,
            **{**inherited, **self.fields},
        )


def check_rounds(recipe: Recipe) -> None:
    """Raises ValueError where `earlier_rounds` can't do what it says: one round, or no fit logprobs to weigh by."""
    resolved = recipe.resolved_arms
    rounds = {name: arm.rounds or recipe.rounds for name, arm in resolved.items()}
    keeping = {name: arm for name, arm in resolved.items() if arm.keeps_earlier}
    alone = all(rounds[name] == 1 for name in keeping)
    for name, arm in keeping.items():
        own = (recipe.arms or {}).get(name)
        where = f"arms.{name}" if own is not None else "train"
        if rounds[name] == 1 and (alone or (own is not None and own.keeps_earlier)):
            raise ValueError(f"{where}.earlier_rounds: with one round there are none; set rounds, or leave it out")
        sample = recipe.sample
        fit = sample.temperature == 1 and sample.top_p == 1 and sample.top_k == 0
        if not fit and getattr(METHODS[arm.method].split(arm.fields)[0], "taper_old", False):
            raise ValueError(
                f"{where}.earlier_rounds: old rows are weighed by pi/mu, and logprobs are fit for it only at "
                "sample.temperature 1, top_p 1 and top_k 0; sample so, or set taper_old: false"
            )


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


class LoraSection(Section):
    """Train small matrices beside frozen weights (LoRA, Hu et al. 2021, arXiv:2106.09685), through peft."""

    r: int = Field(16, ge=1)
    """Rank of each adapter."""
    alpha: int = Field(32, ge=1)
    """An adapter's part is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the adapters' inputs. dpo, kto and step_dpo turn dropout off unless train.disable_dropout is false."""
    target_modules: str | list[str] = "all-linear"
    """all-linear (all but the LM head), a list of module names (q_proj), or a pattern for whole names."""
    modules_to_save: list[str] | None = None
    """Modules trained whole, besides."""
    use_rslora: bool = False
    """Multiply by alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv:2312.03732): large ranks learn as fast."""

    @model_validator(mode="after")
    def _readable_pattern(self) -> LoraSection:
        if isinstance(self.target_modules, str):
            try:
                re.compile(self.target_modules)
            except re.error as error:
                raise ValueError(f"target_modules: '{self.target_modules}' is no pattern: {error}") from None
        if self.target_modules == []:
            raise ValueError("target_modules: the list is empty; leave it out for all linear modules")
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
    lora: LoraSection | None = None
    """Train adapters: in the arms and policy.start, not in policy.build. null: all weights."""
    load_in_4bit: bool = False
    """Hold the frozen weights in 4 bits while training (QLoRA, Dettmers et al. 2023, arXiv:2305.14314): needs lora,
    an NVIDIA GPU and bitsandbytes."""

    def adapters(self) -> dict[str, Any]:
        """What a training's key has of it: nothing where all weights are trained."""
        return {} if self.lora is None else self.model_dump(include={"lora", "load_in_4bit"})

    def without_adapters(self) -> PolicySection:
        """The same, all weights trained."""
        return self.model_copy(update={"lora": None, "load_in_4bit": False})

    @model_validator(mode="after")
    def _one_origin(self) -> PolicySection:
        if (self.model is None) == (self.build is None):
            raise ValueError("give either policy.model (a folder or hub id) or policy.build (a small one made here)")
        if self.start is not None and self.start.method != "sft":
            raise ValueError(f"policy.start.method must be sft, not '{self.start.method}'")
        if self.load_in_4bit and self.lora is None:
            raise ValueError(
                "load_in_4bit: weights of 4 bits can't be trained: set policy.lora, too ({} for its defaults)"
            )
        return self
