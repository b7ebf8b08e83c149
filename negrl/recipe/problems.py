"""Where problems, or traces that exist already, come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from negrl.recipe.section import Section


class ChainProblems(Section):
    source: Literal["chain"]
    train: int = Field(256, ge=1)
    evaluate: int = Field(1000, ge=1)
    operations: int = Field(5, ge=1, le=20)
    habit_rate: float = Field(0.5, ge=0, le=1)
    """Chance that a step of the pre-training text follows the writer's habit."""
    teacher_habit_rate: float = Field(0.33, ge=0, le=1)
    """The same for the teacher, whose solutions are kept when the final answer is right."""
    seed: int = 0


class Gsm8kProblems(Section):
    source: Literal["gsm8k"]
    path: str | None = None
    """Local JSONL (plain or .gz) for training. Default: openai/gsm8k from the hub."""
    evaluate_path: str | None = None
    train: int | None = Field(None, ge=1)
    """Use the first so many. Default: all."""
    evaluate: int | None = Field(None, ge=1)
    template: str = "Question: {prompt}\nAnswer:\n"


class JsonlProblems(Section):
    source: Literal["jsonl"]
    path: str
    """JSON lines (plain or .gz)."""
    prompt: str = "prompt"
    gold: str = "gold"
    solution: str | None = None
    """Column with a reference solution, for SFT."""
    evaluate_path: str | None = None
    """Held-out problems. Default: the last `evaluate` of `path`, taken out of training."""
    train: int | None = Field(None, ge=1)
    evaluate: int | None = Field(None, ge=1)
    template: str = "{prompt}"
    license: str = "unknown"


Problems = Annotated[ChainProblems | Gsm8kProblems | JsonlProblems, Field(discriminator="source")]
PROBLEM_SECTIONS = (ChainProblems, Gsm8kProblems, JsonlProblems)


class TracesSection(Section):
    """Traces that exist already, in place of sampled ones. Column names may be dotted paths."""

    path: str
    prompt: str = "prompt"
    response: str | list[str] = "response"
    """One column, or several: each becomes a trace of the row's problem."""
    gold: str = "gold"
    label: str | list[str] | None = None
    """The file's own right/wrong column(s), compared with our verdicts in the report."""
    license: str = "unknown"
    template: str = "{prompt}"

    @model_validator(mode="after")
    def _as_many_labels(self) -> TracesSection:
        if self.label is not None and len(self.labels) != len(self.responses):
            raise ValueError(f"traces.label names {len(self.labels)} columns, traces.response {len(self.responses)}")
        return self

    @property
    def responses(self) -> list[str]:
        return [self.response] if isinstance(self.response, str) else self.response

    @property
    def labels(self) -> list[str]:
        return [] if self.label is None else [self.label] if isinstance(self.label, str) else self.label
