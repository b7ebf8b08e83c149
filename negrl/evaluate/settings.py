"""How a benchmark is asked and scored: what the command line sets, checked before anything heavy loads."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from negrl.policy import PolicySection
from negrl.recipe import EngineSection, VerifySection
from negrl.recipe.section import Section


class EvalSettings(Section):
    """Everything that the numbers depend on, beside the model, the problems and the versions."""

    n: int = Field(4, ge=1)
    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_tokens: int = Field(2048, ge=1)
    seed: int = 0
    limit: int | None = Field(None, ge=1)
    """The first so many problems. Their samples are those of a run without a limit."""
    few_shot: int = Field(0, ge=0)
    chat_template: bool = False
    system_prompt: str | None = None
    template: str | None = None
    """In place of the benchmark's own; holds {prompt}."""
    extract: str | None = None
    """In place of the benchmark's own way to find the answer."""
    stop: list[str] | None = None
    """In place of the benchmark's own stop strings."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    revision: str | None = None
    engine: Literal["transformers", "vllm"] = "transformers"
    batch_size: int = Field(512, ge=1)
    device: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    timeout: float = Field(5.0, gt=0)
    workers: int = Field(1, ge=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    bootstrap: int = Field(2000, ge=100)
    shard_size: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _sensible(self) -> EvalSettings:
        if self.temperature == 0 and self.n > 1:
            raise ValueError(
                f"n {self.n} at temperature 0 draws the same sample {self.n} times; set temperature, or n 1"
            )
        if self.template is not None and "{prompt}" not in self.template:
            raise ValueError(f"template must contain {{prompt}}, got {self.template!r}")
        if self.system_prompt is not None and not self.chat_template:
            raise ValueError("system_prompt needs chat_template")
        return self

    def policy(self, model: str) -> PolicySection:
        return PolicySection(
            model=model,
            revision=self.revision,
            dtype=self.dtype,
            chat_template=self.chat_template,
            system_prompt=self.system_prompt,
        )

    def engine_section(self) -> EngineSection:
        return EngineSection(kind=self.engine, batch_size=self.batch_size, device=self.device, options=self.options)

    def verify(self, extract: str) -> VerifySection:
        """`extract` is the benchmark's; the settings' own comes first."""
        return VerifySection.model_validate(
            {"extract": self.extract or extract, "timeout": self.timeout, "workers": self.workers}
        )
