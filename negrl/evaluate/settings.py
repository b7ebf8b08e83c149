"""How a benchmark is asked and scored: the settings of the command line, checked before anything heavy loads."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
from pydantic import Field, field_validator, model_validator

from negrl.engines.base import ENGINES
from negrl.engines.section import EngineSection
from negrl.options import Section, first_error
from negrl.policy import PolicySection
from negrl.verify.section import VerifySection


class EvalSettings(Section):
    """Everything that the numbers depend on, besides the model, the problems and the versions."""

    n: int = Field(4, ge=1)
    temperature: float = Field(0.6, ge=0)
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_tokens: int = Field(2048, ge=1)
    seed: int = 0
    limit: int | None = Field(None, ge=1)
    """Only this many problems, from the start. Their samples are the same as without a limit."""
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
    engine: str = "transformers"
    batch_size: int | None = Field(None, ge=1)
    """Default: the engine's own."""
    device: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    """The engine's own options; of vllm those of vllm.LLM."""
    timeout: float = Field(5.0, gt=0)
    workers: int = Field(1, ge=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    bootstrap: int = Field(2000, ge=100)
    shard_size: int = Field(64, ge=1)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        return ENGINES.get_or_refuse(engine).name

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
        self.engine_section()
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
        """The section that a recipe would have.

        Raises:
            ValueError: the engine does not have one of the options.
        """
        has = ENGINES[self.engine].options.model_fields
        given: dict[str, Any] = {"options": self.options} if "options" in has else dict(self.options)
        if self.batch_size is not None:
            given["batch_size"] = self.batch_size
        try:
            return EngineSection.model_validate({**given, "kind": self.engine, "device": self.device})
        except pydantic.ValidationError as error:
            raise ValueError(f"engine {self.engine}: {first_error(error)}") from None

    def verify(self, extract: str) -> VerifySection:
        """`extract` is the benchmark's; that of the settings takes precedence."""
        return VerifySection.model_validate(
            {"extract": self.extract or extract, "timeout": self.timeout, "workers": self.workers, "conclusion": True}
        )
