"""The recipe's `policy` section: which model to train, or how to make one, and how to hold its weights."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from negrl.methods.section import TrainSection
from negrl.options import Section


class BuildSection(Section):
    """Make a small model from scratch: for worlds, and to try a recipe without weights."""

    corpus: Literal["world", "solutions"] = "world"
    """`world`: the world's pre-training text. `solutions`: prompt + reference solution of the training problems."""
    documents: int = Field(20000, ge=1)
    tokenizer: Literal["char", "bpe", "word"] = "char"
    """Made from the corpus: its characters, a byte-level BPE, or its words.
    Each digit is a word, and so is each run of signs."""
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
    """An adapter's output is multiplied by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """On the adapters' inputs. dpo, kto and step_dpo turn dropout off unless train.disable_dropout is false."""
    target_modules: str | list[str] = "all-linear"
    """all-linear (all but the LM head), a list of module names (q_proj), or a pattern for whole names."""
    modules_to_save: list[str] | None = None
    """Modules whose weights are also trained, all of them."""
    use_rslora: bool = False
    """Multiply by alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv:2312.03732): large ranks learn as fast."""

    @model_validator(mode="after")
    def _readable_pattern(self) -> LoraSection:
        if isinstance(self.target_modules, str):
            try:
                re.compile(self.target_modules)
            except re.error as error:
                raise ValueError(f"target_modules: '{self.target_modules}' is not a valid pattern: {error}") from None
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
    """Train adapters, in the arms and policy.start but not in policy.build. null: train all weights."""
    load_in_4bit: bool = False
    """Hold the frozen weights in 4 bits while training (QLoRA, Dettmers et al. 2023, arXiv:2305.14314): needs lora,
    an NVIDIA GPU and bitsandbytes."""

    def adapters(self) -> dict[str, Any]:
        """Its part of a training's key: nothing where all weights are trained."""
        return {} if self.lora is None else self.model_dump(include={"lora", "load_in_4bit"})

    def without_adapters(self) -> PolicySection:
        """The same with all weights trained."""
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
