"""Where problems, or traces that exist already, come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from negrl.recipe.section import Section

TeacherFilter = Literal["answer", "steps", "none"]


class WorldProblems(Section):
    """Problems that are made here, with an exact step checker: `negrl.problems.base.World`."""

    source: str
    train: int = Field(256, ge=1)
    evaluate: int = Field(1000, ge=1)
    seed: int = 0

    def writer_settings(self) -> dict[str, Any]:
        """What the pre-training text depends on: not on how many problems are drawn, nor on the teacher."""
        others = {name for name in type(self).model_fields if name.startswith("teacher_")}
        return self.model_dump(exclude={"train", "evaluate", *others})


class ChainProblems(WorldProblems):
    source: Literal["chain"]
    operations: int = Field(5, ge=1, le=20)
    habits: str = "-*^"
    """The operators on which the writer and the teacher have a bad habit."""
    habit_rate: float = Field(0.5, ge=0, le=1)
    """Chance that a step of the pre-training text follows the writer's habit."""
    teacher_habit_rate: float = Field(0.33, ge=0, le=1)
    """The same for the teacher."""
    teacher_filter: TeacherFilter = "answer"
    """Which of the teacher's solutions are kept: with the right answer, with right steps only, or all."""

    @field_validator("habits")
    @classmethod
    def _operators(cls, habits: str) -> str:
        if wrong := [op for op in habits if op not in "-*^"]:
            raise ValueError(f"'{wrong[0]}' carries no habit; expected some of -*^")
        return "".join(op for op in "-*^" if op in habits)

    def writer_settings(self) -> dict[str, Any]:
        names = {"operations", "habit_rate", "seed"}
        return self.model_dump(include=names if self.habits == "-*^" else {*names, "habits"})


class StargraphProblems(WorldProblems):
    source: Literal["stargraph"]
    degree: int = Field(2, ge=1)
    """Arms of the star."""
    path: int = Field(4, ge=2)
    """Nodes of the path from the centre to the goal, both counted."""
    nodes: int = Field(15, ge=2, le=900)
    """Names to choose from: two-digit numbers from 10 (three-digit ones from 100, where there are more than 90)."""
    habit_rate: float = Field(1.0, ge=0, le=1)
    """Chance that the writer of the pre-training text takes an arm blindly, and follows it to its end."""

    @model_validator(mode="after")
    def _fits(self) -> StargraphProblems:
        needed = self.degree * (self.path - 1) + 1
        if self.nodes < needed:
            raise ValueError(
                f"nodes: {self.nodes} are too few for {self.degree} arms and a path of {self.path}: at least {needed}"
            )
        return self


Relation = Literal[
    "more", "fewer", "times", "half", "more_first", "fewer_first", "gain", "lose", "both", "most", "least"
]
Question = Literal["ask", "together", "difference", "sale"]
LedgerHabit = Literal["distractor", "more_less", "before_after", "carry", "sub_question"]


class LedgerProblems(WorldProblems):
    source: Literal["ledger"]
    steps: tuple[int, int] = (2, 4)
    """Lines of working, from ... to; 12 at most."""
    numbers: int = Field(50, ge=5, le=99_999)
    """The largest number in a story."""
    largest: int = Field(500, ge=10, le=99_999_999)
    """The largest result of a right step."""
    distractors: tuple[int, int] = (0, 2)
    """Sentences that don't matter, from ... to."""
    people: int = Field(20, ge=4, le=64)
    things: int = Field(12, ge=2, le=32)
    """Names and things to choose from; the seed says which."""
    phrasings: int = Field(3, ge=1, le=3)
    """Ways to say the same."""
    relations: list[Relation] = Field(default_factory=lambda: list(get_args(Relation)))
    """How one amount follows from another, drawn evenly: what stands twice comes twice as often."""
    rates: float = Field(0.2, ge=0, le=1)
    """Chance that the first amount is so many a day for so many days."""
    questions: list[Question] = Field(default_factory=lambda: list(get_args(Question)))
    habits: list[LedgerHabit] = Field(default_factory=lambda: list(get_args(LedgerHabit)))
    habit_rate: float = Field(0.3, ge=0, le=1)
    """Chance that a step of the pre-training text follows one of the habits that it gives room to."""
    teacher_habit_rate: float = Field(0.2, ge=0, le=1)
    """The same for the teacher."""
    teacher_filter: TeacherFilter = "answer"
    """Which of the teacher's solutions are kept: with the right answer, with right steps only, or all."""

    @model_validator(mode="after")
    def _possible(self) -> LedgerProblems:
        for name, least, most in (("steps", 1, 12), ("distractors", 0, 12)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name}: expected two numbers that don't fall, {least} to {most}, not [{low}, {high}]"
                )
        if self.people < self.steps[1] + self.distractors[1] + 1:
            needed = self.steps[1] + self.distractors[1] + 1
            raise ValueError(f"people: {self.people} are too few for such stories: at least {needed}")
        if not set(self.relations) - {"both", "most", "least", "more_first", "fewer_first"}:
            raise ValueError("relations: expected one of more, fewer, times, half, gain, lose among them")
        if not self.questions:
            raise ValueError(f"questions: expected some of {', '.join(get_args(Question))}")
        return self


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


Problems = Annotated[
    ChainProblems | LedgerProblems | StargraphProblems | Gsm8kProblems | JsonlProblems, Field(discriminator="source")
]
PROBLEM_SECTIONS = get_args(get_args(Problems)[0])


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
